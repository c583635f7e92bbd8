"""Galleries of a run: the images of its most confident mistakes and least certain hits, found in the data it was judged on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.data.imageset import ImageSet, Source
from frostline.data.sources import load_source
from frostline.decode import BadImage, decode_rgb
from frostline.errors import UserError, few
from frostline.feature_cache import raw
from frostline.files import digest_file, write_json
from frostline.picked import Picked, caption, described, least_certain_hits, most_confident_mistakes
from frostline.plots import NoPicturesError, sample_grid
from frostline.predictions import Predictions
from frostline.progress import say, stage
from frostline.runs import DATA, PREDICTIONS, Run
from frostline.verified import verified

#: Photos are shown at most at this side, in pixels.
SHOWN = 256
#: Pictures a row of a gallery.
COLUMNS = 6


def run_data(model: Path) -> str | None:
    """The data that the run of a model was trained from, as it was named then; None where there is no run around the model."""
    for folder in (model, model.parent, model.parent.parent):
        if (folder / "run.json").is_file():
            return str(Run.open(folder).read(DATA).get("source") or "") or None
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

    It names the run and has the digest of the predictions and of each picture that was drawn: ``frostline report`` looks at them.

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
    named = data or run_data(run.folder)
    if named is None:
        raise UserError(f"The run {run.name} does not say which data it was trained from.", hint="--data DATA, with these data")
    source = load_source(named, training=False)
    record: dict[str, Any] = {"run": run.name, "split": split, "n": len(predictions), "wrong": int((~predictions.correct).sum())}
    record |= {"predictions": run.manifest["files"][f"{PREDICTIONS}/{split}.npz"], "pictures": {}}
    record |= {name: described(each, predictions) for name, each in picked.items()}
    try:
        with stage("galleries", len(picked)) as bar:
            for name, each in picked.items():
                path, title = out / f"{name}.png", f"{run.name} · {split} · {_TITLES[name].format(n=len(each))}"
                if _draw(source, predictions, each, record[name], path, title):
                    record["pictures"][path.name] = digest_file(path)
                bar.advance()
    except NoPicturesError as error:  # the base install draws nothing
        say(f"{error.message} The rows are in {out / 'galleries.json'}.", "yellow")
    write_json(out / "galleries.json", record)  # last: it says which pictures are its own
    return record


_TITLES = {"mistakes": "the {n} most confident mistakes", "hits": "the {n} least certain hits"}


def _draw(
    source: Source, predictions: Predictions, picked: Picked, rows: Sequence[Mapping[str, Any]], path: Path, title: str
) -> bool:
    """Whether there was anything to draw."""
    if not len(picked):
        say(f"{path.name} is not drawn: there is none.")
        return False
    images = [picture(*place) for place in find_images(source, list(predictions.digests[picked.rows]))]
    sample_grid(images, [caption(row) for row in rows], path, title, columns=COLUMNS)
    return True
