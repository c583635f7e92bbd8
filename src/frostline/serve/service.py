"""Models that answer requests: reading, queue, predictor and answers joined, for every route and the page alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from frostline.conformal import Promise
from frostline.errors import UserError, nearest
from frostline.serve.answers import NO_ANSWER, Answer, answer, is_answer
from frostline.serve.batching import Claim, MicroBatcher
from frostline.serve.metrics import Metrics
from frostline.serve.predictor import Predictor
from frostline.serve.reading import Readers, Sent, read_one
from frostline.serve.refusals import Refused
from frostline.serve.settings import ServeSettings

Row = NDArray[np.float32]


@dataclass(frozen=True)
class Wish:
    """What a request asks to be told.

    Attributes:
        top: so many classes.
        sure_from: the probability from which on an answer is sure; None: as the model says.
        every: all classes too.
        promise: what its label set shall keep; None: without one.
    """

    top: int
    sure_from: float | None = None
    every: bool = False
    promise: Promise | None = None


@dataclass(frozen=True)
class Model:
    """A predictor under its name, with its queue."""

    name: str
    predictor: Predictor
    batcher: MicroBatcher


class Service:
    """All models of a service and what they share.

    Args:
        predictors: by name; the first is the default.
        settings: see ``ServeSettings``.
        metrics: what counts.
    """

    def __init__(self, predictors: Mapping[str, Predictor], settings: ServeSettings, metrics: Metrics) -> None:
        if not predictors:
            raise ValueError("a service needs a model")
        self.settings, self.metrics = settings, metrics
        self.readers = Readers(settings.max_pixels)
        wait_s = settings.wait_ms / 1000
        self.models = {
            name: Model(name, predictor, MicroBatcher(predictor, settings.queue_size, wait_s, metrics.computed, metrics.claimed))
            for name, predictor in predictors.items()
        }
        metrics.watch_queue(lambda: sum(model.batcher.claimed for model in self.models.values()))

    @property
    def default(self) -> Model:
        return next(iter(self.models.values()))

    def find(self, name: str | None) -> Model:
        """The model of this name, the first without one.

        Raises:
            Refused: 404, there is none.
        """
        if name is None:
            return self.default
        if name not in self.models:
            known = list(self.models)
            raise Refused(404, "There is no such model here.", f"one of {', '.join(known)}", name[:100], nearest(name[:100], known))
        return self.models[name]

    async def rows(self, model: Model, images: Sequence[Sent], claim: Claim) -> list[Row | Refused]:
        """Probabilities (K,) of each image, or why it could not be read; ``claim`` holds places for as many."""
        if len(images) == 1:  # nearly every request
            return [await self._row(model, images[0])]
        read = await self.readers.read(images, model.predictor.card.preprocess)
        good = [image for image in read if not isinstance(image, Refused)]
        self.metrics.images(read=len(good), refused=len(read) - len(good))
        probabilities = iter(await model.batcher.submit(np.stack(good), claim) if good else ())
        return [image if isinstance(image, Refused) else _numbers(next(probabilities)) for image in read]

    async def _row(self, model: Model, image: Sent) -> Row | Refused:
        reading = partial(read_one, image, model.predictor.card.preprocess, self.settings.max_pixels)
        found = await model.batcher.read_and_submit(self.readers.pool, reading)
        refused = isinstance(found, Refused)
        self.metrics.images(read=not refused, refused=refused)
        return found if isinstance(found, Refused) else _numbers(found[0])

    async def answers(self, model: Model, images: Sequence[Sent], names: Sequence[str], wish: Wish, claim: Claim) -> list[Answer]:
        """An answer for each image. Among several, one that cannot be used is an answer with its reason.

        Raises:
            Refused: the only image cannot be used.
        """
        rows = await self.rows(model, images, claim)
        if len(rows) == 1 and isinstance(rows[0], Refused):
            raise rows[0]
        return [self.say(model, row, name, wish) for row, name in zip(rows, names, strict=True)]

    def say(self, model: Model, row: Row | Refused, name: str, wish: Wish) -> Answer:
        """The answer for an image of these probabilities, (K,)."""
        if isinstance(row, Refused):
            return Answer(model=model.name, name=name, error=row.told())
        sure_from = self.sure_from(model) if wish.sure_from is None else wish.sure_from
        return answer(
            row,
            model.predictor.classes,
            wish.top,
            sure_from,
            model=model.name,
            name=name,
            every=wish.every,
            promise=wish.promise,
        )

    def sure_from(self, model: Model) -> float | None:
        """The threshold where a request names none: the settings', else the model's own."""
        return model.predictor.card.sure_from if self.settings.sure_from is None else self.settings.sure_from

    def promise(self, model: Model, coverage: float | None) -> Promise | None:
        """What sets of this coverage promise; None without one.

        Raises:
            Refused: 422, the model's card keeps no threshold for it.
        """
        try:
            return None if coverage is None else model.predictor.promise(coverage)
        except UserError as error:
            raise Refused(422, error.message, error.expected, error.received, error.hint) from error

    def open(self) -> None:
        """Work again after ``close``."""
        self.readers.open()
        for model in self.models.values():
            model.batcher.open()

    def close(self) -> None:
        """Compute what is queued, then end all threads."""
        for model in self.models.values():
            model.batcher.close()
        self.readers.close()


def _numbers(row: Row) -> Row | Refused:
    """The row, or the refusal of its image where it is none."""
    if is_answer(row):
        return row
    return Refused(422, f"{NO_ANSWER.capitalize()}.", "probabilities", "numbers that are not finite")
