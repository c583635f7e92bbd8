"""Every way of storing an image becomes the same upright RGB."""

import contextlib
import io
import os
import struct
import sys
import threading
import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from frostline import decode
from frostline.decode import BadImage, as_array, decode_rgb, open_image, sniff, to_rgb, verify
from frostline.errors import UserError

sys.path.insert(0, str(Path(__file__).parent / "data"))
from bombs import gif_with, repeating_tags, run_length_bmp, with_exif
from drawing import drawn, encoded, png_bomb


def pixels(image: Image.Image) -> np.ndarray:
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_lossless_formats_come_back_exactly(kind: str) -> None:
    image = drawn(1)
    assert np.array_equal(pixels(decode_rgb(encoded(image, kind))), pixels(image))


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_lossy_formats_come_back_nearly(kind: str) -> None:
    image = drawn(1)
    assert np.abs(pixels(decode_rgb(encoded(image, kind, quality=95))) - pixels(image)).mean() < 3


def test_all_formats_are_known_by_their_first_bytes() -> None:
    for kind in decode.ENDINGS:
        assert sniff(encoded(drawn(1), kind)[:16]) == kind


# What each EXIF orientation means: where the stored image's first row and first column are in the upright one.
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_every_orientation_becomes_upright(orientation: int, kind: str) -> None:
    upright = np.zeros((40, 60, 3), dtype=np.uint8)
    upright[:20, :30, 0] = upright[:20, 30:, 1] = upright[20:, :30, 2] = 255
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright[:, ::-1].transpose(1, 0, 2),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: upright[::-1].transpose(1, 0, 2),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {"quality": 95} if kind == "JPEG" else {}
    data = encoded(Image.fromarray(np.ascontiguousarray(stored)), kind, exif=exif, **options)
    found = pixels(decode_rgb(data))
    assert found.shape == upright.shape
    assert np.abs(found - upright).mean() < 6
    assert verify(data, "x") == (40, 60)
    reduced = decode_rgb(data, at_least=(5, 8))
    assert reduced.height >= 10
    assert reduced.width >= 16
    assert abs(reduced.width / reduced.height - 1.5) < 0.01


def test_palettes_and_their_transparency() -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putdata([0, 1])
    assert pixels(decode_rgb(encoded(palette, "PNG"))).tolist() == [[[255, 0, 0], [0, 0, 255]]]
    assert pixels(decode_rgb(encoded(palette, "PNG", transparency=1))).tolist() == [[[255, 0, 0], [255, 255, 255]]]
    assert pixels(decode_rgb(encoded(palette, "GIF", transparency=1))).tolist() == [[[255, 0, 0], [255, 255, 255]]]


def test_transparency_is_laid_over_white() -> None:
    image = Image.fromarray(np.array([[[255, 0, 0, 255], [255, 0, 0, 0], [0, 0, 0, 51]]], dtype=np.uint8))
    assert pixels(decode_rgb(encoded(image, "PNG"))).tolist() == [[[255, 0, 0], [255, 255, 255], [204, 204, 204]]]
    grey = Image.fromarray(np.array([[[10, 255], [10, 0]]], dtype=np.uint8))
    assert grey.mode == "LA"
    assert pixels(decode_rgb(encoded(grey, "PNG"))).tolist() == [[[10] * 3, [255] * 3]]


def test_grey_and_bits() -> None:
    assert pixels(decode_rgb(encoded(Image.new("L", (1, 1), 77), "PNG"))).tolist() == [[[77] * 3]]
    bits = Image.new("1", (2, 1))
    bits.putpixel((1, 0), 1)
    assert pixels(decode_rgb(encoded(bits, "PNG"))).tolist() == [[[0] * 3, [255] * 3]]


