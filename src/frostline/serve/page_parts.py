"""What the tabs of the page share: the service behind them, and its models as the page asks them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from frostline.errors import UserError
from frostline.explaining.explain import Explainer, Explanation
from frostline.serve.predictor import Predictor
from frostline.serve.refusals import Overloaded, Refused
from frostline.serve.service import Model, Row, Service

Image8 = NDArray[np.uint8]
#: Seconds between two tries of a batch to get into a full queue.
PATIENCE_S = 0.2


class Queued:
    """Stands for a model's predictor where many threads ask: everything goes through the one queue."""

    def __init__(self, model: Model) -> None:
        self._batcher, predictor = model.batcher, model.predictor
        self.card, self.classes, self.graph, self.batch = predictor.card, predictor.classes, predictor.graph, predictor.batch

    def stored(self, blocks: Iterator[Image8]) -> Iterator[Row]:
        """As ``Predictor.stored``."""
        for block in blocks:
            yield asyncio.run(self._batcher.submit(block))


@dataclass(eq=False)
class Parts:
    """What handlers need.

    Attributes:
        service: the models, their queues and the threads that read images.
        folder: where the page's files lie; nothing else is ever read.
    """

    service: Service
    folder: Path
    _explainers: dict[str, Explainer | str] = field(default_factory=dict)
    _one: threading.Lock = field(default_factory=threading.Lock)

    def model(self, name: str | None) -> Model:
        """The model of this name, the first without one; ``Refused`` where there is none."""
        return self.service.find(name or None)

    def explained(self, model: Model, stored: Image8, name: str | None) -> Explanation | str:
        """Where the model looks in an image of the stored size, or in a sentence why that cannot be said.

        One at a time: the graph that keeps its intermediate values is compiled once, when it is first asked for.
        """
        with self._one:
            if model.name not in self._explainers:
                self._explainers[model.name] = _explainer(model)
            found = self._explainers[model.name]
            if isinstance(found, str):
                return found
            try:
                return found.of_stored(stored, name)
            except UserError as error:
                return error.message

    async def probabilities(self, model: Model, images: list[bytes]) -> list[Row | Refused]:
        """Of each image, in order, or why it could not be read; a full queue is waited for."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self.service.settings.timeout_s):
                while True:
                    try:
                        with model.batcher.claim(len(images)) as claim:
                            return await self.service.rows(model, images, claim)
                    except Overloaded:
                        await asyncio.sleep(PATIENCE_S)
        raise Overloaded(model.batcher.queue_size)


def _explainer(model: Model) -> Explainer | str:
    try:
        return Explainer(cast(Predictor, Queued(model)))
    except UserError as error:
        return error.message


def name_of(payload: Mapping[str, Any]) -> str:
    """What a file was called where it came from."""
    return str(payload.get("orig_name") or "picture")
