"""What is put before and behind a foreign network: uint8 images in, probabilities, features and perhaps a map out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from frostline import engine
from frostline.drawn import drawn_images
from frostline.errors import UserError
from frostline.imports.parts import parted
from frostline.preprocess import Preprocess, enlargement
from frostline.vino import ops, ov, passes

_IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
#: What networks are commonly fed: mean and deviation of pixel values in [0, 1] as R, G, B, and the order of their channels.
PRESETS: dict[str, dict[str, Any]] = {
    "imagenet": _IMAGENET,
    "unit": {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)},  # [0, 1]
    "signed": {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)},  # [-1, 1]: Keras' MobileNets, Inception
    "pixels": {"mean": (0.0, 0.0, 0.0), "std": (1 / 255,) * 3},  # [0, 255]: Keras' EfficientNets, which rescale inside
    # Keras' VGG and ResNet, from Caffe: the mean taken away from pixels of [0, 255], blue first
    "caffe": {"mean": (123.68 / 255, 116.779 / 255, 103.939 / 255), "std": (1 / 255,) * 3, "channels": "bgr"},
}
#: A side of more pixels is a mistake.
MOST_PIXELS = 4096
#: The most bytes that one value in a network may have, for one image.
MOST_BYTES = 2**31
#: How far an answer may be, relative to the largest, from what the image gets in other company.
SAME = 1e-4


@dataclass(frozen=True)
class Framing:
    """What stands in front of a network and what comes out of it.

    Attributes:
        preprocess: size, and how images are brought to it and normalised.
        channels: "rgb" or "bgr", as the network takes them.
        layout: "nchw" or "nhwc"; "auto": where the side of 3 is.
        gives: "logits" or "probabilities"; "auto": as its last operation and its answers to drawn images tell.
    """

    preprocess: Preprocess
    channels: str = "rgb"
    layout: str = "auto"
    gives: str = "auto"

    def __post_init__(self) -> None:
        allowed = {"channels": ("rgb", "bgr"), "layout": ("auto", "nchw", "nhwc"), "gives": ("auto", "logits", "probabilities")}
        for name, values in allowed.items():
            if getattr(self, name) not in values:
                raise UserError(f"{name} has an unknown value.", expected=", ".join(values), received=str(getattr(self, name)))

    def as_dict(self) -> dict[str, str]:
        """All but the preprocessing, as the card has it."""
        return {key: value for key, value in asdict(self).items() if key != "preprocess"}


def framing(size: tuple[int, int], preprocess: Mapping[str, Any], **values: str) -> Framing:
    """A framing of (H, W) from the values of a preset or others: mean, std (as R, G, B, of pixels in
    [0, 1]), channels, fit, crop, kernel; size, which must then be (H, W), and stored, to which images are reduced before.

    Raises:
        UserError: an unknown key, or values that are no preprocessing.
    """
    given: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in preprocess.items()}
    channels = values.pop("channels", "") or str(given.pop("channels", "rgb"))
    given.pop("channels", None)
    if given.pop("size", size) != size:
        raise UserError("Two sizes are given.", expected=f"{size[0]}x{size[1]}", received=str(preprocess["size"]), hint="--size")
    try:
        chosen = Preprocess(size=size, **{"stored": size, **given})
    except (TypeError, ValueError) as error:
        expected = "mean, std, channels, fit, crop, kernel, size, stored"
        raise UserError("That is no preprocessing.", expected=expected, received=str(error)) from error
    return Framing(chosen, channels=channels, **values)


def read_size(given: str) -> tuple[int, int]:
    """(H, W) from "224" or "224x192"; a ``UserError`` for anything else."""
    sides = given.lower().replace("×", "x").split("x")
    if len(sides) not in (1, 2) or not all(side.isdecimal() and 0 < int(side) <= MOST_PIXELS for side in sides):
        raise UserError("That is no size.", expected="224, or 224x192 (height, width)", received=given)
    return int(sides[0]), int(sides[-1])


def own_size(network: ov.Model, layout: str) -> tuple[int, int] | None:
    """(H, W) to which a network's input is fixed; None where it takes several, or no images."""
    shape = network.inputs[0].get_partial_shape()
    if shape.rank.is_dynamic or len(shape) != 4:
        return None
    last = layout == "nhwc" or (layout == "auto" and shape[3] == ov.Dimension(3) and shape[1] != ov.Dimension(3))
    height, width = (shape[axis] for axis in ((1, 2) if last else (2, 3)))
    return None if height.is_dynamic or width.is_dynamic else (height.get_length(), width.get_length())


