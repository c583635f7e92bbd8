"""What a student learns from: the answers that a finished model, its teacher, gives for the training images.

Distillation by the teacher's answers alone: the temperature is that of Hinton, Vinyals and Dean 2015 (arXiv 1503.02531, section 2);
that labels are not needed beside them Beyer et al. 2022 show ("Knowledge distillation: a good teacher is patient and consistent",
arXiv 2106.05237), and that long trainings pay. A large network's answers say more of an image than its label does, so that a small
one learns more from them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.config import Settings
from frostline.data.imageset import ImageSet, Splits
from frostline.data.reading import stored_blocks
from frostline.errors import UserError, few
from frostline.feature_cache import FeatureCache
from frostline.files import scratch_array
from frostline.progress import say, stage
from frostline.serve.predictor import Predictor
from frostline.stopping import StopRule

#: Images after which the teacher's answers are kept, so that asking goes on where it was stopped.
KEPT_EVERY = 2048


@dataclass(frozen=True)
class Teacher:
    """A finished model that may teach these classes.

    Attributes:
        model: as it predicts.
        columns: (K,) where in its answers the student's classes stand.
        temperature: its answers are softened by it.
        record: for the student's card: the teacher's name, digest, scores and licences.
    """

    model: Predictor
    columns: NDArray[np.int64]
    temperature: float
    record: dict[str, Any]

    @property
    def digest(self) -> str:
        """The teacher's identity."""
        return self.model.card.digest

    def answers(self, images: ImageSet, stop: StopRule) -> NDArray[np.float32]:
        """(N, K) probabilities of each image at the temperature; asked once for every image and cached.

        Raises:
            UserError: ``stop`` holds before all were asked.
        """
        classes = len(self.columns)
        targets = scratch_array((len(images), classes), np.dtype(np.float32))
        cache = FeatureCache(self._key(), classes, "float32")
        known = np.flatnonzero(cache.has(images.digests))
        for rows in _chunks(known):
            targets[rows] = cache.read(images.digests[rows])
        with stage("ask the teacher", len(images)) as bar:
            bar.advance(len(known))
            for rows in _chunks(np.setdiff1d(np.arange(len(images)), known)):
                if stop.check():
                    raise _stopped(stop.reason, len(images))
                targets[rows] = self._asked(images, rows)
                cache.write(images.digests[rows], targets[rows])
                bar.advance(len(rows))
        for rows in _chunks(np.arange(len(images))):
            targets[rows] = softened(targets[rows][:, self.columns], self.temperature)
        return targets

    def _key(self) -> dict[str, Any]:
        """Everything that an answer depends on beside the image; ``network`` and ``view`` are what people see in lists."""
        return {"network": f"teacher {self.model.card.name}", "view": "answers", "model": self.digest, **self.model.how}

    def _asked(self, images: ImageSet, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(n, K) probabilities in the teacher's own order of classes, in which they are kept for students of any order."""
        size = self.model.batch
        blocks = [rows[start : start + size] for start in range(0, len(rows), size)]
        return np.concatenate(list(self.model.stored(stored_blocks(images, blocks, self.model.card.preprocess))))


def open_teacher(settings: Settings, splits: Splits) -> Teacher | None:
    """The settings' teacher; None where they name none.

    Raises:
        UserError: no such model, one of other classes, or one that has seen test images: its student would know them too.
    """
    if not settings.teacher:
        return None
    _check(settings)
    model = Predictor(Path(settings.teacher))
    card = model.card
    if set(card.classes) != set(splits.classes):
        missing, strange = set(splits.classes) - set(card.classes), set(card.classes) - set(splits.classes)
        raise UserError(
            f"The teacher {settings.teacher} tells other classes apart than these data have.",
            expected=few(splits.classes),
            received=f"a model without {few(sorted(missing))}" if missing else f"a model that also knows {few(sorted(strange))}",
        )
    seen = model.seen() if card.knows_seen else set()
    if not card.knows_seen:
        say(f"Which images the teacher {card.name} was trained on is not known: it may have seen those of test.", "yellow")
    if splits.test is not None and (known := int(splits.test.among(seen).sum())):
        raise UserError(
            f"The teacher {settings.teacher} has seen {known:,} of the {len(splits.test):,} test images.",
            expected="a model trained without them, as one of the same data and seed is",
            hint="scores of its student on them would flatter it",
        )
    judged = int(splits.validation.among(seen).sum())
    if judged:
        say(f"The teacher has seen {judged:,} of the {len(splits.validation):,} validation images; the student is not shown them.")
    say(f"Taught by {card.name} ({card.digest}): its answers take the place of the labels, and label_smoothing has no effect.")
    record = {"name": card.name, "digest": card.digest, "precision": model.precision, "temperature": settings.teacher_temperature}
    record |= {"licences": dict(card.licences), "seen_of_validation": judged if card.knows_seen else None}
    columns = np.array([card.classes.index(name) for name in splits.classes], np.int64)
    return Teacher(model, columns, settings.teacher_temperature, record)


def seen_by(teacher: Teacher | None) -> set[bytes]:
    """Digests of the images that a teacher is known to have seen; what it knows of them it hands on to its student."""
    return teacher.model.seen() if teacher and teacher.model.card.knows_seen else set()


def softened(probabilities: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """(N, K) probabilities p to those in proportion to p^(1/T): T = 1 leaves them, a high T makes them alike."""
    log_p = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny)) / np.float32(temperature)
    raised = np.exp(log_p - log_p.max(axis=1, keepdims=True))
    soft: NDArray[np.float32] = raised / raised.sum(axis=1, keepdims=True)
    return soft


def _check(settings: Settings) -> None:
    """What weighs rows by their labels has none to weigh by."""
    unfit = [
        f"{name}={value}" for name, value in (("loss", settings.loss), ("balance", settings.balance)) if value in ("focal", "loss")
    ]
    if unfit:
        raise UserError(
            "A student learns from its teacher's answers, not from labels.",
            received=", ".join(unfit),
            hint="leave it out, or teach without it: --set balance=sampling shows rare classes more often",
        )


def _stopped(reason: str, images: int) -> UserError:
    return UserError(
        f"Ended while the teacher was asked: {reason}.",
        expected=f"its answers to all {images:,} training images",
        hint="the same command again: the answers so far are kept, and it goes on from there",
    )


def _chunks(rows: NDArray[np.integer[Any]]) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(rows), KEPT_EVERY):
        yield np.asarray(rows[start : start + KEPT_EVERY], np.int64)
