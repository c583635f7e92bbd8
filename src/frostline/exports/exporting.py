"""``frostline export``: a saved model in the forms that other programs read, each compared with the model before it is kept.

Everything is written into a folder beside its place, compared there, and then moved: an export that failed leaves nothing behind,
and what was there before stays.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import frostline
from frostline import engine
from frostline.errors import UserError, nearest
from frostline.exports import forms, int8_form
from frostline.exports.parity import Answer, HeldBack, answers, check, compared, held_back
from frostline.files import sync_folder, write_json
from frostline.model_card import CARD
from frostline.model_zip import pack_model
from frostline.progress import say
from frostline.records import json_record
from frostline.serve.predictor import Predictor

#: What is written beside or into an export.
RECORD = "export.json"


@dataclass(frozen=True)
class Form:
    """A row of the table of forms.

    Attributes:
        ending: of the file that is made; of a folder's name where it begins with "-".
        write: from the model's predictor and the path to how the written export answers.
        said: what it is, for the screen and the record.
        wanted: the answers to compare with, where they are not the model's own.
    """

    ending: str
    write: Callable[[Predictor, Path], Answer]
    said: str
    wanted: Callable[[Predictor, HeldBack], Any] | None = None


def _zip(predictor: Predictor, path: Path) -> Answer:
    packed = Predictor(pack_model(predictor.folder, path), "f32")
    return lambda images: answers(packed, images)


def _first_view(predictor: Predictor, held: HeldBack) -> Any:
    return forms.first_view_answers(predictor, held.images)


FORMS: dict[str, Form] = {
    "onnx": Form(".onnx", forms.write_onnx, "one ONNX file, any number of images, preprocessing inside"),
    "openvino": Form("-openvino", forms.write_openvino, "OpenVINO's graph.xml and graph.bin, preprocessing inside"),
    "torch": Form(".pt2", forms.write_torch, "a torch.export program, preprocessing inside; torch.export.load reads it"),
    "litert": Form(".tflite", forms.write_litert, "one LiteRT file for one image at a time, preprocessing inside"),
    "timm": Form("-timm", forms.write_timm, "config.json and model.safetensors, as timm's hub has them", _first_view),
    "zip": Form(".zip", _zip, "the model directory as one file"),
}
INT8 = "int8"


def export(
    model: str | Path,
    to: str,
    out: str | Path | None = None,
    *,
    data: str | Path | None = None,
    split: str = "validation",
    overwrite: bool = False,
    max_loss: float = int8_form.MAX_LOSS,
    min_gain: float = int8_form.MIN_GAIN,
    calibration: int = int8_form.CALIBRATION,
) -> tuple[Path, dict[str, Any]]:
    """Write a model in another form, and how far its answers are from the model's.

    Args:
        model: a model directory, a run, a ZIP, or "inside".
        to: a name in ``FORMS``, or "int8".
        out: the file or folder to make; by default named after the model, in the current folder.
        data: images to compare on, and for int8 to take ranges from; without, drawn images are compared (not for int8).
        split: of the data.
        overwrite: replace what an earlier export has left at ``out``.
        max_loss, min_gain, calibration: for int8, see ``int8_form.write_int8``.

    Returns:
        Where it is, and the record that lies beside it: ``RECORD`` in a folder, ``FILE.json`` beside a file, the card of int8.

    Raises:
        UserError: the form is unknown or not to be had of this model; a package is missing; the export differs too much.
    """
    if to not in FORMS and to != INT8:
        raise UserError("There is no such form.", expected=", ".join([*FORMS, INT8]), received=to, hint=nearest(to, [*FORMS, INT8]))
    if to == INT8:
        target = _target(model, out, "-int8", overwrite)
        with _scratch(target) as fresh:
            record = int8_form.write_int8(model, fresh, data, split, max_loss=max_loss, min_gain=min_gain, calibration=calibration)
            _move(fresh, target)
        return target, record
    form = FORMS[to]
    target = _target(model, out, form.ending, overwrite)
    predictor = Predictor(model, "f32")
    held = held_back(predictor, data, split)
    wanted = answers(predictor, held.images) if form.wanted is None else form.wanted(predictor, held)
    with _scratch(target) as fresh:
        found = check(compared(wanted, form.write(predictor, fresh), held), "int8" if predictor.card.precision == INT8 else "f32")
        record = _record(to, form, predictor, found)
        if fresh.is_dir():
            write_json(fresh / RECORD, record)
        _move(fresh, target)
    if target.is_file():
        write_json(target.with_name(f"{target.name}.json"), record)
    return target, record


def say_parity(record: Mapping[str, Any]) -> None:
    """The comparison, in a line."""
    found = record["parity"]
    say(
        f"Worst difference from the model on {found['images']}: {found['worst']:.2g} (at most {found['tolerance']:g}); "
        f"the same class in {found['same_winner']:.1%}."
    )


def _record(to: str, form: Form, predictor: Predictor, parity: Mapping[str, Any]) -> dict[str, Any]:
    card = predictor.card
    return json_record(
        {
            "form": to,
            "what": form.said,
            "model": card.name,
            "model_digest": card.digest,
            "classes": list(card.classes),
            "preprocess": card.preprocess.as_dict(),
            "parity": parity,
            "frostline": frostline.__version__,
            "openvino": engine.version(),
        }
    )


def _target(model: str | Path, out: str | Path | None, ending: str, overwrite: bool) -> Path:
    """Where the export goes; nothing that an export has not made is ever replaced."""
    path = Path(out) if out is not None else Path(_name(Path(model)) + ending)
    if path.is_symlink():
        if not path.exists():
            raise UserError(f"{path} is a link that leads nowhere.", expected="a new file or folder", hint="another --out")
        path = path.resolve()
    if not path.exists():
        return path
    ours = _exported(path) if path.is_dir() else path.with_name(f"{path.name}.json").is_file()
    if not overwrite or not ours:
        hint = "another --out, or --overwrite" if ours else "another --out: this was not made by an export"
        raise UserError(f"{path} is there already.", expected="a new file or folder", hint=hint)
    return path


def _exported(folder: Path) -> bool:
    """Whether an export made this folder: it has an export's record, or is a model in 8 bits. A trained model is none."""
    try:
        return (folder / RECORD).is_file() or "int8" in json.loads((folder / CARD).read_text("utf-8"))
    except (OSError, ValueError):
        return False