def read_preprocess(given: str, fit: str) -> dict[str, Any]:
    """A preset, JSON, or a file of JSON, as ``framing`` takes it, with ``fit`` where it does not say one."""
    if given in PRESETS:
        return {**PRESETS[given], "fit": fit}
    try:
        text = given if given.lstrip().startswith("{") else Path(given).read_text("utf-8")
        values = json.loads(text)
    except (OSError, ValueError) as error:
        expected = f"one of {', '.join(PRESETS)}, JSON, or a file of it"
        raise UserError("There is no such preprocessing.", expected=expected, received=str(error)[:200]) from error
    if not isinstance(values, dict):
        raise UserError(
            "That is no preprocessing.", expected='JSON as in {"mean": [0, 0, 0], "std": [1, 1, 1]}', received=text[:200]
        )
    sizes = {name: [values[name]] * 2 for name in ("size", "stored") if type(values.get(name)) is int}
    return {"fit": fit, **values, **sizes}


def framed(network: ov.Model, classes: list[str], frame: Framing, said: str) -> tuple[ov.Model, Framing]:
    """The network with everything around it, as ``artifact.write_model`` takes it; and the framing with "auto" resolved.

    Raises:
        UserError: an input that is no image, a batch that is fixed, an output that is not (B, K) for these classes.
    """
    frame = _laid_out(network, frame, said)
    _resize(network, frame, said)
    _check_sizes(network, said)
    folding = passes.Manager()  # axes and weights that others compute from constants become constants
    folding.register_pass(passes.ConstantFolding())
    folding.run_passes(network)
    logits = _output(network, len(classes), said)
    images, normalised = _before(frame)
    wanted = network.inputs[0].get_element_type()
    network.get_parameters()[0].output(0).replace(ops.convert(normalised, wanted.get_type_name()).output(0))
    answer = ops.convert(logits, "f32").output(0)
    frame = replace(frame, gives=_gives(images, answer, frame, said))
    return parted(images, answer, frame.gives == "probabilities"), frame


def _laid_out(network: ov.Model, frame: Framing, said: str) -> Framing:
    shape, kind = network.inputs[0].get_partial_shape(), network.inputs[0].get_element_type()
    if shape.rank.is_dynamic or len(shape) != 4 or kind.get_type_name() not in ("f32", "f16"):
        raise UserError(
            f"{said} does not take images.",
            expected="one input of four dimensions, float32: (batch, 3, height, width) or (batch, height, width, 3)",
            received=f"{kind.get_type_name()} {shape}",
        )
    fits = {name: shape[axis].compatible(ov.Dimension(3)) for name, axis in (("nchw", 1), ("nhwc", 3))}
    sure = [name for name, axis in (("nchw", 1), ("nhwc", 3)) if shape[axis] == ov.Dimension(3)]
    if frame.layout != "auto" and fits[frame.layout]:
        return frame
    if frame.layout != "auto" or not any(fits.values()):
        raise UserError(f"{said} takes no images of three channels there.", expected=f"3 in {frame.layout}", received=str(shape))
    if len(sure) != 1:
        raise UserError(f"Where {said} has its channels cannot be told.", received=str(shape), hint="--layout nchw (or nhwc)")
    return replace(frame, layout=sure[0])


def _resize(network: ov.Model, frame: Framing, said: str) -> None:
    """Any number of images, of the size that was asked for."""
    height, width = frame.preprocess.size
    shape = [-1, 3, height, width] if frame.layout == "nchw" else [-1, height, width, 3]
    if not network.inputs[0].get_partial_shape()[1:].compatible(ov.PartialShape(shape[1:])):
        raise UserError(
            f"{said} takes images of another size.",
            expected=str(network.inputs[0].get_partial_shape()),
            received=str(shape),
            hint="--size",
        )
    try:
        network.reshape(ov.PartialShape(shape))
    except RuntimeError as error:
        reason = " ".join(str(error).split())[-300:]
        raise UserError(
            f"{said} does not take any number of images of {height}×{width}.",
            expected="a dynamic batch",
            received=reason,
            hint="export it with a dynamic batch; --size",
        ) from error


