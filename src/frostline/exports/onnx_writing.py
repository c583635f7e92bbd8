"""The ONNX graph as it grows: what the rules of ``onnx_rules`` write into. Needs the package onnx."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import frostline
from frostline.errors import UserError
from frostline.exports.ir import Constant, Layer, Port, Source, constant

#: What the file asks of its reader: the operator set of ONNX 1.13 (December 2022), and the file format that came with it.
OPSET, IR_VERSION = 18, 8
#: Constants of fewer bytes are always in the file itself: readers need shapes and axes before they open other files.
LEAST_OUTSIDE = 4096
#: ONNX's element type for OpenVINO's names of them: lower-case in attributes, upper-case at ports.
TYPES = {
    "f32": TensorProto.FLOAT,
    "fp32": TensorProto.FLOAT,
    "f16": TensorProto.FLOAT16,
    "fp16": TensorProto.FLOAT16,
    "f64": TensorProto.DOUBLE,
    "fp64": TensorProto.DOUBLE,
    "i8": TensorProto.INT8,
    "u8": TensorProto.UINT8,
    "i32": TensorProto.INT32,
    "i64": TensorProto.INT64,
    "bool": TensorProto.BOOL,
    "boolean": TensorProto.BOOL,
}

Rule = Callable[["Translation", Layer], "str | Sequence[str]"]


class Translation:
    """The ONNX graph as it grows, layer by layer; rules ask it for what arrives at a layer, and give it nodes.

    Args:
        layers: of the whole graph, in order.
        weights: the bytes that constants lie in.
        outside: the name of the file with these bytes, for large constants to point into; "" puts them all into the graph.
    """

    def __init__(self, layers: Sequence[Layer], weights: bytes, outside: str = "") -> None:
        self._weights, self._outside = memoryview(weights), outside
        self._constants = {layer.number: constant(layer) for layer in layers if layer.kind == "Const"}
        self._names: dict[Source, str] = {}
        self._taken: set[str] = set()
        self._initializers: dict[str, TensorProto] = {}
        self.nodes: list[onnx.NodeProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def take(self, layer: Layer, rules: Mapping[str, Rule]) -> None:
        """Translate one layer; those before it have been."""
        if layer.kind == "Const":
            return  # written when it is first asked for: axes and the like become attributes
        if layer.kind == "Parameter":
            (number, port), name = next(iter(layer.outputs.items())), layer.name
            self._names[layer.number, number] = name
            self._inputs.append(_value(name, port))
        elif layer.kind == "Result":
            self._finish(layer)
        else:
            made = rules[layer.kind](self, layer)
            made = [made] if isinstance(made, str) else made
            for (number, _), name in zip(sorted(layer.outputs.items()), made, strict=False):
                self._names[layer.number, number] = name

    def _finish(self, layer: Layer) -> None:
        name = layer.named[0] if layer.named else layer.name
        self.nodes.append(helper.make_node("Identity", [self.input(layer, 0)], [name], name=name))
        self._outputs.append(_value(name, layer.arriving[0]))

    def input(self, layer: Layer, number: int) -> str:
        """The name of what arrives at a layer's input of this number."""
        source = layer.sources[number]
        if source not in self._names:
            self._names[source] = self._write(self._constants[source[0]], f"const_{source[0]}")
        return self._names[source]

    def inputs(self, layer: Layer) -> list[str]:
        """The names of all that arrives at a layer."""
        return [self.input(layer, number) for number in range(len(layer.sources))]

    def known(self, layer: Layer, number: int) -> NDArray[Any]:
        """The values of an input that must be a constant; a ``UserError`` where it is computed."""
        found = self.constant(layer, number)
        if found is None:
            raise UserError(f"{layer.kind} with input {number} computed cannot be written as ONNX.", received=layer.name)
        return found.read(self._weights)

    def constant(self, layer: Layer, number: int) -> Constant | None:
        """Where an input's values lie; None where it is computed."""
        return self._constants.get(layer.sources[number][0])

    def emit(self, operation: str, inputs: Sequence[str], layer: Layer, outputs: int = 1, **attributes: Any) -> Any:
        """Add a node for a layer; returns the name of what it gives, or names where ``outputs`` are several."""
        names = [self._free(layer.name) for _ in range(outputs)]
        self.nodes.append(helper.make_node(operation, list(inputs), names, name=names[0], **attributes))
        return names[0] if outputs == 1 else names

    def _free(self, name: str) -> str:
        """This name, or it with the first number that nothing else is called."""
        number, free = 0, name
        while free in self._taken:
            number += 1
            free = f"{name}.{number}"
        self._taken.add(free)
        return free

    def tensor(self, values: Any, dtype: Any = np.int64) -> str:
        """A constant of our own."""
        array = np.asarray(values, dtype)
        name = f"{array.dtype}_{array.shape}_{array.tobytes().hex()}".replace(" ", "")
        self._initializers.setdefault(name, numpy_helper.from_array(array, name))
        return name

    def reshaped(self, layer: Layer, number: int, shape: Sequence[int]) -> str:
        """An input in another shape; a constant's bytes stay where they are."""
        found = self.constant(layer, number)
        if found is not None:
            other = Constant(found.dtype, tuple(shape), found.offset, found.length)
            return self._write(other, f"const_{layer.sources[number][0]}_as_{'x'.join(map(str, shape))}")
        return str(self.emit("Reshape", [self.input(layer, number), self.tensor(shape)], layer))

    def _write(self, found: Constant, name: str) -> str:
        if self._outside and found.length >= LEAST_OUTSIDE:
            proto = TensorProto(name=name, dims=found.shape, data_location=TensorProto.EXTERNAL)
            proto.data_type = helper.np_dtype_to_tensor_dtype(found.dtype)
            for key, value in (("location", self._outside), ("offset", found.offset), ("length", found.length)):
                proto.external_data.add(key=key, value=str(value))
        else:
            proto = numpy_helper.from_array(found.read(self._weights), name)
        self._initializers.setdefault(name, proto)
        return name

    def model(self) -> onnx.ModelProto:
        """What was translated."""
        graph = helper.make_graph(self.nodes, "frostline", self._inputs, self._outputs, list(self._initializers.values()))
        opsets = [helper.make_opsetid("", OPSET)]
        about = {"producer_name": "frostline", "producer_version": frostline.__version__}
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, **about)


def _value(name: str, port: Port) -> onnx.ValueInfoProto:
    shape = [dim if dim >= 0 else ("batch" if axis == 0 else f"{name}_{axis}") for axis, dim in enumerate(port.dims)]
    return helper.make_tensor_value_info(name, TYPES[port.precision.lower()], shape)
