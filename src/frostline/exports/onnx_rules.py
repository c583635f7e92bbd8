"""What each operation of an OpenVINO graph is in ONNX: one table, a small function for whatever is not the same there.

OpenVINO specifies them at docs.openvino.ai ("Operation sets"), ONNX at onnx.ai ("Operators"); what differs is named where it does.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from frostline.errors import UserError
from frostline.exports import onnx_layers as layers
from frostline.exports.ir import Layer
from frostline.exports.onnx_layers import axes_of
from frostline.exports.onnx_writing import TYPES, Rule, Translation


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
        return t.emit(operation, [t.input(layer, 0), axes_of(t, layer, 1)], layer, keepdims=keep)

    return rule


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
    axes = [axes_of(t, layer, 1)] if len(layer.sources) > 1 else []
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
    "AvgPool": layers.avg_pool,
    "Clamp": layers.clamp,
    "Convert": _convert,
    "Convolution": layers.convolution,
    "Divide": _divide,
    "FakeQuantize": layers.fake_quantize,
    "Gelu": layers.gelu,
    "GroupConvolution": layers.group_convolution,
    "GroupNormalization": layers.group_normalization,
    "MVN": layers.mvn,
    "MatMul": layers.matmul,
    "MaxPool": layers.max_pool,
    "PReLU": layers.prelu,
    "ScaledDotProductAttention": layers.attention,
    "Swish": layers.swish,
}
