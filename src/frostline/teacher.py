"""What a student learns from: the answers that a finished model, its teacher, gives for the training images.

Distillation with a temperature (Hinton, Vinyals and Dean 2015, arXiv 1503.02531, section 2), by the teacher's answers alone. A
large network's answers say more of an image than its label does, so that a small one learns more from them. They are of the image
as it is, made once and cached, whatever the student sees of it: what Beyer et al. 2022 (arXiv 2106.05237) call a fixed teacher.
Asking anew for every change of an image is better still, they find, and would cost the teacher's work in every epoch. Between the
two stands asking of some mixtures of each image as well (``data.mixtures``), once and for all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline import inside
from frostline.config import Settings
from frostline.data.imageset import ImageSet, Splits
from frostline.data.reading import stored_blocks
from frostline.decode import DECODER_VERSION
from frostline.errors import UserError, few
from frostline.feature_cache import FeatureCache
from frostline.files import scratch_array
from frostline.model_card import ModelCard, read_card, seen_digests
from frostline.progress import say, stage
from frostline.serve.predictor import Predictor, model_folder
from frostline.stopping import StopRule

#: Images after which the teacher's answers are kept and it is looked whether to stop.
KEPT_EVERY = 512


@dataclass(frozen=True)
class Teacher:
    """A finished model that may teach these classes.

    Attributes:
        folder: its model directory.
        card: what it says of itself.
        seen: digests of the images that it is known to have seen; what it knows of them it hands on to its student.
        columns: (K,) where in its answers the student's classes stand.
        temperature: by which its answers are softened.
        record: for the student's card: the teacher's name, digest and licences, and how often it agrees with the labels once it was
            asked.
    """

    folder: Path
    card: ModelCard
    seen: set[bytes]
    columns: NDArray[np.int64]
    temperature: float
    record: dict[str, Any]

    @property
    def digest(self) -> str:
        """The teacher's identity."""
        return self.card.digest

    def answers(self, images: ImageSet, stop: StopRule, mixtures: ImageSet | None = None) -> NDArray[np.float32] | None:
        """(N, K) probabilities of each image at the temperature, asked for once and cached; None where ``stop`` ended the asking.

        Args:
            mixtures: M images more, of which the teacher is asked as well; the answer is then (N + M, K).

        Raises:
            UserError: the teacher was changed meanwhile, or gives an answer that is no number.
        """
        model = Predictor(self.folder)
        if model.card.digest != self.digest:
            raise UserError("The teacher was changed meanwhile.", expected=self.digest, received=model.card.digest)
        self.record["precision"] = model.precision
        asked = [images] if mixtures is None else [images, mixtures]
        targets = scratch_array((sum(map(len, asked)), len(self.columns)), np.dtype(np.float32))
        if not _ask(model, asked, targets, stop):
            return None
        self._turn(targets, images.labels)
        if mixtures is not None:
            self.record["mixtures"] = len(mixtures)
        return targets

    def _turn(self, targets: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
        """Bring answers, in place, into the student's order of classes and to the temperature. The first have labels."""
        right = 0
        for rows in _chunks(np.arange(len(targets))):
            own = targets[rows][:, self.columns]
            said = own.argmax(axis=1)[: max(0, len(labels) - int(rows[0]))]
            right += int((said == labels[rows[: len(said)]]).sum())
            targets[rows] = softened(own, self.temperature)
        self.record["agrees_with_labels"] = right / len(labels)
        say(f"The teacher agrees with {right / len(labels):.2%} of the training images' labels.")

    def unfinished(self, stop: StopRule) -> UserError:
        """What is said where asking was ended and there is nothing else to leave a model of."""
        return UserError(
            f"Ended while the teacher was asked: {stop.reason}.",
            expected="its answers to all training images",
            hint="go on with --resume RUN, or begin anew: the answers so far are kept",
        )


def find_teacher(settings: Settings, splits: Splits) -> Teacher | None:
    """The settings' teacher; None where they name none. Nothing is computed yet.

    Raises:
        UserError: no such model, one of other classes, one that has seen test images (its student would know them too), or a
            training that it cannot teach.
    """
    _check_mixtures(settings)
    if not settings.teacher:
        return None
    _check(settings)
    folder = model_folder(Path(settings.teacher))
    card = read_card(folder)
    if set(card.classes) != set(splits.classes):
        missing, strange = set(splits.classes) - set(card.classes), set(card.classes) - set(splits.classes)
        raise UserError(
            f"The teacher {settings.teacher} tells other classes apart than these data have.",
            expected=few(splits.classes),
            received=f"a model without {few(sorted(missing))}" if missing else f"a model that also knows {few(sorted(strange))}",
        )
    seen = seen_digests(folder)
    if splits.test is not None and (known := int(splits.test.among(seen).sum())):
        raise UserError(
            f"The teacher {settings.teacher} has seen {known:,} of the {len(splits.test):,} test images.",
            expected="one that has not: scores of its student on them would be too good",
            hint="where no test split comes with the data, every seed cuts its own: train with the teacher's, and without --seeds",
        )
    columns = np.array([card.classes.index(name) for name in splits.classes], np.int64)
    record = {"name": card.name, "digest": card.digest, "temperature": settings.teacher_temperature}
    record |= {"licences": dict(card.licences), "knows_seen": card.knows_seen}
    return Teacher(folder, card, seen, columns, settings.teacher_temperature, record)


def open_teacher(settings: Settings, splits: Splits) -> Teacher | None:
    """As ``find_teacher``; and what there is to say of the teacher is said."""
    teacher = find_teacher(settings, splits)
    if teacher is None:
        return None
    if not teacher.card.knows_seen:
        say(f"Which images the teacher {teacher.card.name} has seen is not known: it may have seen those of test.", "yellow")
    if judged := int(splits.validation.among(teacher.seen).sum()):
        if inside.is_it(teacher.card):
            raise UserError(
                f"The classifier inside cannot teach here: it has seen {judged:,} of {len(splits.validation):,} validation images.",
                expected="a teacher that was trained with the same validation images, or on others altogether",
                received=settings.teacher,
                hint="--recipe densenet169-finetune makes one",
            )
        teacher.record["seen_of_validation"] = judged
        say(
            f"The teacher has seen {judged:,} of the {len(splits.validation):,} validation images. The student is not trained on "
            "them, but what it learns from its teacher may flatter it there."
        )
    what = "above the frost line its answers" if settings.kind == "frozen" else "its answers"
    say(
        f"Taught by {teacher.card.name} ({teacher.digest}), on the processor: {what} take the place of labels, and label_smoothing "
        "has no effect."
    )
    return teacher


def digest_of(settings: Settings) -> str:
    """The identity of the settings' teacher as it is now; empty where they name none."""
    return read_card(model_folder(Path(settings.teacher))).digest if settings.teacher else ""


def softened(probabilities: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """(N, K) probabilities p to those in proportion to p^(1/T): T = 1 leaves them, a high T makes them alike."""
    log_p = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny)) / np.float32(temperature)
    raised = np.exp(log_p - log_p.max(axis=1, keepdims=True))
    soft: NDArray[np.float32] = raised / raised.sum(axis=1, keepdims=True)
    return soft


