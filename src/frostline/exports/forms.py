"""How each form of an export is written, and how the written file answers. torch is only loaded for the forms that need it."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline import engine
from frostline.errors import UserError
from frostline.exports.parity import Answer
from frostline.model_card import GRAPH
from frostline.serve.predictor import Predictor
from frostline.vino import ov

#: Images that an export is asked for at a time.
BATCH = 16


def write_onnx(predictor: Predictor, path: Path) -> Answer:
    """The whole graph as one file."""
    _graph(predictor)
    onnx, onnxruntime = _package("onnx", "export"), _package("onnxruntime", "onnx")
    from frostline.exports.onnx_graph import to_onnx

    model = to_onnx(predictor.folder / GRAPH)
    onnx.helper.set_model_props(model, {key: _text(value) for key, value in about(predictor).items()})
    path.write_bytes(model.SerializeToString(deterministic=True))
    onnx.checker.check_model(str(path), full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return _in_blocks(lambda images: session.run(["probabilities"], {"images": images})[0])


def write_openvino(predictor: Predictor, folder: Path) -> Answer:
    """The graph with labels and preprocessing in its ``rt_info``, where OpenVINO's tools look for them."""
    graph = _graph(predictor).clone()
    folder.mkdir()
    labels = [name.replace(" ", "_") for name in predictor.classes]  # the tools split them at spaces
    graph.set_rt_info("Classification", ["model_info", "model_type"])
    graph.set_rt_info(" ".join(labels), ["model_info", "labels"])
    for key, value in about(predictor).items():
        graph.set_rt_info(_text(value), ["frostline", key])
    engine.save_graph(graph, folder / GRAPH)
    (folder / "labels.txt").write_text("".join(f"{name}\n" for name in predictor.classes), "utf-8")
    compiled = engine.core().compile_model(folder / GRAPH, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return _in_blocks(lambda images: compiled({"images": images})["probabilities"])


def write_torch(predictor: Predictor, path: Path) -> Answer:
    """A ``torch.export`` program from (B, h, w, 3) uint8 to (B, K) probabilities, for any B."""
    _package("torch", "train")
    from frostline.models.exporting import save_program

    return _in_blocks(save_program(predictor.folder, predictor.card.values, path))


def write_litert(predictor: Predictor, path: Path) -> Answer:
    """The torch program through LiteRT's own converter; one image at a time."""
    _package("torch", "train")
    from frostline.models.exporting import save_litert

    return _in_blocks(save_litert(predictor.folder, predictor.card.values, path), 1)


def write_timm(predictor: Predictor, folder: Path) -> Answer:
    """A folder that ``timm.create_model("local-dir:FOLDER", pretrained=True)`` loads."""
    _package("timm", "train")
    from frostline.models.exporting import save_timm

    folder.mkdir()
    return _in_blocks(save_timm(predictor.folder, predictor.card.values, folder))


def first_view_answers(predictor: Predictor, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What a model says of the images as they are, without its other views."""
    found = []
    for features in predictor.features(images[i : i + predictor.batch] for i in range(0, len(images), predictor.batch)):
        alone = np.repeat(features[:, :1], features.shape[1], axis=1)  # the mean of equal log-probabilities is each of them
        found.append(predictor.from_features(np.ascontiguousarray(alone)))
    return np.concatenate(found)


def about(predictor: Predictor) -> dict[str, Any]:
    """What a reader of an export should know, as JSON values."""
    card = predictor.card
    return {
        "classes": list(card.classes),
        "preprocess": card.preprocess.as_dict(),
        "input": {"images": ["batch", *card.preprocess.stored, 3], "type": "uint8", "channels": "RGB"},
        "views": card.views,
        "temperature": card.temperature,
        "sure_from": card.sure_from,
        "model": card.name,
        "model_digest": card.digest,
        "licences": dict(card.licences),
    }


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _graph(predictor: Predictor) -> ov.Model:
    if predictor.graph is None:
        raise UserError(
            "This model has no compiled graph, which this form is made from.", expected="a model with graph.xml", hint="--to torch"
        )
    return predictor.graph


def _package(name: str, extra: str) -> ModuleType:
    """A package of an extra, imported; a ``UserError`` with what to type where it is missing."""
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError as error:
        raise UserError(f"This form needs {name}.", received=str(error), hint=f"pip install 'frostline[{extra}]'") from error


def _in_blocks(answer: Any, size: int = BATCH) -> Answer:
    """Ask for a few images at a time; the last block is smaller, which tries the dynamic batch as well."""
    return lambda images: np.concatenate([np.asarray(answer(images[i : i + size])) for i in range(0, len(images), size)])
