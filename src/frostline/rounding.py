"""Weights and biases of a graph that bf16 holds exactly, chosen so that what each convolution gives changes least.

bf16 has 8 bits of precision, and an engine that computes in it rounds each weight and each bias to the nearest of its values. The
inputs of a layer are mostly positive and much alike, so that the errors of its weights add up: what it gives is moved as a whole.
Here each number is rounded in turn, and what is lost by it is made up for by those that are still to be rounded, in the way that
keeps the layer's outputs on typical inputs nearest to what they were (Frantar et al. 2023, "GPTQ", section 3, after Hassibi and
Stork 1993). The bias counts as the weight of an input that is always one, and is rounded first.
Legend: G groups, O outputs and D inputs of each, where a convolution's kernel makes k·k inputs of a channel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline import engine
from frostline.feature_cache import from_stored, to_stored
from frostline.vino import ops, ov

Doubles = NDArray[np.float64]

#: Convolutions with more inputs than this are left to the engine's own rounding: so many errors are small in their sum, and D² sums
#: of products would take hundreds of megabytes.
LARGEST = 2304
#: Places of an image at which a convolution's inputs are looked at, at most.
PLACES = 1024
#: Weights after whose rounding the others are changed together.
BLOCK = 32
#: Of the mean square of an input, added to each: what was never seen to vary is not relied on.
DAMPING = 1e-4
#: Operations that compute: a layer each, as ``convert.with_exact_layers`` counts them.
COMPUTING = ("Convolution", "GroupConvolution", "MatMul")


def nearest_bf16(values: NDArray[Any]) -> NDArray[np.float32]:
    """The nearest bf16 numbers, as float32; ties to even."""
    return np.asarray(from_stored(to_stored(values.astype(np.float32), "bfloat16"), "bfloat16"), np.float32)


def rounded_weights(weights: Doubles, products: Doubles) -> NDArray[np.float32]:
    """bf16 numbers near ``weights`` that keep their products with the inputs.

    Args:
        weights: (G, O, D).
        products: (G, D, D) mean products of the inputs two by two.

    Returns:
        (G, O, D). The inputs are taken in order: those in front are nearest to what they were.
    """
    count = weights.shape[2]
    damped = products + np.eye(count) * (DAMPING * np.trace(products, axis1=1, axis2=2) / count + 1e-12)[:, None, None]
    upper = np.linalg.cholesky(np.linalg.inv(damped)).transpose(0, 2, 1)
    left, rounded = weights.copy(), np.empty(weights.shape, np.float32)
    for start in range(0, count, BLOCK):
        end = min(start + BLOCK, count)
        lost = np.empty((*weights.shape[:2], end - start))
        for i in range(start, end):
            rounded[:, :, i] = nearest_bf16(left[:, :, i])
            lost[:, :, i - start] = (left[:, :, i] - rounded[:, :, i]) / upper[:, i, i, None]
            left[:, :, i + 1 : end] -= lost[:, :, i - start, None] * upper[:, i, None, i + 1 : end]
        left[:, :, end:] -= lost @ upper[:, start:end, end:]  # the rest at once: a product of matrices reads it from memory once
    return rounded


def nearest_layers(graph: ov.Model) -> list[NDArray[np.float32]]:
    """What ``rounded_layers`` gives where each number is rounded to the nearest, as the engine does."""
    return [nearest_bf16(layer.weights()) for layer in _layers(graph)]


def rounded_layers(graph: ov.Model, probe: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    """For each convolution that can be rounded (G, O, 1 + D): its bias and its weights in bf16.

    Args:
        graph: with an input "images".
        probe: (n, h, w, 3) uint8 images on which the inputs of its convolutions are looked at.
    """
    copy = graph.clone()  # looking at its inputs adds outputs to it
    layers = list(_layers(copy))
    seen = zip(layers, _products(copy, layers, probe), strict=True)
    return [rounded_weights(layer.weights(), products) for layer, products in seen]


def with_rounded_weights(graph: ov.Model, rounded: Sequence[NDArray[np.float32]], exact: int = 0) -> ov.Model:
    """A copy of the graph with the weights that ``rounded_layers`` gave for it, but for its first ``exact`` computing layers."""
    copy = graph.clone()
    for layer, weights in zip(_layers(copy), rounded, strict=True):
        if layer.number > exact:
            layer.replace(weights)
    copy.validate_nodes_and_infer_types()
    return copy


@dataclass(frozen=True)
class _Layer:
    """A convolution with constant weights, and the bias that is added behind it where there is one.

    Attributes:
        number: of the computing layer in the graph, from 1 on; products of matrices are counted too.
        operation: the convolution.
        kernel: the input of it that takes its weights, ([G,] O, D / (k·k), k, k).
        bias: the input of an addition that takes the bias, (1, G·O, 1, 1); None without.
    """

    number: int
    operation: Any
    kernel: Any
    bias: Any

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """G, O, channels of a group, and the kernel's sides."""
        shape = list(self.kernel.get_shape())
        g, o, channels, height, width = shape if self.operation.get_type_name() == "GroupConvolution" else [1, *shape]
        return g, o, channels, height, width

    def weights(self) -> Doubles:
        """(G, O, 1 + D): the bias, then the kernel's."""
        g, o, *_ = self.shape
        kernel = _values(self.kernel).reshape(g, o, -1)
        bias = np.zeros((g, o, 1)) if self.bias is None else _values(self.bias).reshape(g, o, 1)
        return np.concatenate([bias, kernel], axis=2)

    def replace(self, weights: NDArray[np.float32]) -> None:
        """Set what ``weights`` gives."""
        _set(self.kernel, weights[:, :, 1:])
        if self.bias is not None:
            _set(self.bias, weights[:, :, 0])

    def inputs(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """(G, P, 1 + D) what the kernel meets at up to ``PLACES`` places of the layer's input (1, C, h, w), and a one in front."""
        g, _, channels, height, width = self.shape
        about = self.operation.get_attributes()
        (down, right), (tall, wide) = about["strides"], about["dilations"]
        padded = np.pad(x[0], ((0, 0), *zip(about["pads_begin"], about["pads_end"], strict=True)))
        extent = ((height - 1) * tall + 1, (width - 1) * wide + 1)
        seen = np.lib.stride_tricks.sliding_window_view(padded, extent, axis=(1, 2))[:, ::down, ::right, ::tall, ::wide]
        rows, columns = np.divmod(_places(seen.shape[1] * seen.shape[2]), seen.shape[2])
        kernels = seen[:, rows, columns].reshape(g, channels, len(rows), height * width)
        flat = kernels.transpose(0, 2, 1, 3).reshape(g, len(rows), -1)
        return np.concatenate([np.ones((g, len(rows), 1), np.float32), flat], axis=2)


def _places(count: int) -> NDArray[np.int64]:
    """Up to ``PLACES`` numbers below ``count``, evenly spread."""
    return np.linspace(0, count - 1, min(count, PLACES)).round().astype(np.int64)


def _values(port: Any) -> Doubles:
    return np.asarray(port.get_source_output().get_node().data, np.float64)


def _set(port: Any, values: NDArray[np.float32]) -> None:
    port.replace_source_output(ops.constant(np.ascontiguousarray(values.reshape(list(port.get_shape())))).output(0))


def _layers(graph: ov.Model) -> Iterator[_Layer]:
    computing = (operation for operation in graph.get_ordered_ops() if operation.get_type_name() in COMPUTING)
    for number, operation in enumerate(computing, 1):
        if operation.get_type_name() == "MatMul" or operation.get_attributes()["auto_pad"] != "explicit":
            continue
        kernel = operation.input(1)
        if not _constant(kernel) or len(kernel.get_shape()) != 4 + (operation.get_type_name() == "GroupConvolution"):
            continue
        layer = _Layer(number, operation, kernel, _bias_of(operation))
        if np.prod(layer.shape[2:]) <= LARGEST:
            yield layer


def _bias_of(operation: Any) -> Any:
    """Where one constant for each output channel is added behind a convolution: the addition's input; None where none is."""
    readers = list(operation.output(0).get_target_inputs())
    if len(readers) != 1 or (addition := readers[0].get_node()).get_type_name() != "Add":
        return None
    bias = addition.input(1 - readers[0].get_index())
    channels = operation.get_output_partial_shape(0)[1].get_length()
    return bias if _constant(bias) and list(bias.get_shape()) == [1, channels, 1, 1] else None


def _constant(port: Any) -> bool:
    node = port.get_source_output().get_node()
    return node.get_type_name() == "Constant" and port.get_element_type() == ov.Type.f32


def _products(graph: ov.Model, layers: Sequence[_Layer], probe: NDArray[np.uint8]) -> list[Doubles]:
    """For each layer (G, 1 + D, 1 + D): the mean products of its inputs two by two, over the probe's images."""
    outputs = [ops.result(layer.operation.input_value(0)) for layer in layers]
    compiled = engine.core().compile_model(ov.Model(outputs, graph.get_parameters()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    sums: list[Any] = [0.0] * len(layers)
    for image in probe:
        found = compiled(image[None])
        for number, layer in enumerate(layers):
            x = layer.inputs(found[number])
            sums[number] = sums[number] + (x.transpose(0, 2, 1) @ x).astype(np.float64) / x.shape[1]
    return [total / len(probe) for total in sums]
