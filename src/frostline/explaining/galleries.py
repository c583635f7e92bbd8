"""What a look at single predictions shows: the most confident mistakes and the least certain hits, from saved predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.data.imageset import UNKNOWN, ImageSet, Source
from frostline.data.sources import load_source
from frostline.decode import BadImage, decode_rgb
from frostline.errors import UserError, few
from frostline.feature_cache import raw
from frostline.files import write_json
from frostline.plots import NoPicturesError, sample_grid
from frostline.predictions import Predictions
from frostline.progress import say, stage
from frostline.runs import DATA, Run
from frostline.verified import verified

#: Photos are shown at most at this side, in pixels.
SHOWN = 256
#: Pictures a row of a gallery.
COLUMNS = 6


@dataclass(frozen=True)
class Picked:
    """Some rows of predictions, the most telling first.

    Attributes:
        rows: (n,) their numbers in the predictions.
        labels: (n,) true classes; ``UNKNOWN`` (-1) for one that the model does not know.
        predicted: (n,) most probable classes.
        probabilities: (n, K), columns in the order of the predictions' classes.
    """

    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    probabilities: NDArray[np.floating]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def confidence(self) -> NDArray[np.floating]:
        """(n,) the probability of the class predicted."""
        return self.probabilities[np.arange(len(self)), self.predicted]


def most_confident_mistakes(predictions: Predictions, count: int) -> Picked:
    """At most ``count`` rows whose most probable class is not the true one, the most probable first; equals in row order."""
    confidence = predictions.probabilities.max(axis=1)
    wrong = np.flatnonzero(~predictions.correct)
    return _picked(predictions, wrong[np.argsort(-confidence[wrong], kind="stable")][:count])


def least_certain_hits(predictions: Predictions, count: int) -> Picked:
    """At most ``count`` rows that are right, the least probable first; equals in row order."""
    confidence = predictions.probabilities.max(axis=1)
    right = np.flatnonzero(predictions.correct)
    return _picked(predictions, right[np.argsort(confidence[right], kind="stable")][:count])


def _picked(predictions: Predictions, chosen: NDArray[np.integer]) -> Picked:
    rows: NDArray[np.int64] = chosen.astype(np.int64)
    return Picked(rows, predictions.labels[rows], predictions.predicted[rows], predictions.probabilities[rows])


def described(picked: Picked, predictions: Predictions) -> list[dict[str, Any]]:
    """A JSON value for each row: its id, its true class (None where the model does not know it), the two most probable classes."""
    names = predictions.classes
    found = []
    for row, label, p in zip(picked.rows.tolist(), picked.labels.tolist(), picked.probabilities, strict=True):
        best = np.argsort(-p, kind="stable")[:2]
        found.append(
            {
                "row": row,
                "id": str(predictions.ids[row]),
                "true": None if label == UNKNOWN else names[label],
                "predicted": names[best[0]],
                "probability": float(p[best[0]]),
                "second": names[best[1]] if len(best) > 1 else None,
                "second_probability": float(p[best[1]]) if len(best) > 1 else None,
            }
        )
    return found


def run_data(model: Path) -> str | None:
    """The data that the run of a model was trained from, as it was named then; None where there is no run around the model."""
    for folder in (model, model.parent, model.parent.parent):
        if (folder / "run.json").is_file():
            return str(Run.open(folder).read(DATA)["source"]) or None
    return None


def find_images(source: Source, digests: Sequence[np.bytes_]) -> list[tuple[ImageSet, int]]:
    """Where in the data the images with these content digests are.

    Raises:
        UserError: some are not there: it is other data, or it has changed.
    """
    wanted = {raw(digest) for digest in digests}
    places: dict[bytes, tuple[ImageSet, int]] = {}
    for images in source.sets.values():
        for row, digest in enumerate(images.digests):
            if (content := raw(digest)) in wanted:
                places.setdefault(content, (images, row))
    if lacking := len(wanted - set(places)):
        raise UserError(
            f"{lacking:,} of the {len(wanted):,} images to show are not in {source.name}.",
            expected="the data that the predictions are of, unchanged",
            hint="--data with that data",
        )
    return [places[raw(digest)] for digest in digests]


def picture(images: ImageSet, row: int) -> NDArray[np.uint8]:
    """A row of a set to be looked at, (H, W, 3) uint8: arrays as they are, photos with at most ``SHOWN`` pixels a side."""
    if images.files is None:
        assert images.pixels is not None
        return np.asarray(images.pixels[row])
    try:
        image = decode_rgb(images.files[row], at_least=(SHOWN, SHOWN))
    except (BadImage, OSError) as error:
        raise UserError(f"{images.files[row]} cannot be read.", received=str(error), hint="run again") from error
    image.thumbnail((SHOWN, SHOWN))
    return np.asarray(image)


def make_galleries(folder: Path, data: str | Path | None, split: str, count: int, out: Path) -> dict[str, Any]:
    """Write mistakes.png, hits.png and galleries.json of a run's predictions to ``out``; returns what the JSON holds.

    Args:
        folder: a finished run.
        data: where the images are; None: where the run has it from.
        split: the predictions to look at: "test", "validation", or a stage's, such as "test-head".
        count: rows a gallery.
        out: a folder, made if needed.

    Raises:
        UserError: no run, no such predictions, predictions that its records do not bear out, or the images are not in the data.
    """
    run = Run.open(folder)
    if split not in run.splits:
        raise UserError(f"The run {run.name} has no predictions of {split}.", expected=few(run.splits), hint="--split")
    predictions = verified(run, split)
    picked = {"mistakes": most_confident_mistakes(predictions, count), "hits": least_certain_hits(predictions, count)}
    source = load_source(data or str(run.read(DATA)["source"]), training=False)
    record: dict[str, Any] = {"run": run.name, "split": split, "n": len(predictions), "wrong": int((~predictions.correct).sum())}
    record |= {name: described(each, predictions) for name, each in picked.items()}
    write_json(out / "galleries.json", record)
    try:
        with stage("galleries", len(picked)) as bar:
            for name, each in picked.items():
                title = f"{run.name} · {split} · {_TITLES[name].format(n=len(each))}"
                _draw(source, predictions, each, record[name], out / f"{name}.png", title)
                bar.advance()
    except NoPicturesError as error:  # the base install draws nothing
        say(f"{error.message} The rows are in {out / 'galleries.json'}.", "yellow")
    return record


_TITLES = {"mistakes": "the {n} most confident mistakes", "hits": "the {n} least certain hits"}


def _draw(
    source: Source, predictions: Predictions, picked: Picked, rows: Sequence[Mapping[str, Any]], path: Path, title: str
) -> None:
    if not len(picked):
        say(f"{path.name} is not drawn: there is none.")
        return
    images = [picture(*place) for place in find_images(source, list(predictions.digests[picked.rows]))]
    sample_grid(images, [caption(row) for row in rows], path, title, columns=COLUMNS)


def caption(row: Mapping[str, Any]) -> str:
    """Two lines on a row of ``described``: "dog 97.3 %" and "is cat", or of a hit "cat 40.1 %" and "dog 39.0 %"."""
    said = f"{row['predicted']} {100 * row['probability']:.1f} %"
    if row["true"] == row["predicted"]:
        return said if row["second"] is None else f"{said}\n{row['second']} {100 * row['second_probability']:.1f} %"
    return f"{said}\nis {row['true'] or 'of another class'}"
