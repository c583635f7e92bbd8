"""Why a saved model says what it says of an image: where it looks, and the training images it finds most like it. No torch."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.data.rows import shown
from frostline.decode import BadImage
from frostline.errors import UserError, nearest
from frostline.explaining.galleries import run_data
from frostline.explaining.gradcam import GRAD_CAM, OCCLUSION, GradCam, Heat, occlusion, overlay
from frostline.explaining.neighbours import Neighbour, Neighbours
from frostline.files import write_json
from frostline.plots import NoPicturesError
from frostline.predicting.listing import image_files
from frostline.progress import say, stage
from frostline.records import json_record
from frostline.serve.predictor import ImageLike, Predictor
from frostline.stored import read_stored

Image8 = NDArray[np.uint8]
METHODS = (GRAD_CAM, OCCLUSION)
#: Small images are enlarged for the overlay, pixel by pixel, to at least this many pixels a side.
SHOWN = 192
_SAID = {GRAD_CAM: "Grad-CAM", OCCLUSION: "occlusion"}


@dataclass(frozen=True)
class Explanation:
    """What a model says of an image, and why.

    Attributes:
        image: as the model sees it, (H, W, 3) uint8, enlarged where it is small.
        heat: which places speak for ``explained``.
        top: (class, calibrated probability), best first.
        explained: the class whose heat this is, and its probability.
        neighbours: training images most like it, nearest first; empty where none were asked for.
    """

    image: Image8
    heat: Heat
    top: tuple[tuple[str, float], ...]
    explained: tuple[str, float]
    neighbours: tuple[Neighbour, ...] = ()

    @property
    def overlay(self) -> Image8:
        """The image with its heat over it, (H, W, 3) uint8."""
        return overlay(self.image, self.heat)

    def record(self) -> dict[str, Any]:
        """JSON values: everything but the pictures."""
        down, right = self.heat.peak
        return {
            "top": [{"class": name, "probability": p} for name, p in self.top],
            "explained": {"class": self.explained[0], "probability": self.explained[1]},
            "method": self.heat.method,
            "heat": np.round(self.heat.shares, 4).tolist() if self.heat.method != OCCLUSION else None,
            "peak": {"down": down, "right": right} if self.heat.values.any() else None,
            "neighbours": [{"id": each.id, "class": each.label, "distance": each.distance} for each in self.neighbours],
        }


class Explainer:
    """Explains images with a saved model.

    Args:
        predictor: the model.
        method: "grad-cam", or "occlusion" for networks that have no last map to look at (slower: about 80 predictions an image).
        neighbours: where near training images are looked for; None for none.

    Raises:
        UserError: no such method, or there is no Grad-CAM of this model; the message says why.
    """

    def __init__(self, predictor: Predictor, method: str = GRAD_CAM, neighbours: Neighbours | None = None) -> None:
        if method not in METHODS:
            raise UserError("There is no such method.", expected=" or ".join(METHODS), received=method)
        self.predictor, self.method, self.neighbours = predictor, method, neighbours
        if method == GRAD_CAM and predictor.graph is None:
            raise UserError("This model has no compiled graph, so there is no Grad-CAM of it.", hint="--method occlusion")
        self._grad_cam = GradCam(predictor.graph) if method == GRAD_CAM and predictor.graph is not None else None

    def __call__(self, image: ImageLike, name: str | None = None, top: int = 3, near: int = 5) -> Explanation:
        """Explain one image.

        Args:
            image: as ``Predictor.predict`` takes it.
            name: the class to explain; None: the most probable one.
            top: classes in ``top``.
            near: training images in ``neighbours``.

        Raises:
            UserError: the model has no such class, or see ``GradCam``.
            BadImage: the image cannot be read.
        """
        return self.of_stored(read_stored(image, self.predictor.card.preprocess), name, top, near)

    def of_stored(self, stored: Image8, name: str | None = None, top: int = 3, near: int = 5) -> Explanation:
        """The same of an image (H, W, 3) uint8 that has the stored size already."""
        classes = self.predictor.classes
        p = next(self.predictor.stored([stored[None]]))[0]
        number = int(p.argmax()) if name is None else class_number(classes, name)
        best = np.argsort(-p, kind="stable")[:top]
        return Explanation(
            _enlarged(stored),
            self._heat(stored, number),
            tuple((classes[k], float(p[k])) for k in best),
            (classes[number], float(p[number])),
            tuple(self.neighbours.nearest(stored, near)) if self.neighbours is not None else (),
        )

    def _heat(self, stored: Image8, number: int) -> Heat:
        if self._grad_cam is not None:
            return self._grad_cam(stored, number)
        grey = [round(255 * mean) for mean in self.predictor.card.preprocess.mean]
        return occlusion(lambda images: np.concatenate(list(self.predictor.stored(self._blocks(images)))), stored, number, grey)

    def _blocks(self, images: Image8) -> Iterator[Image8]:
        for start in range(0, len(images), self.predictor.batch):
            yield images[start : start + self.predictor.batch]


def class_number(classes: Sequence[str], name: str) -> int:
    """Where a class stands in the order of the probabilities; one that is not there is a ``UserError``."""
    if name not in classes:
        raise UserError(f"The model has no class '{name}'.", received=name, hint=nearest(name, list(classes)))
    return classes.index(name)


def _enlarged(stored: Image8) -> Image8:
    times = -(-SHOWN // min(stored.shape[:2]))
    return stored.repeat(times, axis=0).repeat(times, axis=1)


def near_training_images(predictor: Predictor, model: Path, data: str | None) -> Neighbours | None:
    """Where neighbours are looked for: in ``data``, else in what the model's run was trained from, else nowhere, which is said."""
    if data is not None:
        return Neighbours(predictor, data)
    try:
        if (found := run_data(model)) is not None:
            return Neighbours(predictor, found)
        reason = "there is no run around this model that says what it was trained from"
    except UserError as error:
        reason = error.message
    say(f"No nearest training images: {reason} They need --data DATA.".replace("  ", " "), "yellow")
    return None


