"""Gradients through the last operations of a compiled graph, in NumPy: reverse mode by a table of rules. No torch.

OpenVINO computes the values of the operations; what is here goes back over them, one rule an operation. A rule takes the operation,
the values of its inputs and outputs and the gradient by each output, and gives the gradient by each input (None where there is none
to give). Where a derivative does not exist, each rule says which value it takes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.errors import UserError

Floats = NDArray[np.floating]
#: An output of an operation: the operation's name in its graph, and the output's number.
Port = tuple[str, int]
#: (operation, values of inputs, values of outputs, gradients by outputs) to gradients by inputs.
Rule = Callable[[Any, list[NDArray[Any]], list[NDArray[Any]], list[Floats]], Sequence[Floats | None]]


def port_of(output: Any) -> Port:
    """The name of an output (``openvino.Output``)."""
    return output.get_node().get_friendly_name(), output.get_index()


def reached_from(nodes: Sequence[Any], start: Port) -> list[Any]:
    """Of operations in the order of computing those whose value changes with ``start``, a shape being no value."""
    reached, found = {start}, []
    for node in nodes:
        if node.get_type_name() != "ShapeOf" and any(port_of(each) in reached for each in node.input_values()):
            found.append(node)
            reached |= {port_of(each) for each in node.outputs()}
    return found


def gradient(
    nodes: Sequence[Any], values: Mapping[Port, NDArray[Any]], start: Port, end: Port, seed: Floats
) -> NDArray[np.float64]:
    """The gradient by ``start`` of the sum of ``seed`` times ``end``.

    Args:
        nodes: the operations between the two, in the order of computing, as ``reached_from`` gives them.
        values: of the inputs and outputs of each.
        start, end: outputs of the graph.
        seed: of the shape of ``end``.

    Returns:
        An array of the shape of ``start``, in float64.

    Raises:
        UserError: an operation that has no rule here lies between them.
    """
    gradients: dict[Port, Floats] = {end: np.asarray(seed, np.float64)}
    for node in reversed(nodes):
        outputs = [port_of(each) for each in node.outputs()]
        if start in outputs or not any(port in gradients for port in outputs):
            continue
        given = [gradients.get(port, np.zeros(values[port].shape)) for port in outputs]
        inputs = [port_of(each) for each in node.input_values()]
        found = _rule(node)(node, [values[port] for port in inputs], [values[port] for port in outputs], given)
        for port, each in zip(inputs, found, strict=False):
            if each is not None:
                gradients[port] = gradients.get(port, 0.0) + each
    return np.asarray(gradients.get(start, np.zeros(values[start].shape)), np.float64)


def _rule(node: Any) -> Rule:
    name = node.get_type_name()
    if name not in RULES:
        raise UserError(
            f"The network pools its last map through an operation that no gradient is known of here: {name}.",
            expected=f"one of {', '.join(sorted(RULES))}",
            hint="--method occlusion",
        )
    return RULES[name]


def _like(gradient: Floats, value: NDArray[Any]) -> Floats:
    """Summed over what was repeated to give the gradient's shape (broadcasting)."""
    summed = gradient.sum(axis=tuple(range(gradient.ndim - value.ndim)))
    repeated = tuple(axis for axis in range(value.ndim) if value.shape[axis] == 1 != summed.shape[axis])
    return summed.sum(axis=repeated, keepdims=True).reshape(value.shape)


def _axes(inputs: list[NDArray[Any]], at: int = 1) -> tuple[int, ...]:
    return tuple(int(axis) for axis in np.atleast_1d(inputs[at]))


def _multiply(node: Any, x: list[Any], y: list[Any], g: list[Floats]) -> list[Floats]:
    return [_like(g[0] * x[1], x[0]), _like(g[0] * x[0], x[1])]


def _divide(node: Any, x: list[Any], y: list[Any], g: list[Floats]) -> list[Floats]:
    return [_like(g[0] / x[1], x[0]), _like(-g[0] * x[0] / np.square(x[1]), x[1])]


def _power(node: Any, x: list[Any], y: list[Any], g: list[Floats]) -> list[Floats | None]:
    """By the base. At 0 with an exponent below 1 the slope is infinite: 0 is taken, for a channel that is silent says nothing."""
    base, exponent = np.asarray(x[0], np.float64), np.asarray(x[1], np.float64)
    steep = (base == 0) & (exponent < 1)
    slope = exponent * np.where(steep, 1.0, base) ** (exponent - 1)
    return [_like(np.where(steep, 0.0, g[0] * slope), x[0]), None]


