"""The images in a body, as multipart, JSON or one raw image: parsed in memory, nothing is spooled and nothing fetched."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from frostline.serve.refusals import Refused

#: What a body may be.
TAKEN = "multipart/form-data with files, application/json with base64, or an image itself (image/*, application/octet-stream)"
#: Lists, objects and members in a JSON body; each takes far more memory than the few bytes that announce it.
MOST_PARTS = 200_000
_PARTS = (b"[", b"{", b":")
#: Lists and objects within one another; no request that is read has more than seven.
MOST_DEEP = 16
#: The names of the fields that hold images.
FIELDS = frozenset({"image", "images", "file", "files"})
#: Images by the names they were sent as.
Named = list[tuple[str, bytes]]
_DATA_URL = re.compile(r"data:[\w.+-]+/[\w.+-]+;base64,", re.ASCII)


def images_of(body: bytes, content_type: str, most: int) -> Named:
    """The images in a body, at least one.

    Args:
        body: all of it.
        content_type: the request's header, with its parameters.
        most: images that may be in it.

    Raises:
        Refused: 400, 413, 415 or 422, with the reason.
    """
    kind, parameters = parse_options_header(content_type)
    if not body:
        raise Refused(400, "The body is empty.", TAKEN, "zero bytes")
    if kind == b"multipart/form-data":
        return _multipart(body, parameters.get(b"boundary", b""), most)
    if kind == b"application/json":
        return _json(body, most)
    if kind.startswith(b"image/") or kind == b"application/octet-stream":
        return [("", body)]
    raise Refused(415, "The body is of a kind that is not read.", TAKEN, content_type[:100] or "no Content-Type")


def parse_json(body: bytes, most: int = MOST_PARTS, hint: str = "") -> Any:
    """A JSON value; NaN and infinities are no JSON.

    Args:
        body: the text.
        most: lists, objects and members that may be in it.
        hint: what to do where there are more.

    Raises:
        Refused: 400 not JSON, 413 too many parts.
    """
    if (found := sum(map(body.count, _PARTS))) > most:
        raise Refused(413, "The JSON has too many parts.", f"at most {most:,} lists, objects and members", f"{found:,}", hint)
    try:
        value = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Refused(400, "The body is not JSON.", received=str(error)[:200]) from error
    _check_depth(value)
    return value


def _check_depth(value: Any) -> None:
    """From Python 3.12 on the parser takes lists a thousand deep, which nothing that walks through them survives."""
    level = [value]
    for _ in range(MOST_DEEP):
        within = (each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list))
        level = [part for parts in within for part in parts if isinstance(part, dict | list)]
        if not level:
            return
    raise Refused(400, "The JSON is nested too deeply.", f"at most {MOST_DEEP} lists and objects within one another")


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def too_many(found: int, most: int) -> Refused:
    """The refusal of a request with more images than are taken."""
    return Refused(413, "There are too many images in one request.", f"at most {most:,}", f"{found:,}", "send several requests")


def _json(body: bytes, most: int) -> Named:
    expected = '{"images": ["base64 of an encoded image", …]} or {"image": "…"}'
    value = parse_json(body)
    if not isinstance(value, Mapping) or set(value) not in ({"images"}, {"image"}):
        received = ", ".join(map(str, value))[:100] if isinstance(value, Mapping) else type(value).__name__
        raise Refused(422, "The JSON holds no images.", expected, received)
    texts = value["images"] if "images" in value else [value["image"]]
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise Refused(422, "The images are not a list of texts.", expected)
    if len(texts) > most:
        raise too_many(len(texts), most)
    return [("", from_base64(text)) for text in texts]


def from_base64(text: str) -> bytes:
    """The bytes that a text encodes, which may be a data URL.

    Raises:
        Refused: 422.
    """
    prefix = _DATA_URL.match(text)
    try:
        return base64.b64decode(text[prefix.end() if prefix else 0 :], validate=True)
    except (binascii.Error, ValueError) as error:
        hint = "URLs are not fetched: send the image" if re.match(r"\w+:", text) else ""
        raise Refused(422, "An image is not base64.", "base64 of an encoded image", text[:40], hint) from error


def _multipart(body: bytes, boundary: bytes, most: int) -> Named:
    reader = _Reader(most)
    try:
        parser = MultipartParser(boundary, reader.callbacks())
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise Refused(400, "The multipart body is broken.", received=str(error)[:200]) from error
    if not reader.ended:
        raise Refused(400, "The multipart body is broken.", "an end", "the end is missing")
    if not reader.parts:
        raise Refused(400, "The body holds no images.", "files in fields named image or file")
    return [_file(disposition, bytes(data)) for disposition, data in reader.parts]


class _Reader:
    """The parts of a multipart body: Content-Disposition and content, as the parser finds them.

    One more than ``most`` is refused where it begins: a body can announce a part with every nine of its bytes.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.parts: list[tuple[bytes, bytearray]] = []
        self.ended = False
        self._name, self._value = bytearray(), bytearray()
        self._disposition, self._data = b"", bytearray()

    def callbacks(self) -> Any:
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._name.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._header,
            "on_part_data": lambda data, start, end: self._data.extend(memoryview(data)[start:end]),
            "on_part_end": lambda: self.parts.append((self._disposition, self._data)),
            "on_end": self._end,
        }

    def _begin(self) -> None:
        if len(self.parts) >= self.most:
            raise too_many(self.most + 1, self.most)
        self._disposition, self._data = b"", bytearray()

    def _header(self) -> None:
        if bytes(self._name).lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._name.clear()
        self._value.clear()

    def _end(self) -> None:
        self.ended = True


def _file(disposition: bytes, data: bytes) -> tuple[str, bytes]:
    _, parameters = parse_options_header(disposition)
    field = parameters.get(b"name", b"").decode("utf-8", "replace")
    if b"filename" not in parameters and field not in FIELDS:
        expected = "files; what to tell is asked for in the query (?top=3)"
        raise Refused(422, "A field is not an image.", expected, field[:100] or "a field without a name")
    return parameters.get(b"filename", b"").decode("utf-8", "replace")[:200], data