def explain_files(
    explainer: Explainer, paths: Iterable[Path], name: str | None, out: Path, near: int = 5
) -> tuple[dict[str, Any], int]:
    """Write a PNG for each image and explain.json to ``out``.

    Args:
        explainer: of the model.
        paths: image files, and folders of them.
        name: the class to explain; None: of each image the most probable one.
        out: a folder, made if needed.
        near: training images to show.

    Returns:
        What the JSON holds (model, images: a record each, or its path and "error"), and how many images could not be read.

    Raises:
        UserError: there is no image, or no such class.
    """
    predictor = explainer.predictor
    if name is not None:
        class_number(predictor.classes, name)
    files = list(image_files(paths))
    if not files:
        raise UserError("There are no images there.", expected="image files, or folders that hold some")
    rows: list[dict[str, Any]] = []
    pictures = _Pictures(out, f"{predictor.card.name} {predictor.card.digest[:8]}", files)
    with stage("explain", len(files)) as bar:
        for path in files:
            rows.append(_explained(explainer, path, name, near, pictures))
            bar.advance()
    record = {"model": predictor.card.name, "model_digest": predictor.card.digest, "images": rows}
    write_json(out / "explain.json", json_record(record))
    return record, sum("error" in row for row in rows)


def _explained(explainer: Explainer, path: Path, name: str | None, near: int, pictures: _Pictures) -> dict[str, Any]:
    preprocess = explainer.predictor.card.preprocess
    try:
        stored = read_stored(path, preprocess)
    except (BadImage, OSError) as error:
        return {"path": shown(path), "error": str(error)}
    found = explainer.of_stored(stored, name, near=near)
    return {"path": shown(path), "picture": pictures.draw(path, found), **found.record()}


class _Pictures:
    """The PNGs of a folder, which replace those drawn there before and nothing else. That none can be drawn is said once."""

    def __init__(self, out: Path, model: str, images: Iterable[Path]) -> None:
        self.out, self.model, self.possible = out, model, True
        self._images = {os.path.realpath(image) for image in images}
        self._names: set[str] = set()
        self._before = _drawn_before(out)

    def draw(self, path: Path, found: Explanation) -> str | None:
        """Draw one; its file's name, or None where nothing can be drawn."""
        from frostline import plots_explain

        if not self.possible:
            return None
        file = self._free(path)
        explained, p = found.explained
        method = _SAID[OCCLUSION if found.heat.method == OCCLUSION else GRAD_CAM]
        spoken = f"what speaks for {explained}" if found.heat.values.any() else f"nothing speaks for {explained}"
        near = [(each.image, f"{each.label}\n{each.distance:.3f}") for each in found.neighbours]
        best, most = found.top[0]
        title = f"{shown(path.name)}: {best} {100 * most:.1f} % · {self.model}"
        titles = ("the image\nas the model sees it", f"{spoken}\n{method}; {explained} {100 * p:.1f} %")
        try:
            plots_explain.explanation((found.image, found.overlay), titles, found.top, near, self.out / file, title)
        except NoPicturesError as error:
            say(f"{error.message} ({error.hint}) What they would show is in {self.out / 'explain.json'}.", "yellow")
            self.possible = False
            return None
        return file

    def _free(self, path: Path) -> str:
        """The image's own name, numbered where another picture has it."""
        number, name = 1, f"{path.stem}.png"
        while not self._is_free(name):
            number += 1
            name = f"{path.stem}-{number}.png"
        self._names.add(name)
        return name

    def _is_free(self, name: str) -> bool:
        place = self.out / name
        if name in self._names or os.path.realpath(place) in self._images:
            return False
        return name in self._before or not os.path.lexists(place)


def _drawn_before(out: Path) -> set[str]:
    """The pictures that an explain.json in the folder calls its own."""
    try:
        return {
            str(row["picture"]) for row in json.loads((out / "explain.json").read_text("utf-8"))["images"] if row.get("picture")
        }
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return set()
