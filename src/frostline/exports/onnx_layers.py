"""The layers that networks are made of, as ONNX: those that are more than another name (see ``onnx_rules``)."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np

from frostline.errors import UserError
from frostline.exports.ir import Layer
from frostline.exports.onnx_writing import Translation


def axes_of(t: Translation, layer: Layer, number: int) -> str:
    """Axes, which ONNX wants as a list, of 64 bits."""
    return t.tensor(t.known(layer, number).reshape(-1))


def matmul(t: Translation, layer: Layer) -> str:
    """The last two axes of either side turned where it asks for it."""
    sides = [
        _turned(t, layer, t.input(layer, number), len(layer.arriving[number].dims))
        if layer.data.get(key) == "true"
        else t.input(layer, number)
        for number, key in enumerate(("transpose_a", "transpose_b"))
    ]
    return t.emit("MatMul", sides, layer)


def _turned(t: Translation, layer: Layer, name: str, rank: int) -> str:
    """The last two axes of a value exchanged; one axis alone stays."""
    axes = list(range(rank))
    return name if rank < 2 else t.emit("Transpose", [name], layer, perm=[*axes[:-2], axes[-1], axes[-2]])


def _window(layer: Layer) -> dict[str, Any]:
    """Attributes that convolution and pooling share."""
    attributes: dict[str, Any] = {key: found for key in ("strides", "dilations") if (found := layer.numbers(key))}
    if (automatic := layer.data["auto_pad"].upper()) in ("SAME_UPPER", "SAME_LOWER", "VALID"):
        return {**attributes, "auto_pad": automatic}
    return {**attributes, "pads": layer.numbers("pads_begin") + layer.numbers("pads_end")}


def convolution(t: Translation, layer: Layer) -> str:
    """Without groups; a bias is an addition of its own in both."""
    return t.emit("Conv", t.inputs(layer), layer, **_window(layer))


def group_convolution(t: Translation, layer: Layer) -> str:
    """OpenVINO's filters are (groups, O / groups, I / groups, …), ONNX' (O, I / groups, …)."""
    groups, outputs, *rest = layer.arriving[1].dims
    filters = t.reshaped(layer, 1, [groups * outputs, *rest])
    return t.emit("Conv", [t.input(layer, 0), filters], layer, group=groups, **_window(layer))


def _pooling(layer: Layer) -> dict[str, Any]:
    return {**_window(layer), "kernel_shape": layer.numbers("kernel"), "ceil_mode": int(layer.data["rounding_type"] != "floor")}


def max_pool(t: Translation, layer: Layer) -> str:
    """Of its two outputs the second, the places of the maxima, is read by none of our graphs."""
    return t.emit("MaxPool", [t.input(layer, 0)], layer, **_pooling(layer))


def avg_pool(t: Translation, layer: Layer) -> str:
    """Without dilations, which ONNX knows only since operator set 19."""
    attributes = _pooling(layer)
    if set(layer.numbers("dilations")) - {1}:
        raise UserError("An average over pixels apart cannot be written as ONNX.", received=layer.name)
    attributes.pop("dilations", None)
    counted = int(layer.data["exclude-pad"] == "false")
    return t.emit("AveragePool", [t.input(layer, 0)], layer, count_include_pad=counted, **attributes)


def _number(t: Translation, value: float) -> str:
    return t.tensor(value, np.float32)


def clamp(t: Translation, layer: Layer) -> str:
    """Limits are inputs in ONNX."""
    return t.emit("Clip", [t.input(layer, 0), *(_number(t, float(layer.data[key])) for key in ("min", "max"))], layer)


def swish(t: Translation, layer: Layer) -> str:
    """x σ(β x) (Ramachandran et al. 2017)."""
    x, *beta = t.inputs(layer)
    scaled = t.emit("Mul", [x, *beta], layer) if beta else x
    return t.emit("Mul", [x, t.emit("Sigmoid", [scaled], layer)], layer)


def gelu(t: Translation, layer: Layer) -> str:
    """Hendrycks and Gimpel 2016; an operation of its own only since operator set 20."""
    x = t.input(layer, 0)
    if layer.data["approximation_mode"] == "ERF":
        inner = t.emit("Erf", [t.emit("Div", [x, _number(t, sqrt(2))], layer)], layer)
    else:
        cubed = t.emit("Mul", [t.emit("Pow", [x, _number(t, 3)], layer), _number(t, 0.044715)], layer)
        inner = t.emit("Mul", [t.emit("Add", [x, cubed], layer), _number(t, sqrt(2 / np.pi))], layer)
        inner = t.emit("Tanh", [inner], layer)
    raised = t.emit("Mul", [x, t.emit("Add", [inner, _number(t, 1)], layer)], layer)
    return t.emit("Mul", [raised, _number(t, 0.5)], layer)


def mvn(t: Translation, layer: Layer) -> str:
    """Mean and, where wanted, variance taken away over axes."""
    x, axes = t.input(layer, 0), axes_of(t, layer, 1)
    centred = t.emit("Sub", [x, t.emit("ReduceMean", [x, axes], layer, keepdims=1)], layer)
    if layer.data["normalize_variance"] != "true":
        return centred
    variance = t.emit("ReduceMean", [t.emit("Mul", [centred, centred], layer), axes], layer, keepdims=1)
    epsilon = _number(t, float(layer.data["eps"]))
    if layer.data["eps_mode"].lower() == "inside_sqrt":
        deviation = t.emit("Sqrt", [t.emit("Add", [variance, epsilon], layer)], layer)
    else:
        deviation = t.emit("Add", [t.emit("Sqrt", [variance], layer), epsilon], layer)
    return t.emit("Div", [centred, deviation], layer)


def attention(t: Translation, layer: Layer) -> str:
    """softmax(Q Kᵀ / √d + mask) V: Vaswani et al. 2017, eq. 1."""
    query, key, value, *rest = t.inputs(layer)
    if layer.data.get("causal") == "true" or (rest and layer.arriving[3].precision == "BOOL"):
        raise UserError("Attention with a causal or a boolean mask cannot be written as ONNX.", received=layer.name)
    width = layer.arriving[0].dims[-1]
    scale = rest[1] if len(rest) > 1 else _number(t, 1 / sqrt(width))
    scores = t.emit("MatMul", [query, _turned(t, layer, key, len(layer.arriving[1].dims))], layer)
    scores = t.emit("Mul", [scores, scale], layer)
    if rest:
        scores = t.emit("Add", [scores, rest[0]], layer)
    return t.emit("MatMul", [t.emit("Softmax", [scores], layer, axis=-1), value], layer)


def fake_quantize(t: Translation, layer: Layer) -> str:
    """Clip to a range, round to one of so many levels, and spread over another range: what an int8 network computes, in floats."""
    x, low, high, out_low, out_high = t.inputs(layer)
    steps = _number(t, int(layer.data["levels"]) - 1)
    clipped = t.emit("Min", [t.emit("Max", [x, low], layer), high], layer)
    step = t.emit("Div", [t.emit("Sub", [high, low], layer), steps], layer)
    levels = t.emit("Round", [t.emit("Div", [t.emit("Sub", [clipped, low], layer), step], layer)], layer)
    out_step = t.emit("Div", [t.emit("Sub", [out_high, out_low], layer), steps], layer)
    return t.emit("Add", [t.emit("Mul", [levels, out_step], layer), out_low], layer)


def group_normalization(t: Translation, layer: Layer) -> str:
    """Wu and He 2018: over the channels of a group and all pixels; then a scale and a shift for each channel."""
    x, scale, shift = t.inputs(layer)
    rank, channels = len(layer.arriving[0].dims), layer.arriving[1].dims[0]
    grouped = t.emit("Reshape", [x, t.tensor([0, int(layer.data["num_groups"]), -1])], layer)
    axes = t.tensor([2])
    centred = t.emit("Sub", [grouped, t.emit("ReduceMean", [grouped, axes], layer, keepdims=1)], layer)
    variance = t.emit("ReduceMean", [t.emit("Mul", [centred, centred], layer), axes], layer, keepdims=1)
    deviation = t.emit("Sqrt", [t.emit("Add", [variance, _number(t, float(layer.data["epsilon"]))], layer)], layer)
    whole = t.emit("Reshape", [t.emit("Div", [centred, deviation], layer), t.emit("Shape", [x], layer)], layer)
    column = t.tensor([channels] + [1] * (rank - 2))
    scale, shift = (t.emit("Reshape", [name, column], layer) for name in (scale, shift))
    return t.emit("Add", [t.emit("Mul", [whole, scale], layer), shift], layer)


def prelu(t: Translation, layer: Layer) -> str:
    """OpenVINO's slopes in a list are of the channels; ONNX would lay them along the last axis."""
    rank, slopes = len(layer.arriving[0].dims), layer.arriving[1].dims
    name = t.input(layer, 1)
    if len(slopes) == 1 and rank > 2:
        name = t.reshaped(layer, 1, [slopes[0]] + [1] * (rank - 2))
    return t.emit("PRelu", [t.input(layer, 0), name], layer)