def test_the_shade_of_16_bits_that_is_not_there_is_white() -> None:
    data = io.BytesIO()
    Image.fromarray(np.array([[257, 0, 65_535]], dtype=np.uint16)).save(data, "PNG", transparency=257)
    assert np.asarray(decode_rgb(data.getvalue()))[0, :, 0].tolist() == [255, 0, 255]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bits_are_scaled_not_clipped(kind: str) -> None:
    values = np.array([[0, 257, 32_768, 65_535]], dtype=np.uint16)
    assert pixels(decode_rgb(encoded(Image.fromarray(values), kind)))[0, :, 0].tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize(
    ("values", "grey"),
    [
        (np.array([[0, 257, 65_535]], dtype=np.int32), [0, 1, 255]),  # fits 16 bits: its whole range
        (np.array([[-100, 0, 100]], dtype=np.int32), [0, 128, 255]),  # its own range
        (np.array([[0, 0.5, 1]], dtype=np.float32), [0, 128, 255]),
        (np.array([[0, 100, 255]], dtype=np.float32), [0, 100, 255]),
        (np.array([[0, 257, 65_535]], dtype=np.float32), [0, 1, 255]),
        (np.array([[-1, 0, 1]], dtype=np.float32), [0, 128, 255]),
        (np.array([[1e6, 1e6, 1e6]], dtype=np.float32), [0, 0, 0]),
    ],
)
def test_deep_grey(values: np.ndarray, grey: list[int]) -> None:
    assert pixels(decode_rgb(encoded(Image.fromarray(values), "TIFF")))[0, :, 0].tolist() == grey


def test_floats_that_are_no_numbers() -> None:
    with pytest.raises(BadImage, match="not finite"):
        decode_rgb(encoded(Image.fromarray(np.array([[0, np.nan]], dtype=np.float32)), "TIFF"))


def test_cmyk_jpegs_are_not_inverted() -> None:
    data = encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95)
    assert np.abs(pixels(decode_rgb(data)) - [255, 0, 0]).max() < 8


def test_animations_give_their_first_frame() -> None:
    first, second = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
    for kind in ("GIF", "PNG", "TIFF", "WEBP"):
        options = {"lossless": True} if kind == "WEBP" else {}
        data = encoded(first, kind, save_all=True, append_images=[second], **options)
        assert pixels(decode_rgb(data))[0, 0].tolist() == [255, 0, 0]


def test_large_jpegs_are_reduced_while_decoding() -> None:
    data = encoded(drawn(1, 800, 1600), "JPEG")
    assert decode_rgb(data).size == (1600, 800)
    assert decode_rgb(data, at_least=(100, 100)).size == (400, 200)
    assert decode_rgb(data, at_least=(100, 300)).size == (800, 400)
    assert decode_rgb(data, at_least=(700, 700)).size == (1600, 800)


def test_the_header_alone_refuses_a_bomb() -> None:
    assert len(png_bomb()) < 5000
    for call in (open_image, decode_rgb, lambda data: verify(data, "x.png")):
        with pytest.raises(BadImage, match="over-large: 30000 x 30000"):
            call(png_bomb())


def test_the_limit_is_ours_and_nothing_is_warned_of() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert open_image(png_bomb(10_000, 9_900)).size == (10_000, 9_900)
        assert open_image(png_bomb(20_000, 10_000), max_pixels=1 << 40).size == (20_000, 10_000)
    assert caught == []
    with pytest.raises(BadImage, match="over-large"):
        open_image(encoded(drawn(1)), max_pixels=7_999)


def test_a_jpeg_of_endless_scans_is_refused_by_their_number() -> None:
    """Its last scan again and again: 15 bytes each, and each costs a pass over all pixels."""
    data = encoded(Image.new("RGB", (1600, 1600), (90, 90, 90)), "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    assert decode_rgb(data[:-2] + 5 * last + data[-2:]).size == (1600, 1600)
    for call in (open_image, decode_rgb, lambda data: verify(data, "x.jpg")):
        with pytest.raises(BadImage, match="too many scans"):
            call(data[:-2] + 1000 * last + data[-2:])
    # what lies behind the picture is no scan of it, and where something lies between its segments all count
    assert decode_rgb(data + 1000 * b"a film \xff\xda ").size == (1600, 1600)
    with pytest.raises(BadImage, match="too many scans"):
        open_image(data[:20] + b"garbage" + data[20:-2] + 1000 * last + data[-2:])  # behind the first segment
    small = encoded(Image.new("RGB", (16, 16), (90, 90, 90)), "JPEG", progressive=True)
    assert decode_rgb(small[:-2] + 1000 * small[small.rindex(b"\xff\xda") : -2] + small[-2:]).size == (16, 16)


@pytest.mark.parametrize("kind", list(decode.ENDINGS))
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95])
def test_truncated_images_are_never_filled_up(kind: str, share: float) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    data = encoded(noise, kind)
    with pytest.raises(BadImage):
        decode_rgb(data[: int(len(data) * share)])
    with pytest.raises(BadImage):
        verify(data[: int(len(data) * share)], "x")


