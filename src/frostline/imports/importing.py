"""``frostline import``: anyone's ONNX network as a model directory, which predicts, is evaluated, explained and served as our own.

What stands in front of the network (uint8, normalisation, order of channels, layout) and behind it (softmax) becomes part of the
graph. Which images it was trained on is not known, and whatever would need to know it says so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import frostline
from frostline.artifact import write_model
from frostline.data.imageset import Reject
from frostline.errors import UserError
from frostline.files import digest_file
from frostline.imports.graph import Framing, framed, own_size, read_size
from frostline.imports.onnx_reading import Foreign, read_onnx
from frostline.metrics import score
from frostline.model_card import UNKNOWN
from frostline.progress import say
from frostline.records import json_record
from frostline.runs import Run
from frostline.serve.predictor import Predictor

#: Side of the images where neither the network nor anybody says one.
DEFAULT_SIDE = 224


def import_onnx(
    path: str | Path,
    classes: Sequence[str],
    framing: Framing,
    out: str | Path,
    *,
    output_name: str = "",
    data: str | Path | None = None,
    split: str = "test",
    licence: str = UNKNOWN,
    overwrite: bool = False,
    unknown_as_wrong: bool = False,
) -> Path:
    """Write a model directory of an ONNX network, or with ``data`` a run that holds it and is judged on that data.

    Args:
        path: the ONNX file.
        classes: K names in the order of the network's outputs.
        framing: what stands in front of the network and what comes out of it.
        out: the folder to make.
        output_name: of several outputs, the one to take.
        data, split: what to judge it on; the run can be compared with others and reported on.
        licence: of the weights, if you know it.
        overwrite: replace a run that is there.
        unknown_as_wrong: images of classes that the network does not know count as mistakes.

    Returns:
        The model directory.

    Raises:
        UserError: see ``onnx_reading.read_onnx`` and ``graph.framed``; ``out`` holds something.
    """
    path, out = Path(path), Path(out)
    if data is None and out.exists():
        raise UserError(f"{out} is there already.", expected="a new folder", hint="another --out")
    if data is not None and split != "test":
        raise UserError(
            "An imported model's run holds test scores, and other runs are compared with them.",
            expected="test",
            received=split,
            hint="import without --data, then frostline evaluate MODEL DATA --split validation",
        )
    foreign = read_onnx(path, output_name)
    graph, frame = framed(foreign.graph, list(classes), framing, str(path))
    card = _card(path, foreign, classes, frame, graph, licence)
    if data is None:
        try:
            _write(out, graph, foreign, card)
        except OSError as error:
            raise UserError(f"Cannot write a model to {out}.", received=str(error), hint="another --out") from error
        return out
    with Run.create(out, overwrite) as run:
        _write(run.model_folder, graph, foreign, card)
        _judge(run, data, split, card, unknown_as_wrong)
    return run.model_folder


def size_of(path: Path, preprocess: Mapping[str, Any], layout: str, output_name: str = "") -> tuple[int, int]:
    """(H, W) of the images that an ONNX network takes: as its preprocessing says, or its own, or else 224, which is said."""
    if "size" in preprocess:
        given = preprocess["size"]
        return read_size("x".join(map(str, given)) if isinstance(given, list | tuple) else str(given))
    if (own := own_size(read_onnx(path, output_name).graph, layout)) is not None:
        return own
    say(f"{path} takes images of any size: {DEFAULT_SIDE}×{DEFAULT_SIDE} is assumed. --size says another.", "yellow")
    return DEFAULT_SIDE, DEFAULT_SIDE


def _write(folder: Path, graph: Any, foreign: Foreign, card: Mapping[str, Any]) -> None:
    write_model(folder, graph, foreign.weights, set(), card)
    say(f"Imported: {folder}, {card['architecture']['parameters']:,} weights, {len(card['classes'])} classes.")


def _card(path: Path, foreign: Foreign, classes: Sequence[str], frame: Framing, graph: Any, licence: str) -> dict[str, Any]:
    parameters = sum(int(value.size) for value in foreign.weights.values())
    width = graph.output("features").get_partial_shape()[2].get_length()
    return json_record(
        {
            "name": path.stem,
            "frostline": frostline.__version__,
            "classes": list(classes),
            "preprocess": frame.preprocess.as_dict(),
            "views": 1,
            "temperature": 1.0,
            "precision": "f32",
            "sure_from": None,
            "knows_seen": False,
            "architecture": {
                "kind": "imported",
                "weights": f"imported from {path.name}",
                "file_digest": digest_file(path),
                "network": path.stem,
                **foreign.about,
                "framing": frame.as_dict(),
                "features": width,
                "parameters": parameters,
                "trainable_parameters": 0,
            },
            "licences": {"weights": licence, "data": UNKNOWN},
            "settings": {},
            "training": {"ended": "imported: how it was trained is not known here"},
            "data": {},
        }
    )


def _judge(run: Run, data: str | Path, split: str, card: Mapping[str, Any], unknown_as_wrong: bool) -> None:
    """Predictions and scores of a split, as a run of ours has them."""
    from frostline.judge import rows_to_judge
    from frostline.speed import speed_of

    predictor = Predictor(run.model_folder)
    images, about = rows_to_judge(predictor, data, split, unknown_as_wrong=unknown_as_wrong)
    with run.timing("test"):
        predictions = predictor.judge(images)
    scores = score(predictions)
    run.write_predictions("test", predictions)
    run.write_scores("test", scores)
    counts = {name: int((images.labels == k).sum()) for k, name in enumerate(predictor.classes)}
    fingerprints = {"test": images.fingerprint}
    run.write_data(
        {
            "source": str(data),
            "found": len(images) + about["rejected"],
            "rejected": about["rejected"],
            "counts": {"test": {"images": len(images), "classes": counts}},
            "fingerprints": fingerprints,
            "notes": about["data_notes"],
        },
        [Reject(**each) for each in about["rejects"]],
    )
    low, high = scores["interval"]
    say(
        f"Accuracy {scores['accuracy']:.2%} (95 % interval {low:.2%} to {high:.2%}, n = {scores['n']:,}), {about['split']}.", "bold"
    )
    run.finish(
        {
            "parameters": card["architecture"]["parameters"],
            "trainable_parameters": 0,
            "model_digest": predictor.card.digest,
            "test_accuracy": float(scores["accuracy"]),
            "speed": speed_of(run),
            "ended": card["training"]["ended"],
            "seen_in_training": about["seen_in_training"],
        }
    )


def read_classes(given: str) -> list[str]:
    """Names from a file (a line each, or a JSON list), or from "a,b,c"; a ``UserError`` where two are the same or none is there."""
    path = Path(given)
    if "," not in given and path.is_file():
        try:
            text = path.read_text("utf-8-sig")  # editors on Windows begin a file with a mark that is no letter of the first class
        except UnicodeDecodeError as error:
            raise UserError(f"{path} is not UTF-8.", received=str(error), hint="save it as UTF-8") from error
        names = _json_names(text, path) if path.suffix == ".json" else text.splitlines()
    else:
        names = given.split(",")
    names = [str(name).strip() for name in names if str(name).strip()]
    if not names or len(set(names)) < len(names):
        raise UserError(
            "The classes must be different names.", expected="a file with a name a line, or a,b,c", received=given[:200]
        )
    return names


def _json_names(text: str, path: Path) -> list[Any]:
    try:
        names = json.loads(text)
    except ValueError as error:
        raise UserError(f"{path} is not JSON.", expected="a list of names", received=str(error)) from error
    if not isinstance(names, list):
        raise UserError(f"{path} holds no list of names.", expected='["ant", "bee"]', received=type(names).__name__)
    return names
