"""Kinds of broken image: each is named with its reason, none crashes, and the counts add up."""

import os
import re
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from drawing import class_folders, drawn, encoded, png_bomb, png_chunk, put
from PIL import Image

from frostline.data.imageset import Source
from frostline.data.sources import load_source
from frostline.data.splits import split
from frostline.errors import UserError

JPEG, PNG, WEBP, GIF, TIFF, BMP = (encoded(drawn(99), kind) for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"))


def adds_up(source: Source) -> bool:
    return source.found == sum(map(len, source.sets.values())) + len(source.rejects)


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def png_with_bad_crc() -> bytes:
    at = PNG.index(b"IDAT") + 40
    return PNG[:at] + bytes([PNG[at] ^ 255]) + PNG[at + 1 :]


def png_with_bad_stream() -> bytes:
    header = PNG[: PNG.index(b"IDAT") - 4]
    return header + png_chunk(b"IDAT", b"this is no zlib stream") + png_chunk(b"IEND", b"")


def png_without_pixels() -> bytes:
    return PNG[: PNG.index(b"IDAT") - 4] + png_chunk(b"IEND", b"")


def png_of_no_width() -> bytes:
    header = struct.pack(">IIBBBBB", 0, 10, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IEND", b"")


def gif_bomb() -> bytes:
    return GIF[:6] + struct.pack("<HH", 65_535, 65_535) + GIF[10:]


def not_finite() -> bytes:
    return encoded(Image.fromarray(np.array([[0, np.inf]], dtype=np.float32)), "TIFF")


# name -> file name, content, what the reason says
FILES: dict[str, tuple[str, bytes, str]] = {
    "truncated JPEG": ("x.jpg", half(JPEG), "truncated"),
    "JPEG without its last bytes": ("x.jpg", JPEG[:-40], "truncated"),
    "JPEG of a header only": ("x.jpg", JPEG[:30], "corrupt|truncated"),
    "JPEG of three bytes": ("x.jpg", JPEG[:3], "corrupt|truncated"),
    "truncated PNG": ("x.png", half(PNG), "truncated"),
    "PNG of a signature only": ("x.png", PNG[:8], "corrupt|truncated"),
    "PNG with a bad checksum": ("x.png", png_with_bad_crc(), "corrupt"),
    "PNG with a corrupt stream": ("x.png", png_with_bad_stream(), "corrupt"),
    "PNG without pixels": ("x.png", png_without_pixels(), "corrupt|truncated"),
    "PNG of no width": ("x.png", png_of_no_width(), "corrupt"),
    "PNG bomb": ("x.png", png_bomb(), "over-large: 30000 x 30000"),
    "truncated WebP": ("x.webp", half(WEBP), "corrupt|truncated"),
    "truncated GIF": ("x.gif", half(GIF), "truncated"),
    "GIF bomb": ("x.gif", gif_bomb(), "over-large"),
    "truncated TIFF": ("x.tif", half(TIFF), "corrupt|truncated"),
    "truncated BMP": ("x.bmp", half(BMP), "truncated"),
    "TIFF of infinite pixels": ("x.tif", not_finite(), "pixels that are not finite"),
    "zero bytes": ("x.jpg", b"", "empty: zero bytes"),
    "zeros": ("x.jpg", bytes(500), "not an image"),
    "text named .jpg": ("x.jpg", b"I am no image.", "not an image: text"),
    "HTML named .png": ("x.png", b"<!DOCTYPE html><html>404</html>", "not an image: an HTML page"),
    "PNG named .jpg": ("x.jpg", PNG, "misnamed: a PNG image named .jpg"),
    "JPEG named .gif": ("x.GIF", JPEG, "misnamed: a JPEG image named .gif"),
    "SVG": ("x.svg", b'<?xml version="1.0"?><svg xmlns="x"/>', "unsupported format"),
    "SVG named .png": ("x.png", b'<?xml version="1.0"?><svg xmlns="x"/>', "unsupported format: an SVG"),
    "HEIC": ("x.heic", b"\0\0\0\x18ftypheic" + bytes(40), "unsupported format"),
    "HEIC named .jpg": ("x.jpg", b"\0\0\0\x18ftypheic" + bytes(40), "unsupported format: a HEIC"),
    "PDF named .jpg": ("x.jpg", b"%PDF-1.7\n", "unsupported format: a PDF"),
    "ZIP named .jpg": ("x.jpg", b"PK\3\4" + bytes(30), "unsupported format: a ZIP"),
    "camera raw": ("x.dng", TIFF, r"unsupported format: \.dng"),
    "truncated without an ending": ("x", half(JPEG), "truncated"),
    "non-ASCII name": ("ünïcødé 図.jpg", b"", "empty"),
    "name of 250 characters": ("n" * 246 + ".jpg", half(JPEG), "truncated"),
    "newline in the name": ("line\nbreak.jpg", b"", "empty"),
    "name that is no UTF-8": (os.fsdecode(b"\xff\xfe.jpg"), b"", "empty"),
}


@pytest.mark.parametrize("kind", FILES)
def test_broken_files(tmp_path: Path, kind: str) -> None:
    name, data, reason = FILES[kind]
    class_folders(tmp_path, {"a": 3, "b": 3})
    put(tmp_path / "a" / name, data)
    source = load_source(tmp_path)
    assert len(source.rejects) == 1
    reject = source.rejects[0]
    assert reject.path.startswith("a/")
    assert reject.path.isprintable()
    reject.path.encode()
    assert re.match(reason, reject.reason)
    assert source.found == 7
    assert adds_up(source)
    assert len(source.sets["train"]) == 6
    with pytest.raises(UserError, match="1 of 7 images"):
        load_source(tmp_path, strict=True)


def symlink_loop(folder: Path) -> None:
    (folder / "x.jpg").symlink_to(folder / "y.jpg")
    (folder / "y.jpg").symlink_to(folder / "x.jpg")


def deny(folder: Path) -> None:
    put(folder / "locked" / "x.jpg", JPEG)


# name -> what is made inside a class folder, where the rejects are, what they say
PLACES: dict[str, tuple[Callable[[Path], object], list[str], str]] = {
    "dangling link": (lambda folder: (folder / "x.jpg").symlink_to("nowhere.jpg"), ["a/x.jpg"], "a dangling link"),
    "dangling link without an ending": (lambda folder: (folder / "x").symlink_to("nowhere"), ["a/x"], "a dangling link"),
    "links that lead to each other": (symlink_loop, ["a/x.jpg", "a/y.jpg"], "symbolic links"),
    "folder loop": (lambda folder: (folder / "loop").symlink_to(folder), ["a/loop"], "a loop"),
    "loop to the top": (lambda folder: (folder / "loop").symlink_to(folder.parent), ["a/loop"], "a loop"),
    "folder named x.jpg": (lambda folder: (folder / "x.jpg").mkdir(), ["a/x.jpg"], "a folder, not an image"),
    "pipe named x.jpg": (lambda folder: os.mkfifo(folder / "x.jpg"), ["a/x.jpg"], "a pipe"),
    "unreadable folder": (deny, ["a/locked"], "unreadable folder: Permission denied"),
    "image outside the classes": (lambda folder: put(folder.parent / "x.jpg", JPEG), ["x.jpg"], "outside the class folders"),
    "link from a class to the top": (
        lambda folder: (folder.parent / "c").symlink_to(folder.parent),
        ["c"],
        "a link to a folder that holds it",
    ),
}


@pytest.mark.parametrize("kind", PLACES)
def test_broken_places(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, paths, reason = PLACES[kind]
    class_folders(tmp_path, {"a": 3, "b": 3})
    make(tmp_path / "a")
    _deny_locked(monkeypatch)
    source = load_source(tmp_path)
    assert [reject.path for reject in source.rejects] == paths
    assert all(reason in reject.reason for reject in source.rejects)
    assert len(source.sets["train"]) == 6
    assert adds_up(source)


def _deny_locked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders called "locked" cannot be listed; rights would not stop root."""
    real = os.scandir

    def scandir(path: Path) -> object:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)


def test_an_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class_folders(tmp_path, {"a": 3, "b": 3})
    real = Path.read_bytes

    def read_bytes(path: Path) -> bytes:
        if path.name == "1.jpg" and path.parent.name == "a":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    source = load_source(tmp_path)
    assert [(reject.path, reject.reason) for reject in source.rejects] == [("a/1.jpg", "unreadable: Permission denied")]
    assert adds_up(source)
    monkeypatch.undo()
    monkeypatch.setenv("FROSTLINE_HOME", str(tmp_path / "home"))
    assert load_source(tmp_path).rejects == ()  # rights may change: this was not remembered


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_corrupt_exif_hurts_no_image(tmp_path: Path) -> None:
    class_folders(tmp_path, {"a": 2, "b": 2})
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(drawn(50), exif=exif)
    at = data.index(b"Exif\0\0") + 14
    for number in range(at, at + 12):
        put(tmp_path / "a" / f"exif{number}.jpg", data[:number] + b"\xff" + data[number + 1 :])
    source = load_source(tmp_path)
    assert len(source.sets["train"]) == 16
    assert source.rejects == ()


def test_a_folder_of_nothing_but_broken_images(tmp_path: Path) -> None:
    put(tmp_path / "a" / "x.jpg", b"")
    put(tmp_path / "b" / "x.jpg", b"text")
    with pytest.raises(UserError, match=r"no usable image") as caught:
        load_source(tmp_path)
    assert "a/x.jpg: empty" in str(caught.value)


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no class folders"):
        load_source(tmp_path)


def test_an_unreadable_top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class_folders(tmp_path / "locked", {"a": 1, "b": 1})
    _deny_locked(monkeypatch)
    with pytest.raises(UserError, match="Permission denied"):
        load_source(tmp_path / "locked")


def test_everything_broken_at_once(tmp_path: Path) -> None:
    class_folders(tmp_path, {"a": 10, "b": 10})
    for number, (name, data, _) in enumerate(FILES.values()):
        put(tmp_path / "ab"[number % 2] / f"{number}" / name, data)
    source = load_source(tmp_path)
    assert len(source.rejects) == len(FILES)
    assert source.found == 20 + len(FILES)
    assert adds_up(source)
    splits = split(source)
    assert splits.test is not None
    assert len(splits.train) + len(splits.validation) + len(splits.test) == 20
    assert splits.record["rejected"] == len(FILES)


def test_how_many_kinds_there_are() -> None:
    assert len(FILES) + len(PLACES) >= 40