def _matmul(node: Any, x: list[Any], y: list[Any], g: list[Floats]) -> list[Floats]:
    turned = [bool(node.get_attributes()[f"transpose_{side}"]) for side in "ab"]
    a, b = (np.swapaxes(each, -1, -2) if turn else each for each, turn in zip(x, turned, strict=True))
    found = g[0] @ np.swapaxes(b, -1, -2), np.swapaxes(a, -1, -2) @ g[0]
    return [_like(np.swapaxes(each, -1, -2) if turn else each, of) for each, turn, of in zip(found, turned, x, strict=True)]


def _mean(node: Any, x: list[Any], y: list[Any], g: list[Floats]) -> list[Floats]:
    count = x[0].size // y[0].size
    return [_spread(g[0], x) / count]


def _sum(node: Any, x: list[Any], y: list[Any], g: list[Floats]) -> list[Floats]:
    return [_spread(g[0], x)]


def _max(node: Any, x: list[Any], y: list[Any], g: list[Floats]) -> list[Floats]:
    """Equal maxima share the gradient, as ``torch.amax`` has it."""
    best = x[0] == x[0].max(axis=_axes(x), keepdims=True)
    return [best * _spread(g[0], x) / best.sum(axis=_axes(x), keepdims=True)]


def _spread(g: Floats, x: list[Any]) -> Floats:
    """A reduction's gradient repeated over the axes that were reduced."""
    axes = {axis % x[0].ndim for axis in _axes(x)}
    kept = [1 if axis in axes else side for axis, side in enumerate(x[0].shape)]
    return np.broadcast_to(g.reshape(kept), x[0].shape)


def _pooled_average(node: Any, x: list[Any], y: list[Any], g: list[Floats]) -> list[Floats]:
    if y[0].size != y[0].shape[0] * y[0].shape[1]:
        raise UserError("The network averages its last map to more than one place.", expected="one", hint="--method occlusion")
    return [np.broadcast_to(g[0], x[0].shape) * (y[0].size / x[0].size)]


def _max_pool(node: Any, x: list[Any], y: list[Any], g: list[Floats]) -> list[Floats]:
    """(B, C, h, w); of equal values in a window the first in reading order has the gradient, as torch has it."""
    how = node.get_attributes()
    (down, right), (y_step, x_step) = how["kernel"], how["strides"]
    begin, end = how["pads_begin"], how["pads_end"]
    space = ((0, 0), (0, 0), (begin[0], end[0] + y_step), (begin[1], end[1] + x_step))  # ceil mode may look beyond the edge
    padded = np.pad(np.asarray(x[0], np.float64), space, constant_values=-np.inf)
    found, left = np.zeros_like(padded), np.ones(y[0].shape, bool)
    h, w = y[0].shape[2:]
    for i in range(down):
        for j in range(right):
            window = np.s_[..., i : i + y_step * h : y_step, j : j + x_step * w : x_step]
            taken = left & (padded[window] == y[0])
            found[window] += np.where(taken, g[0], 0)
            left &= ~taken
    return [found[..., begin[0] : begin[0] + x[0].shape[2], begin[1] : begin[1] + x[0].shape[3]]]


def _convolution(node: Any, x: list[Any], y: list[Any], g: list[Floats]) -> list[Floats | None]:
    """Of one pixel by one, as some networks have behind their pooling."""
    if x[1].shape[2:] != (1, 1) or set(node.get_attributes()["strides"]) != {1}:
        raise UserError("The network convolves behind its last map.", expected="1×1 convolutions", hint="--method occlusion")
    return [np.einsum("bohw,oi->bihw", g[0], x[1][:, :, 0, 0]), None]


def _gather(node: Any, x: list[Any], y: list[Any], g: list[Floats]) -> list[Floats | None]:
    axis = _axes(x, 2)[0] % x[0].ndim
    index = np.asarray(x[1]) % x[0].shape[axis]
    found = np.zeros((x[0].shape[axis], *np.delete(x[0].shape, axis)))
    taken = np.moveaxis(g[0], range(axis, axis + index.ndim), range(index.ndim))
    np.add.at(found, index, taken)
    return [np.moveaxis(found, 0, axis), None, None]


def _slice(node: Any, x: list[Any], y: list[Any], g: list[Floats]) -> list[Floats | None]:
    start, stop, step = (np.atleast_1d(each).tolist() for each in x[1:4])
    axes = np.atleast_1d(x[4]).tolist() if len(x) > 4 else range(len(start))
    parts = [slice(None)] * x[0].ndim
    for axis, *bounds in zip(axes, start, stop, step, strict=True):
        parts[axis] = slice(*bounds)
    found = np.zeros(x[0].shape)
    found[tuple(parts)] = g[0]
    return [found, *[None] * (len(x) - 1)]


def _transpose(node: Any, x: list[Any], y: list[Any], g: list[Floats]) -> list[Floats | None]:
    return [g[0].transpose(np.argsort(x[1])), None]