def _name(model: Path) -> str:
    """Of a run rather than of the folder "model" in it."""
    folder = model.resolve() if str(model) in (".", "..") else model
    return (folder.parent.name if folder.name == "model" and folder.parent.name else folder.stem) or "model"


class _scratch:  # noqa: N801
    """A path of the target's name in a folder beside it, which vanishes with whatever is left in it."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __enter__(self) -> Path:
        try:
            self.target.parent.mkdir(parents=True, exist_ok=True)
            self.folder = tempfile.mkdtemp(dir=self.target.parent, prefix=f".{self.target.name[:40]}.")
        except OSError as error:
            raise UserError(f"Cannot write to {self.target}.", received=str(error), hint="another --out") from error
        return Path(self.folder) / self.target.name

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def _move(fresh: Path, target: Path) -> None:
    for path in sorted(fresh.rglob("*")) if fresh.is_dir() else [fresh]:
        if path.is_file():
            with open(path, "rb+") as stream:  # Windows syncs only what may be written to
                os.fsync(stream.fileno())
    aside = fresh.with_name(f".{fresh.name}.before")
    if target.is_dir():
        os.replace(target, aside)
    try:
        os.replace(fresh, target)
    except BaseException:  # Ctrl-C, or on Windows a file that is open: what was there before stays
        if aside.is_dir():
            os.replace(aside, target)
        raise
    sync_folder(target.parent)