@pytest.mark.parametrize("kind", list(decode.ENDINGS))
def test_spoiled_bytes_raise_nothing_but_bad_image(kind: str) -> None:
    data = bytearray(encoded(drawn(2, 32, 32), kind))
    random = np.random.default_rng(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(150):
            spoiled = bytearray(data)
            for at in random.integers(0, len(data), 4):
                spoiled[at] = random.integers(0, 256)
            with contextlib.suppress(BadImage):
                assert len(verify(bytes(spoiled), "x")) == 2


def test_names_must_match_their_content() -> None:
    jpeg = encoded(drawn(1), "JPEG")
    assert verify(jpeg, "a.JPG") == verify(jpeg, "a.jpeg") == verify(jpeg, "a") == verify(jpeg, "a.2024") == (80, 100)
    with pytest.raises(BadImage, match=r"misnamed: a JPEG image named \.png"):
        verify(jpeg, "a.png")
    with pytest.raises(BadImage, match=r"unsupported format: \.dng"):
        verify(encoded(drawn(1), "TIFF"), "a.dng")


def test_paths_bytes_pillow_images_and_arrays_give_the_same(tmp_path: Path) -> None:
    image = drawn(1)
    path = tmp_path / "a.png"
    image.save(path)
    wanted = np.asarray(image)
    for given in (path, str(path), path.read_bytes(), image, wanted):
        found = as_array(given)
        assert found.dtype == np.uint8
        assert np.array_equal(found, wanted)


@pytest.mark.parametrize(
    ("array", "advice"),
    [
        (np.zeros((4, 4, 3), np.float32), r"\* 255"),
        (np.zeros((4, 4), np.uint8), "grey"),
        (np.zeros((4, 4, 1), np.uint8), "grey"),
        (np.zeros((4, 4, 4), np.uint8), "transparency"),
        (np.zeros((3, 8, 8), np.uint8), "channels last"),
        (np.zeros((2, 4, 4, 3), np.uint8), "batch"),
        (np.zeros((4, 4, 3), np.int64), "as it was read"),
        (np.zeros((0, 4, 3), np.uint8), "as it was read"),
    ],
)
def test_other_arrays_are_told_what_to_do(array: np.ndarray, advice: str) -> None:
    with pytest.raises(UserError, match=advice):
        as_array(array)


def test_other_things_are_no_images() -> None:
    with pytest.raises(UserError, match="list"):
        as_array([1, 2])  # type: ignore[arg-type]


def test_a_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.jpg")
    with pytest.raises(BadImage, match="a pipe"):
        decode_rgb(tmp_path / "x.jpg")


def test_threads_decode_the_same() -> None:
    data, wanted, wrong = encoded(drawn(3), "JPEG"), pixels(decode_rgb(encoded(drawn(3), "JPEG"))), []

    def work() -> None:
        wrong.extend(1 for _ in range(20) if not np.array_equal(pixels(decode_rgb(data)), wanted))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_pillow_images_are_made_upright_too() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.open(io.BytesIO(encoded(drawn(1), "JPEG", exif=exif)))
    assert to_rgb(image).size == (80, 100)


@pytest.mark.parametrize("size", [(70_000, 1), (1, 70_000)])
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_no_side_is_endless(kind: str, size: tuple[int, int]) -> None:
    data = encoded(Image.new("L", size), kind)
    with pytest.raises(BadImage, match="no side over 65,535"):
        decode_rgb(data)
    assert decode_rgb(encoded(Image.new("L", (65_535, 1)), kind)).size == (65_535, 1)


@pytest.mark.parametrize("width", [50_000_000, 65_535])
def test_a_run_length_that_skips_rows_takes_little_memory(width: int) -> None:
    skipping = run_length_bmp(width, 1, b"\0\2\0\xff" * 100)
    tracemalloc.start()
    with contextlib.suppress(BadImage):
        decode_rgb(skipping)
    assert tracemalloc.get_traced_memory()[1] < 100e6
    tracemalloc.stop()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_tags_that_name_the_same_bytes_again_and_again_are_not_copied(kind: str) -> None:
    tags = repeating_tags(2000, 500_000)
    data = tags if kind == "TIFF" else with_exif(kind, tags)
    refused = kind in ("JPEG", "TIFF")
    tracemalloc.start()
    for call in (decode_rgb, lambda given: verify(given, "x")):
        with pytest.raises(BadImage, match="its tags name more than") if refused else contextlib.nullcontext():
            call(data)
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()


@pytest.mark.parametrize(("order", "kind"), [("<", 4), (">", 4), ("<", 3), ("<", 13)])
def test_a_folder_that_breaks_off_hides_none_that_it_leads_to(order: str, kind: int) -> None:
    from frostline.image_heads import tag_bytes

    inner = repeating_tags(100, 1000, order)[8:]  # a folder at 8, and behind all a first one that says it has more than there is
    lead = struct.pack(f"{order}HHL", 0x8769, kind, 1) + (b"\x08\0\xff\xff" if kind == 3 else struct.pack(f"{order}L", 8))
    first = struct.pack(f"{order}2sHL", b"II" if order == "<" else b"MM", 42, 8 + len(inner))
    assert tag_bytes(first + inner + struct.pack(f"{order}H", 9) + lead, 10**9) > 100_000


def test_a_mark_that_is_there_twice_hides_no_tags() -> None:
    with pytest.raises(BadImage, match="its tags name more than"):
        decode_rgb(with_exif("JPEG", b"Exif\0\0Exif\0\0" + repeating_tags(2000, 500_000)))


@pytest.mark.parametrize("order", ["<", ">"])
def test_tags_are_counted_where_others_lead_to_them(order: str) -> None:
    from frostline.image_heads import tag_bytes

    inner = repeating_tags(100, 1000, order)
    assert tag_bytes(inner, 10**9) == 100_000
    lead = struct.pack(f"{order}HHLL", 0x8769, 4, 1, 26 + 8)
    led = inner[:4] + struct.pack(f"{order}LH", 8, 1) + lead + bytes(4) + inner
    assert tag_bytes(led, 10**9) == 4 + 100_000
    assert tag_bytes(inner, 5000) == 6000
    for length in range(0, len(inner), 37):
        assert tag_bytes(inner[:length], 10**9) <= 100 * length


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("kind", "value", "found"), [(3, 6, 6), (4, 8, 8), (3, 0, 0), (5, 6, 1), (2, 6, 1)])
def test_an_orientation_is_what_pillow_reads(order: str, kind: int, value: int, found: int) -> None:
    from frostline.image_heads import orientation_of

    packed = struct.pack(f"{order}H", value) + bytes(2) if kind == 3 else struct.pack(f"{order}L", value)
    entries = struct.pack(f"{order}HHL4s", 0x0112, kind, 1, packed)
    exif = struct.pack(f"{order}2sHLH", b"II" if order == "<" else b"MM", 42, 8, 1) + entries + bytes(4)
    assert orientation_of(exif) == orientation_of(b"Exif\0\0" + exif) == found
    assert orientation_of(exif[:12]) is None
    if kind in (3, 4):
        known = Image.Exif()
        known.load(exif)
        assert known.get(0x0112) == found


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_an_orientation_in_xmp_or_in_imagemagick_s_way(kind: str) -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    if kind == "PNG":
        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", xmp.decode())
        assert decode_rgb(encoded(drawn(1), "PNG", pnginfo=info)).size == (80, 100)
        exif = Image.Exif()
        exif[0x0112] = 8
        older = PngInfo()
        older.add_text("Raw profile type exif", "\nexif\n      26\n" + exif.tobytes().hex())
        assert decode_rgb(encoded(drawn(1), "PNG", pnginfo=older)).size == (80, 100)
    else:
        assert decode_rgb(encoded(drawn(1), "JPEG", xmp=xmp)).size == (80, 100)


@pytest.mark.parametrize(
    "before",
    [
        b"!\xfe" + b"\1x" * 100_000 + b"\0",
        b"!\xfe\1x\0" * 100_000,
        b"!\xff\0" + b"\1x" * 100_000 + b"\0",
        b"!\xf9\0!\xfe" + b"\1x" * 100_000 + b"\0",
        b"x" * 100_000,
    ],
)
def test_a_gif_s_endless_comments_are_refused(before: bytes) -> None:
    with pytest.raises(BadImage, match="too much stands before"):
        decode_rgb(gif_with(before))


def test_a_gif_s_honest_blocks_are_read_over() -> None:
    before = b"!\xfe\5hello\0!\xff\x0bNETSCAPE2.0\3\1\0\0\0" + b"!\xff\x0bXMP DataXMP" + (b"\xff" + b"x" * 255) * 200 + b"\0"
    assert decode_rgb(gif_with(before)).size == (100, 80)
