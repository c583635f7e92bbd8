"""Requests whose bodies are random, mutated, cut, bombs or two things at once; the same seed gives the same."""

import base64
import json
import random
import struct
import zlib
from collections.abc import Iterator
from functools import cache

from bombs import gif_with, repeating_tags, run_length_bmp, with_exif
from drawing import drawn, encoded, png_bomb, png_chunk
from PIL import Image

KINDS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
Request = tuple[str, dict[str, str], bytes]


@cache
def originals() -> list[bytes]:
    return [encoded(drawn(i, 40 + i, 60), kind) for i, kind in enumerate(KINDS)]


@cache
def bombs() -> list[bytes]:
    """Small files that claim or unpack to a lot."""
    wide = struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 16, 6, 0, 0, 0)
    text = png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(50_000_000), 9))
    small = struct.pack(">IIBBBBB", 4, 4, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n"
    gif = (
        b"GIF89a"
        + struct.pack("<HH", 65535, 65535)
        + b"\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0"
        + struct.pack("<HH", 65535, 65535)
        + b"\0\2"
    )
    bmp = b"BM" + struct.pack("<IHHIIiiHHIIiiII", 100, 0, 0, 54, 40, 2**31 - 1, -(2**31) + 1, 1, 24, 0, 0, 0, 0, 0, 0)
    tiff = b"II*\0" + struct.pack("<IH", 8, 0xFFFF) + b"\xff" * 200
    tags = repeating_tags(2000, 300_000)
    more = [with_exif(kind, tags) for kind in ("JPEG", "PNG", "WEBP")]
    more += [tags, gif_with(b"!\xfe" + b"\1x" * 100_000 + b"\0"), run_length_bmp(3_900_000, 1, b"\0\2\0\xff" * 50)]
    more.append(encoded(Image.new("1", (3_900_000, 1)), "PNG"))
    return [*more, png_bomb(), start + png_chunk(b"IHDR", wide), start + png_chunk(b"IHDR", small) + text, gif, bmp, tiff]


def mutated(rng: random.Random, data: bytes) -> bytes:
    """Cut, changed, doubled, joined or replaced."""
    way = rng.randrange(7)
    if way == 0:
        return data[: rng.randrange(len(data) + 1)]
    if way == 1:
        changed = bytearray(data)
        for _ in range(rng.randint(1, 20)):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        return bytes(changed)
    if way == 2:
        at, size = rng.randrange(len(data)), rng.randint(1, 200)
        return data[:at] + rng.randbytes(size) + data[at + rng.randint(0, size) :]
    if way == 3:
        return data + rng.choice(originals())
    if way == 4:
        return rng.choice(originals())[: rng.randint(4, 40)] + data
    if way == 5:
        return rng.randbytes(rng.randint(1, 2000))
    return rng.choice(bombs())


_FILE = 'name="file"; filename="a.png"'
_NAMES = [_FILE, _FILE, 'name="top"', "", 'filename="../../etc/passwd"; name="file"', 'name="' + "n" * 5000]


def _multipart(rng: random.Random, data: bytes) -> tuple[dict[str, str], bytes]:
    edge = rng.choice(["x", "-" * 40, "a b", "x" * 300, ""])
    name, header = rng.choice(_NAMES), rng.choice(["", "X: " + "y" * 3000 + "\r\n"])
    part = f"--{edge}\r\nContent-Disposition: form-data; {name}\r\n{header}\r\n".encode() + data
    end = rng.choice([f"\r\n--{edge}--\r\n", f"\r\n--{edge}", "", "\r\n--other--"]).encode()
    return {"content-type": f"multipart/form-data; boundary={edge}"}, part * rng.choice([1, 1, 1, 3]) + end


def _json(rng: random.Random, data: bytes) -> tuple[dict[str, str], bytes]:
    text = base64.b64encode(data).decode()
    deep: object = text
    for _ in range(rng.choice([0, 0, 3, 900])):
        deep = [deep]
    values: list[object] = [
        {"images": [text]},
        {"image": text},
        {"images": deep},
        [text],
        {"images": [text, None]},
        {"image": text * 3},
    ]
    body = json.dumps(rng.choice(values)).encode()
    return {"content-type": "application/json"}, body if rng.random() < 0.7 else mutated(rng, body)


def _infer(rng: random.Random, data: bytes) -> tuple[dict[str, str], bytes]:
    sizes = [len(data), 0, 2**32 - 1, rng.randrange(2**16)]
    blob = struct.pack("<I", rng.choice(sizes)) + data
    shape = rng.choice([[1], [2], [0], [-1], [2**62], [1, 8, 8, 3], ["1"], 1, None])
    kind = rng.choice([("encoded", "BYTES"), ("images", "UINT8"), ("encoded", "FP32")])
    tensor = {
        "name": kind[0],
        "datatype": kind[1],
        "shape": shape,
        "parameters": {"binary_data_size": rng.choice([len(blob), len(data), -1])},
    }
    header = json.dumps({"inputs": [tensor]}).encode()
    length = rng.choice([str(len(header)), str(len(header)), "0", "7", "-3", "1e3", "9" * 30])
    body = header + blob
    return {"inference-header-content-length": length}, body if rng.random() < 0.7 else mutated(rng, body)


def bodies(count: int, seed: int, model: str = "toy") -> Iterator[Request]:
    """(path, headers, body) of so many requests."""
    rng, images = random.Random(seed), originals()
    for _ in range(count):
        data = rng.choice(images)
        if rng.random() < 0.85:
            data = mutated(rng, data)
        way = rng.randrange(6)
        if way < 2:
            yield "/predict", *_multipart(rng, data)
        elif way == 2:
            yield "/predict", *_json(rng, data)
        elif way == 3:
            yield f"/v2/models/{model}/infer", *_infer(rng, data)
        else:
            kind = rng.choice(["image/png", "image/jpeg", "application/octet-stream", "text/html", "image/", "*/*", "a" * 500])
            yield "/predict", {"content-type": kind}, data