def _joined(node: Any, x: list[Any], y: list[Any], g: list[Floats]) -> list[Floats]:
    axis = int(node.get_attributes()["axis"])
    return np.split(g[0], np.cumsum([each.shape[axis] for each in x])[:-1], axis=axis)


def _apart(node: Any, x: list[Any], y: list[Any], g: list[Floats]) -> list[Floats]:
    return [np.concatenate(g, axis=_axes(x)[0])]


def _normalised(node: Any, x: list[Any], y: list[Any], g: list[Floats]) -> list[Floats | None]:
    """To mean 0 and variance 1 over some axes (Ba et al. 2016, LayerNorm)."""
    how, axes = node.get_attributes(), tuple(_axes(x))
    if not how["normalize_variance"]:
        return [g[0] - g[0].mean(axes, keepdims=True), None]
    variance = np.var(np.asarray(x[0], np.float64), axis=axes, keepdims=True)
    inside = str(how["eps_mode"]).lower() == "inside_sqrt"
    scale = np.sqrt(variance + how["eps"]) if inside else np.sqrt(variance) + how["eps"]
    sure = np.asarray(y[0], np.float64) * (1 if inside else scale / np.sqrt(np.maximum(variance, 1e-300)))
    return [(g[0] - g[0].mean(axes, keepdims=True) - y[0] * (g[0] * sure).mean(axes, keepdims=True)) / scale, None]


def _batch_norm(node: Any, x: list[Any], y: list[Any], g: list[Floats]) -> list[Floats | None]:
    """With the statistics of training (Ioffe and Szegedy 2015)."""
    scale = x[1] / np.sqrt(x[4] + node.get_attributes()["epsilon"])
    return [g[0] * scale.reshape(1, -1, *[1] * (x[0].ndim - 2)), None, None, None, None]


def _gelu(node: Any, x: list[Any], y: list[Any], g: list[Floats]) -> list[Floats]:
    """x Φ(x) (Hendrycks and Gimpel 2016); the slope of its form with tanh differs by less than 0.002."""
    v = np.asarray(x[0], np.float64)
    below = 0.5 * (1 + np.vectorize(math.erf, otypes=[float])(v / math.sqrt(2)))
    return [g[0] * (below + v * np.exp(-0.5 * v * v) / math.sqrt(2 * math.pi))]


def _swish(node: Any, x: list[Any], y: list[Any], g: list[Floats]) -> list[Floats]:
    s = 1 / (1 + np.exp(-np.asarray(x[0], np.float64)))
    return [g[0] * s * (1 + x[0] * (1 - s))]


def _hard_swish(node: Any, x: list[Any], y: list[Any], g: list[Floats]) -> list[Floats]:
    return [g[0] * np.where(x[0] <= -3, 0.0, np.where(x[0] >= 3, 1.0, x[0] / 3 + 0.5))]


def _reshaped(node: Any, x: list[Any], y: list[Any], g: list[Floats]) -> list[Floats]:
    return [g[0].reshape(x[0].shape)]


#: Operation (as OpenVINO names its kind) to its rule.
RULES: dict[str, Rule] = {
    "Abs": lambda node, x, y, g: [g[0] * np.sign(x[0])],
    "AdaptiveAvgPool": _pooled_average,
    "Add": lambda node, x, y, g: [_like(g[0], x[0]), _like(g[0], x[1])],
    "BatchNormInference": _batch_norm,
    "Concat": _joined,
    "Convert": lambda node, x, y, g: [g[0]],
    "Convolution": _convolution,
    "Divide": _divide,
    "Gather": _gather,
    "Gelu": _gelu,
    "HSwish": _hard_swish,
    "MVN": _normalised,
    "MatMul": _matmul,
    "MaxPool": _max_pool,
    "Multiply": _multiply,
    "Power": _power,
    "ReduceMax": _max,
    "ReduceMean": _mean,
    "ReduceSum": _sum,
    "Relu": lambda node, x, y, g: [g[0] * (x[0] > 0)],
    "Reshape": _reshaped,
    "Sigmoid": lambda node, x, y, g: [g[0] * y[0] * (1 - y[0])],
    "Sign": lambda node, x, y, g: [np.zeros(x[0].shape)],
    "Slice": _slice,
    "Split": _apart,
    "Squeeze": _reshaped,
    "Subtract": lambda node, x, y, g: [_like(g[0], x[0]), _like(-g[0], x[1])],
    "Swish": _swish,
    "Tanh": lambda node, x, y, g: [g[0] * (1 - np.square(y[0]))],
    "Transpose": _transpose,
    "Unsqueeze": _reshaped,
}
