"""What each operation of an OpenVINO graph is in ONNX: one table, a small function for whatever is not the same there.

OpenVINO's are specified at docs.openvino.ai ("Operation sets"), ONNX' at onnx.ai ("Operators"); differences are named where they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any

import numpy as np

from frostline.errors import UserError
from frostline.ir import Layer
from frostline.onnx_writing import TYPES, Rule, Translation


def _same(operation: str) -> Rule:
    """The same operation under another name, with the same inputs."""
    return lambda t, layer: t.emit(operation, t.inputs(layer), layer)


def _along(operation: str) -> Rule:
    """The same, along an axis."""
    return lambda t, layer: t.emit(operation, t.inputs(layer), layer, axis=int(layer.data["axis"]))


def _reduced(operation: str) -> Rule:
    """A reduction over axes, which ONNX takes as an input since operator set 18."""

    def rule(t: Translation, layer: Layer) -> str:
        keep = int(layer.data["keep_dims"] == "true")
        return t.emit(operation, [t.input(layer, 0), _axes(t, layer, 1)], layer, keepdims=keep)

    return rule


def _axes(t: Translation, layer: Layer, number: int) -> str:
    """Axes, which ONNX wants as a list, of 64 bits."""
    return t.tensor(t.known(layer, number).reshape(-1))


def _divide(t: Translation, layer: Layer) -> str:
    if layer.arriving[0].precision in ("FP32", "FP16", "FP64"):
        return t.emit("Div", t.inputs(layer), layer)
    raise UserError("A division of whole numbers cannot be written as ONNX: it rounds otherwise.", received=layer.name)


def _convert(t: Translation, layer: Layer) -> str:
    return t.emit("Cast", [t.input(layer, 0)], layer, to=TYPES[layer.data["destination_type"]])


def _transpose(t: Translation, layer: Layer) -> str:
    order = t.known(layer, 1).tolist() or list(reversed(range(len(layer.arriving[0].dims))))
    return t.emit("Transpose", [t.input(layer, 0)], layer, perm=order)


def _gather(t: Translation, layer: Layer) -> str:
    if int(layer.data.get("batch_dims", "0")):
        raise UserError("A Gather with batch dimensions cannot be written as ONNX.", received=layer.name)
    return t.emit("Gather", [t.input(layer, 0), t.input(layer, 1)], layer, axis=int(t.known(layer, 2)))


def _reshape(t: Translation, layer: Layer) -> str:
    # ONNX copies a side where the pattern has 0, as OpenVINO does with special_zero; without it, no pattern of ours has a 0
    return t.emit("Reshape", [t.input(layer, 0), _wide(t, layer, 1)], layer)


def _wide(t: Translation, layer: Layer, number: int) -> str:
    """A shape or places, in the 64 bits that ONNX wants."""
    if t.constant(layer, number) is not None:
        return t.tensor(t.known(layer, number))
    name = t.input(layer, number)
    return name if layer.arriving[number].precision == "I64" else t.emit("Cast", [name], layer, to=TYPES["i64"])


def _broadcast(t: Translation, layer: Layer) -> str:
    return t.emit("Expand", [t.input(layer, 0), _wide(t, layer, 1)], layer)


def _shape_of(t: Translation, layer: Layer) -> str:
    shape = t.emit("Shape", [t.input(layer, 0)], layer)
    kind = layer.data.get("output_type", "i64")
    return shape if kind == "i64" else t.emit("Cast", [shape], layer, to=TYPES[kind])


def _squeeze(t: Translation, layer: Layer) -> str:
    axes = [_axes(t, layer, 1)] if len(layer.sources) > 1 else []
    return t.emit(layer.kind, [t.input(layer, 0), *axes], layer)


def _split(t: Translation, layer: Layer) -> Sequence[str]:
    parts = int(layer.data["num_splits"])
    axis = int(t.known(layer, 1))
    made = t.emit("Split", [t.input(layer, 0)], layer, outputs=parts, axis=axis, num_outputs=parts)
    return [made] if parts == 1 else made


def _variadic_split(t: Translation, layer: Layer) -> Sequence[str]:
    lengths = t.known(layer, 2).reshape(-1)
    if (lengths < 0).any():
        side = layer.arriving[0].dims[int(t.known(layer, 1))]
        lengths = np.where(lengths < 0, side - lengths[lengths >= 0].sum(), lengths)
    made = t.emit("Split", [t.input(layer, 0), t.tensor(lengths)], layer, outputs=len(lengths), axis=int(t.known(layer, 1)))
    return [made] if len(lengths) == 1 else made


def _slice(t: Translation, layer: Layer) -> str:
    start, stop, step, *axes = (_wide(t, layer, number) for number in range(1, len(layer.sources)))
    listed = axes or [t.tensor(np.arange(t.known(layer, 1).size))]
    return t.emit("Slice", [t.input(layer, 0), start, stop, *listed, step], layer)


def _range(t: Translation, layer: Layer) -> str:
    to = TYPES[layer.data["output_type"]]
    return t.emit("Range", [t.emit("Cast", [name], layer, to=to) for name in t.inputs(layer)], layer)


def _matmul(t: Translation, layer: Layer) -> str:
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


def _convolution(t: Translation, layer: Layer) -> str:
    return t.emit("Conv", t.inputs(layer), layer, **_window(layer))


def _group_convolution(t: Translation, layer: Layer) -> str:
    """OpenVINO's filters are (groups, O / groups, I / groups, …), ONNX' (O, I / groups, …)."""
    groups, outputs, *rest = layer.arriving[1].dims
    filters = t.reshaped(layer, 1, [groups * outputs, *rest])
    return t.emit("Conv", [t.input(layer, 0), filters], layer, group=groups, **_window(layer))


def _pooling(layer: Layer) -> dict[str, Any]:
    return {**_window(layer), "kernel_shape": layer.numbers("kernel"), "ceil_mode": int(layer.data["rounding_type"] != "floor")}


def _max_pool(t: Translation, layer: Layer) -> str:
    """Of its two outputs the second, the places of the maxima, is read by none of our graphs."""
    return t.emit("MaxPool", [t.input(layer, 0)], layer, **_pooling(layer))


def _avg_pool(t: Translation, layer: Layer) -> str:
    """Without dilations, which ONNX knows only since operator set 19."""
    attributes = _pooling(layer)
    if set(layer.numbers("dilations")) - {1}:
        raise UserError("An average over pixels apart cannot be written as ONNX.", received=layer.name)
    attributes.pop("dilations", None)
    counted = int(layer.data["exclude-pad"] == "false")
    return t.emit("AveragePool", [t.input(layer, 0)], layer, count_include_pad=counted, **attributes)


def _number(t: Translation, value: float) -> str:
    return t.tensor(value, np.float32)


def _clamp(t: Translation, layer: Layer) -> str:
    return t.emit("Clip", [t.input(layer, 0), *(_number(t, float(layer.data[key])) for key in ("min", "max"))], layer)


def _swish(t: Translation, layer: Layer) -> str:
    x, *beta = t.inputs(layer)
    scaled = t.emit("Mul", [x, *beta], layer) if beta else x
    return t.emit("Mul", [x, t.emit("Sigmoid", [scaled], layer)], layer)


def _gelu(t: Translation, layer: Layer) -> str:
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


def _mvn(t: Translation, layer: Layer) -> str:
    """Mean and, where wanted, variance taken away over axes."""
    x, axes = t.input(layer, 0), _axes(t, layer, 1)
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


def _attention(t: Translation, layer: Layer) -> str:
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


def _fake_quantize(t: Translation, layer: Layer) -> str:
    """Clip to a range, round to one of so many levels, and spread over another range: what an int8 network computes, in floats."""
    x, low, high, out_low, out_high = t.inputs(layer)
    steps = _number(t, int(layer.data["levels"]) - 1)
    clipped = t.emit("Min", [t.emit("Max", [x, low], layer), high], layer)
    step = t.emit("Div", [t.emit("Sub", [high, low], layer), steps], layer)
    levels = t.emit("Round", [t.emit("Div", [t.emit("Sub", [clipped, low], layer), step], layer)], layer)
    out_step = t.emit("Div", [t.emit("Sub", [out_high, out_low], layer), steps], layer)
    return t.emit("Add", [t.emit("Mul", [levels, out_step], layer), out_low], layer)


RULES: dict[str, Rule] = {
    # the same, but for the name
    "Abs": _same("Abs"),
    "Add": _same("Add"),
    "Ceiling": _same("Ceil"),
    "Erf": _same("Erf"),
    "Exp": _same("Exp"),
    "Floor": _same("Floor"),
    "HSwish": _same("HardSwish"),
    "Log": _same("Log"),
    "Maximum": _same("Max"),
    "Minimum": _same("Min"),
    "Mish": _same("Mish"),
    "Multiply": _same("Mul"),
    "Negative": _same("Neg"),
    "PRelu": _same("PRelu"),
    "Power": _same("Pow"),
    "ReLU": _same("Relu"),
    "Sigmoid": _same("Sigmoid"),
    "Sign": _same("Sign"),
    "SoftPlus": _same("Softplus"),
    "Sqrt": _same("Sqrt"),
    "Subtract": _same("Sub"),
    "Tanh": _same("Tanh"),
    # along an axis, or over several
    "Concat": _along("Concat"),
    "LogSoftmax": _along("LogSoftmax"),
    "SoftMax": _along("Softmax"),
    "ReduceL2": _reduced("ReduceL2"),
    "ReduceMax": _reduced("ReduceMax"),
    "ReduceMean": _reduced("ReduceMean"),
    "ReduceMin": _reduced("ReduceMin"),
    "ReduceSum": _reduced("ReduceSum"),
    # shapes
    "Broadcast": _broadcast,
    "Gather": _gather,
    "Range": _range,
    "Reshape": _reshape,
    "ShapeOf": _shape_of,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _squeeze,
    "VariadicSplit": _variadic_split,
    # layers
    "AvgPool": _avg_pool,
    "Clamp": _clamp,
    "Convert": _convert,
    "Convolution": _convolution,
    "Divide": _divide,
    "FakeQuantize": _fake_quantize,
    "Gelu": _gelu,
    "GroupConvolution": _group_convolution,
    "MVN": _mvn,
    "MatMul": _matmul,
    "MaxPool": _max_pool,
    "ScaledDotProductAttention": _attention,
    "Swish": _swish,
}
