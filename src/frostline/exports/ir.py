"""The layers of a saved OpenVINO graph, read from its XML and its weights. Needs neither OpenVINO nor torch."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from frostline.errors import UserError

#: Element types of constants, as NumPy has them.
DTYPES = {
    "f32": np.float32,
    "f16": np.float16,
    "f64": np.float64,
    "i8": np.int8,
    "u8": np.uint8,
    "i16": np.int16,
    "u16": np.uint16,
    "i32": np.int32,
    "u32": np.uint32,
    "i64": np.int64,
    "u64": np.uint64,
    "boolean": np.bool_,
}
#: Where a value comes from: the number of a layer, and of its port.
Source = tuple[int, int]


@dataclass(frozen=True)
class Port:
    """A value that passes between layers: its element type, and its shape, -1 where it is not fixed."""

    precision: str
    dims: tuple[int, ...]
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Layer:
    """One operation.

    Attributes:
        number, name, kind: of the layer; the kind is OpenVINO's name of the operation.
        data: its attributes, as text.
        sources: where its inputs come from, in order; arriving: what they are.
        outputs: what leaves it, by port number.
        named: for a result, what it is called.
    """

    number: int
    name: str
    kind: str
    data: Mapping[str, str]
    sources: tuple[Source, ...]
    arriving: tuple[Port, ...]
    outputs: Mapping[int, Port]
    named: tuple[str, ...] = ()

    def numbers(self, key: str) -> list[int]:
        """An attribute that lists whole numbers, such as ``strides``."""
        return [int(part) for part in self.data.get(key, "").split(",") if part.strip()]


@dataclass(frozen=True)
class Constant:
    """Where in the weights a constant lies: its NumPy type, shape, offset and length in bytes."""

    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int
    length: int

    def read(self, weights: bytes | memoryview) -> NDArray:
        """Its values."""
        return np.frombuffer(weights, self.dtype, int(np.prod(self.shape)), self.offset).reshape(self.shape)


def read_layers(path: Path) -> list[Layer]:
    """All layers of ``graph.xml``, each after those that it takes its inputs from.

    Raises:
        UserError: not such a file.
    """
    try:
        root = ElementTree.parse(path).getroot()
        arrows: dict[int, dict[int, Source]] = {}
        for edge in root.iterfind("edges/edge"):
            start, out, end, into = (int(edge.attrib[key]) for key in ("from-layer", "from-port", "to-layer", "to-port"))
            arrows.setdefault(end, {})[into] = (start, out)
        return [_layer(element, arrows.get(int(element.attrib["id"]), {})) for element in root.iterfind("layers/layer")]
    except (OSError, ElementTree.ParseError, KeyError, ValueError) as error:
        raise UserError(
            f"{path} is not a graph.", expected="OpenVINO's XML", received=f"{type(error).__name__}: {error}"
        ) from error


def _layer(element: ElementTree.Element, arrows: Mapping[int, Source]) -> Layer:
    data = element.find("data")
    arriving = {int(port.attrib["id"]): _port(port) for port in element.iterfind("input/port")}
    ports = sorted(arrows)
    return Layer(
        number=int(element.attrib["id"]),
        name=element.attrib["name"],
        kind=element.attrib["type"],
        data={} if data is None else dict(data.attrib),
        sources=tuple(arrows[port] for port in ports),
        arriving=tuple(arriving[port] for port in ports),
        outputs={int(port.attrib["id"]): _port(port) for port in element.iterfind("output/port")},
        named=tuple(name for name in element.attrib.get("output_names", "").split(",") if name),
    )


def _port(element: ElementTree.Element) -> Port:
    dims = tuple(int(dim.text or "-1") for dim in element.iterfind("dim"))
    names = tuple(name for name in element.attrib.get("names", "").split(",") if name)
    return Port(element.attrib.get("precision", ""), dims, names)


def constant(layer: Layer) -> Constant:
    """Where the values of a layer "Const" lie; a ``UserError`` for an element type that NumPy lacks."""
    kind = layer.data["element_type"]
    if kind not in DTYPES:
        raise UserError(f"Constants of this type cannot be exported: {kind}.", expected=", ".join(DTYPES), received=layer.name)
    shape = tuple(layer.numbers("shape"))
    return Constant(np.dtype(DTYPES[kind]), shape, int(layer.data["offset"]), int(layer.data["size"]))