def _check(settings: Settings) -> None:
    if settings.kind == "frozen" and settings.train_from == "head":
        raise UserError(
            "A teacher teaches what the loop trains, above a frost line or from scratch; a head on frozen features has labels.",
            received=f"teacher={settings.teacher} with train_from=head",
            hint="--recipe mobilenetv2-finetune, --train-from and a block, or a recipe from scratch such as fast-94",
        )
    # what weighs rows by their labels has none to weigh by
    unfit = ["loss=focal"] if settings.loss == "focal" else []
    unfit += ["balance=loss"] if settings.balance == "loss" else []
    if unfit:
        raise UserError(
            "A student learns from its teacher's answers, not from labels.",
            received=", ".join(unfit),
            hint="leave it out, or teach without it: --set balance=sampling shows rare classes more often",
        )


def _check_mixtures(settings: Settings) -> None:
    """Mixtures of images have no label: only a teacher tells what they show. And only a loop that sees pixels can mix them."""
    if not settings.teacher_mixtures:
        return
    wrong = [] if settings.teacher else ["no teacher"]
    wrong += [] if settings.kind == "scratch" else ["a frozen backbone, whose activations are not mixed"]
    if wrong:
        raise UserError(
            "Mixtures of images cannot be learned from here.",
            expected="a network trained from scratch, and --teacher",
            received=f"teacher_mixtures={settings.teacher_mixtures} with {' and '.join(wrong)}",
            hint="--set teacher_mixtures=0, or --recipe fast-94 --teacher RUN",
        )


def _key(model: Predictor) -> dict[str, Any]:
    """Everything that an answer depends on beside the image; ``network`` and ``view`` are what people see in lists."""
    shown = {"network": f"teacher {model.card.name}", "view": "answers"}
    return {**shown, "model": model.card.digest, "decoder": DECODER_VERSION, **model.how}


def _ask(model: Predictor, asked: Sequence[ImageSet], targets: NDArray[np.float32], stop: StopRule) -> bool:
    """Fill (N, K) targets with answers to the images of all sets, one set after the other; whether ``stop`` let it end."""
    cache = FeatureCache(_key(model), targets.shape[1], "float32")
    known = [cache.has(images.digests) for images in asked]
    begins = np.cumsum([0, *map(len, asked)])
    left = int(sum((~there).sum() for there in known))
    with stage("ask the teacher", len(targets)) as bar:
        bar.advance(len(targets) - left)
        for images, there, begin in zip(asked, known, begins, strict=False):
            for rows in _chunks(np.flatnonzero(there)):
                targets[begin + rows] = cache.read(images.digests[rows])
            for rows in _chunks(np.flatnonzero(~there)):
                targets[begin + rows] = found = _asked(model, images, rows)
                cache.write(images.digests[rows], found)
                bar.advance(len(rows))
                left -= len(rows)
                if left and stop.check():
                    return False
    return True


def _asked(model: Predictor, images: ImageSet, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """(n, K) probabilities in the teacher's own order of classes, in which they are kept for students of any order."""
    blocks = [rows[start : start + model.batch] for start in range(0, len(rows), model.batch)]
    found = np.concatenate(list(model.stored(stored_blocks(images, blocks, model.card.preprocess))))
    if not (fine := np.isfinite(found).all(axis=1)).all():
        raise UserError(
            "The teacher's answer is no number.",
            expected="probabilities",
            received=f"{found[~fine][0][:5]} for {images.ids[rows[~fine][0]]}",
        )
    return found


def _chunks(rows: NDArray[np.integer[Any]]) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(rows), KEPT_EVERY):
        yield np.asarray(rows[start : start + KEPT_EVERY], np.int64)