def _check_sizes(network: ov.Model, said: str) -> None:
    """A few bytes can ask for a constant of terabytes: looked at before anything is computed."""
    for port in (port for node in network.get_ops() for port in node.outputs()):
        sides = (
            [side.get_length() for side in port.get_partial_shape() if side.is_static]
            if port.get_partial_shape().rank.is_static
            else []
        )
        if (size := prod(sides) * port.get_element_type().size) > MOST_BYTES:
            raise UserError(
                f"{said} asks for too much memory.", expected=f"at most {MOST_BYTES:,} bytes a value", received=f"{size:,}"
            )


def _output(network: ov.Model, K: int, said: str) -> Any:
    port = network.outputs[0].get_node().input_value(0)
    shape = port.get_partial_shape()
    if shape.rank.is_dynamic or len(shape) != 2 or shape[1] != ov.Dimension(K):
        raise UserError(f"{said} does not give one number a class.", expected=f"(batch, {K}) for {K} classes", received=str(shape))
    if shape[0].is_static:
        raise UserError(f"{said} answers for a fixed number of images.", expected="a dynamic batch", received=str(shape))
    return port


def _before(frame: Framing) -> tuple[Any, Any]:
    """The input "images" and what the network takes: normalised, in its order of channels, its size and its layout."""
    height, width = frame.preprocess.stored
    images = ops.parameter([-1, height, width, 3], np.uint8, name="images")
    images.output(0).set_names({"images"})
    mean, std = (np.array(values) for values in (frame.preprocess.mean, frame.preprocess.std))
    x = ops.multiply(ops.convert(images, "f32"), ops.constant((1 / (255 * std)).astype(np.float32).reshape(1, 1, 1, 3)))
    x = ops.add(x, ops.constant((-mean / std).astype(np.float32).reshape(1, 1, 1, 3)))
    if frame.channels == "bgr":
        x = ops.gather(x, ops.constant(np.array([2, 1, 0])), ops.constant(np.int64(3)))
    preprocess = frame.preprocess
    enlarges = preprocess.stored != preprocess.size
    if enlarges or frame.layout == "nchw":
        x = ops.transpose(x, ops.constant(np.array([0, 3, 1, 2])))
    if enlarges:  # A x Bᵀ, as in networks of our own
        sides = zip(preprocess.stored, preprocess.size, strict=True)
        rows, columns = (ops.constant(enlargement(*side, preprocess.kernel).astype(np.float32)) for side in sides)
        x = ops.matmul(ops.matmul(rows, x, False, False), columns, False, True)
    if enlarges and frame.layout == "nhwc":
        x = ops.transpose(x, ops.constant(np.array([0, 2, 3, 1])))
    return images, x


def _gives(images: Any, answer: Any, frame: Framing, said: str) -> str:
    """Probabilities or logits; what was told is checked against answers to drawn images, so far as it can be."""
    probe = drawn_images(4, *frame.preprocess.stored, seed=30)
    try:
        graph = ov.Model([ops.result(answer)], [images], "asked")
        compiled = engine.core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        found = compiled({0: probe})[0].copy()
        alone = np.concatenate([compiled({0: probe[i : i + 1]})[0].copy() for i in range(len(probe))])
    except RuntimeError as error:
        raise UserError(f"{said} cannot be computed.", received=" ".join(str(error).split())[-300:]) from error
    if found.shape != alone.shape or np.abs(found - alone).max() > SAME * max(1.0, np.abs(found).max()):
        raise UserError(f"{said} answers otherwise for several images than for each.", expected="images that do not mix")
    if not np.isfinite(found).all():
        raise UserError(f"{said} gives numbers that are not finite for drawn images.", hint="--preprocess")
    distribution = bool((found >= 0).all() and np.abs(found.sum(1) - 1).max() < 1e-3)
    if frame.gives == "probabilities" and not distribution:
        low, high = found.sum(1).min(), found.sum(1).max()
        raise UserError(
            f"{said} does not give probabilities.", expected="rows that sum to 1", received=f"sums {low:.3g} to {high:.3g}"
        )
    if frame.gives != "auto":
        return frame.gives
    if not distribution and (found >= 0).all() and (found <= 1).all():
        raise UserError(
            f"{said} gives a probability of each class by itself, it seems.",
            expected="one class an image: logits, or probabilities that sum to 1",
            received=f"rows that sum to {found.sum(1).min():.3g} to {found.sum(1).max():.3g}",
            hint="--gives logits, if that is what they are",
        )
    return "probabilities" if distribution else "logits"
