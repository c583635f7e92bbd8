"""Tensors of the Open Inference Protocol v2, in JSON and in the binary extension: bytes to images, probabilities to bytes.

https://github.com/kserve/open-inference-protocol and, for the extension, Triton's ``extension_binary_data.md``. No web framework.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.serve.answers import best_classes
from frostline.serve.bodies import from_base64, parse_json, too_many
from frostline.serve.reading import Sent
from frostline.serve.refusals import Refused

#: The two inputs, of which a request has one, and the output.
PIXELS, ENCODED, OUTPUT = "images", "encoded", "probabilities"
INPUTS = (
    {"name": PIXELS, "datatype": "UINT8", "shape": [-1, -1, -1, 3]},
    {"name": ENCODED, "datatype": "BYTES", "shape": [-1]},
)
#: Lists in a request, as nested data have them: one a pixel, so that 700×700 pixels may be sent like this.
MOST_LISTS = 500_000
_FLAT = "send the data flat, or as bytes behind the JSON"
_WANTED = "one input: images, UINT8 [N, H, W, 3] in RGB order, or encoded, BYTES [N] of whole image files"


@dataclass(frozen=True)
class Output:
    """How the output is wanted: as bytes or in JSON, and the best k classes as text instead of numbers (0: numbers)."""

    binary: bool = False
    classes: int = 0


@dataclass(frozen=True)
class Asked:
    """A request for inference: its images, how it wants the output, and its own name."""

    images: Sequence[Sent]
    output: Output
    id: str | None = None


def parse(body: bytes, header_length: str | None, most: int) -> Asked:
    """A request's body.

    Args:
        body: all of it.
        header_length: of ``Inference-Header-Content-Length``; None: the body is all JSON.
        most: images that may be in it.

    Raises:
        Refused: 400 or 413.
    """
    end = _header_end(body, header_length)
    value, blob = parse_json(body[:end], MOST_LISTS, _FLAT), body[end:]
    if not isinstance(value, Mapping):
        raise _wrong("The request is not an object.", type(value).__name__)
    name = value.get("id")
    if name is not None and not isinstance(name, str):
        raise _wrong("The id is not a text.", type(name).__name__)
    inputs = value.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], Mapping):
        raise _wrong("The inputs are not one tensor.", f"{len(inputs)}" if isinstance(inputs, list) else "none")
    return Asked(_images(inputs[0], blob, most), _output(value), name)


def _header_end(body: bytes, header_length: str | None) -> int:
    if header_length is None:
        return len(body)
    if not (header_length.isascii() and header_length.isdigit() and len(header_length) < 12 and int(header_length) <= len(body)):
        expected = f"0 to {len(body)}"
        raise Refused(400, "Inference-Header-Content-Length is not a length within the body.", expected, header_length[:40])
    return int(header_length)


def _wrong(reason: str, received: str = "") -> Refused:
    return Refused(400, reason, _WANTED, received[:200])


def _images(tensor: Mapping[str, Any], blob: bytes, most: int) -> Sequence[Sent]:
    name, datatype, shape = tensor.get("name"), tensor.get("datatype"), tensor.get("shape")
    if (name, datatype) not in ((PIXELS, "UINT8"), (ENCODED, "BYTES")):
        raise _wrong("There is no such input.", f"{name}, {datatype}")
    if not isinstance(shape, list) or not all(type(side) is int and side >= 1 for side in shape):
        raise _wrong("The shape is not a list of positive numbers.", str(shape))
    if len(shape) != (4 if name == PIXELS else 1) or (name == PIXELS and shape[3] != 3):
        raise _wrong("The shape is not this input's.", str(shape))
    if shape[0] > most:
        raise too_many(shape[0], most)
    data = _binary(tensor, blob)
    if name == PIXELS:
        return list(_pixels(shape, tensor.get("data") if data is None else data))
    return _elements(data, shape[0]) if data is not None else _texts(tensor.get("data"), shape[0])


def _binary(tensor: Mapping[str, Any], blob: bytes) -> bytes | None:
    parameters = _present(tensor, "parameters")
    size = parameters.get("binary_data_size") if isinstance(parameters, Mapping) else None
    if size is None:
        if blob:
            raise _wrong("There are bytes behind the JSON that no input claims.", f"{len(blob)} bytes")
        return None
    if type(size) is not int or size != len(blob) or "data" in tensor:
        raise _wrong("binary_data_size is not the number of bytes behind the JSON.", f"{size}, and {len(blob)} bytes")
    return blob


def _pixels(shape: list[int], data: Any) -> NDArray[np.uint8]:
    """(N, H, W, 3) from bytes, or from numbers in JSON, flat or nested."""
    count = 1
    for side in shape:  # Python's numbers: a product of NumPy's could overflow
        count *= side
    values = np.frombuffer(data, np.uint8) if isinstance(data, bytes) else _numbers(data, count)
    if values.size != count:
        raise _wrong("The data do not fill the shape.", f"{values.size} values for {shape}")
    return values.reshape(shape)


def _numbers(data: Any, count: int) -> NDArray[np.uint8]:
    if not isinstance(data, list):
        raise _wrong("The input has no data.", type(data).__name__)
    # Looked at before NumPy sees them: of texts it makes an array whose every place is as large as the longest of them.
    for number, leaf in enumerate(_leaves(data)):
        if number >= count:
            raise _wrong("The data do not fill the shape.", f"more than {count} values")
        if type(leaf) is not int or not 0 <= leaf <= 255:
            raise _wrong("The data are not whole numbers from 0 to 255.", str(leaf)[:40])
    try:
        return np.asarray(data, np.uint8)
    except ValueError as error:
        raise _wrong("The data are ragged.") from error


def _leaves(data: list[Any]) -> Iterator[Any]:
    for each in data:
        if isinstance(each, list):
            yield from _leaves(each)
        else:
            yield each


def _elements(data: bytes, count: int) -> list[bytes]:
    """BYTES elements: each four bytes of length, little-endian, and so many bytes."""
    found: list[bytes] = []
    at = 0
    while at + 4 <= len(data) and len(found) < count:
        (size,) = struct.unpack_from("<I", data, at)
        if at + 4 + size > len(data):
            break
        found.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    if at != len(data) or len(found) != count:
        raise _wrong("The bytes are not so many elements, each behind its length.", f"{len(data)} bytes for [{count}]")
    return found


def _texts(data: Any, count: int) -> list[bytes]:
    """BYTES elements in JSON, which holds no bytes: base64."""
    if not isinstance(data, list) or len(data) != count or not all(isinstance(text, str) for text in data):
        raise _wrong("The data are not so many texts.", f"[{count}]")
    try:
        return [from_base64(text) for text in data]
    except Refused as refused:
        raise Refused(400, refused.reason, refused.expected, refused.received, refused.hint) from refused


def _present(value: Mapping[str, Any], key: str) -> Any:
    """What is there, and an object without members where nothing is, or null."""
    found = value.get(key)
    return {} if found is None else found


def _output(value: Mapping[str, Any]) -> Output:
    parameters = _present(value, "parameters")
    binary = parameters.get("binary_data_output", False) if isinstance(parameters, Mapping) else None
    outputs = value.get("outputs") or [{"name": OUTPUT}]
    if not isinstance(outputs, list) or len(outputs) != 1 or not isinstance(outputs[0], Mapping):
        raise Refused(400, "The outputs are not one tensor.", OUTPUT)
    if outputs[0].get("name") != OUTPUT:
        raise Refused(400, "There is no such output.", OUTPUT, str(outputs[0].get("name"))[:100])
    own = _present(outputs[0], "parameters")
    if not isinstance(own, Mapping):
        raise Refused(400, "An output's parameters are not an object.")
    binary, classes = own.get("binary_data", binary), own.get("classification", 0)
    if type(binary) is not bool or type(classes) is not int or classes < 0:
        raise Refused(400, "A parameter is not valid.", "binary_data: true or false; classification: a number of classes")
    return Output(binary, classes)


def answer(model: str, version: str, asked: Asked, rows: NDArray[np.float32], classes: Sequence[str]) -> tuple[bytes, int | None]:
    """The answer's body for (N, K) probabilities, and the length of its JSON where bytes follow it."""
    output: dict[str, Any] = {"name": OUTPUT, "datatype": "FP32", "shape": list(rows.shape)}
    values: NDArray[Any] = rows
    if asked.output.classes:
        values = np.array([_ranked(row, classes, asked.output.classes) for row in rows])
        output |= {"datatype": "BYTES", "shape": list(values.shape)}
    blob = _as_bytes(values) if asked.output.binary else None
    if blob is None:
        output["data"] = values.ravel().tolist()
    else:
        output["parameters"] = {"binary_data_size": len(blob)}
    said = {
        "model_name": model,
        "model_version": version,
        **({"id": asked.id} if asked.id is not None else {}),
        "outputs": [output],
    }
    header = json.dumps(said).encode()  # in ASCII: a client may have named half a surrogate pair, which no encoding writes
    return (header, None) if blob is None else (header + blob, len(header))


def _ranked(row: NDArray[np.float32], classes: Sequence[str], top: int) -> list[str]:
    """As Triton's classification extension writes them: value:index:label."""
    return [f"{p:f}:{classes.index(name)}:{name}" for name, p in best_classes(row, classes, top)]


def _as_bytes(values: NDArray[Any]) -> bytes:
    if values.dtype == np.float32:
        return values.astype("<f4").tobytes()
    encoded = [text.encode() for text in values.ravel()]
    return b"".join(struct.pack("<I", len(text)) + text for text in encoded)
