"""How a saved model does on images that are not like those it was trained on: corrupted, darker, turned, partly covered.

Images are changed at the size at which the model takes them, one corruption at a time; nothing is chosen by what comes out. Legend:
N images, B of a block.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.data.imageset import ImageSet
from frostline.data.reading import stored_pixels
from frostline.errors import UserError
from frostline.files import write_json
from frostline.judge import rows_to_judge
from frostline.metrics import wilson_interval
from frostline.progress import say, stage
from frostline.serve.predictor import Predictor
from frostline.shifts.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from frostline.shifts.warping import sampled

Image8 = NDArray[np.uint8]
#: (B, H, W, 3) uint8 and (B,) digests to as many images.
Change = Callable[[Image8, NDArray[Any]], Image8]

#: Images that are changed at once, and bytes that they have at most as float32; a corruption holds several times as much.
_TOGETHER, _TOGETHER_BYTES = 256, 64 * 2**20

#: Stated by others for CIFAR-10-C, whose frost and fractals differ from ours: clean accuracy, then the mean over all corruptions.
#: The first and the last are RobustBench's (Croce et al. 2021).
STATED: dict[str, tuple[float | None, float]] = {
    "WRN-28-10 as usually trained (RobustBench, arXiv 2010.09670)": (0.948, 0.735),
    "AugMix (Hendrycks et al. 2020, arXiv 1912.02781)": (None, 0.891),
    "the best known to us (CARD, Diffenderfer et al. 2021, arXiv 2106.09129)": (None, 0.928),
}


def judge_shift(
    model: str | Path, data: str | Path, split: str = "test", *, most: int = 0, precision: str = "auto", **options: bool
) -> dict[str, Any]:
    """Judge a model on corrupted images, and along curves of brightness, rotation and occlusion.

    Args:
        model, data, split, precision, options: as in ``judge.evaluate``.
        most: so many images, from all over the split, instead of all; said and recorded.

    Returns:
        n and clean (accuracy) with its interval; corruptions: accuracies at the five severities by name; by_corruption and
        by_severity: their means; mean_corrupted (accuracy over all of them); curves: for each a list of (how much, accuracy);
        model: its name; what ``judge.evaluate`` adds; stated: what others state, where the data is CIFAR-10; seconds of all,
        and seconds_to_corruptions: until all of those were judged.
    """
    started = time.monotonic()
    predictor = Predictor(model, precision)
    images, about = rows_to_judge(predictor, data, split, **options)
    if 0 < most < len(images):
        images = images.take(np.linspace(0, len(images) - 1, most).astype(int))
        say(f"{most:,} images from all over the split are judged.")
    judged = _Judged(predictor, images)
    hits = judged.hits(lambda block, digests: block)
    with stage("corruptions", len(CORRUPTIONS) * len(SEVERITIES)) as bar:
        found = {}
        for name in CORRUPTIONS:
            found[name] = [judged.accuracy(_corrupting(name, severity), bar.advance) for severity in SEVERITIES]
            bar.note(name)
    table, corrupted = np.array(list(found.values())), time.monotonic()
    with stage("curves", sum(len(amounts) for _, amounts in CURVES.values())) as bar:
        curves = {
            name: [(amount, judged.accuracy(_by(change, amount), bar.advance)) for amount in amounts]
            for name, (change, amounts) in CURVES.items()
        }
    return {
        "n": len(images),
        "clean": hits / len(images),
        "interval": list(wilson_interval(hits, len(images))),
        "corruptions": found,
        "by_corruption": dict(zip(found, table.mean(axis=1).tolist(), strict=True)),
        "by_severity": table.mean(axis=0).tolist(),
        "mean_corrupted": float(table.mean()),
        "curves": curves,
        "model": predictor.card.name,
        **about,
        "stated": {name: list(both) for name, both in STATED.items()} if str(data).split(":")[0] == "cifar10" else {},
        "seconds": round(time.monotonic() - started, 1),
        "seconds_to_corruptions": round(corrupted - started, 1),
    }


def keep(record: dict[str, Any], folder: Path) -> None:
    """Write shift.json, corruptions.png and curves.png to ``folder``; the pictures' titles have the model's name and digest."""
    from frostline import plots_shift

    name = f"{record['model']} {record['model_digest'][:8]}"
    write_json(folder / "shift.json", record)
    try:
        plots_shift.heat_map(record, folder / "corruptions.png", f"{name}: accuracy on corrupted images")
        plots_shift.curves(record, folder / "curves.png", f"{name}: accuracy as images change")
    except UserError as error:  # the base install draws nothing
        say(f"{error.message} The figures are in {folder / 'shift.json'}.", "yellow")


class _Judged:
    """The rows at the size at which the model takes them, to be predicted again and again."""

    def __init__(self, predictor: Predictor, images: ImageSet) -> None:
        self.predictor, self.labels, self.digests = predictor, images.labels, images.digests
        self.pixels = stored_pixels(images, predictor.card.preprocess)

    def hits(self, change: Change) -> int:
        """How many changed images are predicted rightly."""
        predicted = [rows.argmax(axis=1) for rows in self.predictor.stored(self._blocks(change))]
        return int((np.concatenate(predicted) == self.labels).sum())

    def accuracy(self, change: Change, done: Callable[[float], None]) -> float:
        """The share of changed images that are predicted rightly; ``done`` is told of it."""
        share = self.hits(change) / len(self.labels)
        done(1)
        return share

    def _blocks(self, change: Change) -> Iterator[Image8]:
        together = max(1, min(_TOGETHER, _TOGETHER_BYTES // (4 * self.pixels[0].size)))
        for start in range(0, len(self.pixels), together):
            rows = slice(start, start + together)
            changed = change(np.asarray(self.pixels[rows]), self.digests[rows])
            for first in range(0, len(changed), self.predictor.batch):
                yield changed[first : first + self.predictor.batch]


def _corrupting(name: str, severity: int) -> Change:
    return lambda images, digests: corrupt(images, digests, name, severity)


def _by(change: Callable[[Image8, float], Image8], amount: float) -> Change:
    return lambda images, digests: change(images, amount)


def brighter(images: Image8, factor: float) -> Image8:
    """Every value times ``factor``."""
    return np.rint(np.clip(images.astype(np.float32) * factor, 0, 255)).astype(np.uint8)


def turned(images: Image8, degrees: float) -> Image8:
    """Turned to the left around the middle, the border reflected."""
    H, W = images.shape[1:3]
    y, x = np.mgrid[0:H, 0:W] - np.array([(H - 1) / 2, (W - 1) / 2])[:, None, None]
    sine, cosine = np.sin(np.deg2rad(degrees)), np.cos(np.deg2rad(degrees))
    places = np.stack([cosine * y + sine * x + (H - 1) / 2, cosine * x - sine * y + (W - 1) / 2], axis=-1)
    return np.stack([np.rint(sampled(image.astype(np.float32), places)) for image in images]).astype(np.uint8)


def covered(images: Image8, share: float) -> Image8:
    """A grey rectangle over the middle, of this share of each side."""
    H, W = images.shape[1:3]
    h, w = round(H * share), round(W * share)
    changed = images.copy()
    changed[:, (H - h) // 2 : (H - h) // 2 + h, (W - w) // 2 : (W - w) // 2 + w] = 128
    return changed


#: Name → the change, and how much of it: a factor on brightness, degrees, the share of each side that is covered.
CURVES: dict[str, tuple[Callable[[Image8, float], Image8], tuple[float, ...]]] = {
    "brightness": (brighter, (0.2, 0.4, 0.6, 0.8, 1.0, 1.3, 1.6, 2.0)),
    "rotation": (turned, (-45.0, -30.0, -15.0, 0.0, 15.0, 30.0, 45.0)),
    "occlusion": (covered, (0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75)),
}
