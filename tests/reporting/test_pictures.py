"""A page stays small enough to be sent, whatever pictures are in it, and says where that can be seen."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from frostline.errors import UserError
from frostline.reporting.document import Document, Figure, Figures, Section, Text
from frostline.reporting.page import html, markdown
from frostline.reporting.pictures import fitted

pytest.importorskip("jinja2")


@pytest.fixture(autouse=True)
def no_least_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frostline.reporting.pictures.LEAST_ROOM", 0)  # so that small pictures will do


def png(height: int, width: int, noisy: bool = True) -> bytes:
    pixels = np.random.default_rng(height).integers(0, 256, (height, width, 3) if noisy else (1, 1, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(np.broadcast_to(pixels, (height, width, 3))).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def document(**pictures: bytes) -> Document:
    figures = [Figures((Figure(name, f"About {name}", f"What {name} shows.", png=content),)) for name, content in pictures.items()]
    drawing = Figures((Figure("drawn", "A drawing", "A line.", svg='<svg role="img" aria-label="A line."></svg>'),))
    return Document("Title", "Subtitle", (), (Section("data", "Data", (Text("First."), drawing, *figures, Text("Last."))),))


def made(most: int, **pictures: bytes) -> Document:
    whole = document(**pictures)
    return fitted(whole, len(html(whole).encode()), most)


def by_name(found: Document) -> dict[str, Figure]:
    return {figure.name: figure for figure in found.figures}


def test_what_is_small_enough_is_left_alone() -> None:
    whole = document(photo=png(50, 60))
    assert fitted(whole, 4_999_999) is whole
    drawn = document()
    assert fitted(drawn, 9_000_000) is drawn


def test_a_large_photo_becomes_a_jpeg_and_a_small_one_stays() -> None:
    small, large = png(90, 300, noisy=False), png(300, 1000)
    found = made(1_000_000, large=large, small=small)
    assert len(html(found).encode()) <= 1_000_000
    shown = by_name(found)
    assert shown["small"].png == small
    assert (shown["large"].png, shown["large"].file, shown["large"].caption) == (b"", "large.jpg", "About large")
    with Image.open(io.BytesIO(shown["large"].jpeg)) as image:
        assert (image.format, image.size) == ("JPEG", (1000, 300))
    assert 'src="data:image/jpeg;base64,/9j/' in html(found)
    assert "(pictures/large.jpg)" in markdown(found)


def test_pixels_that_a_page_does_not_show_may_go_unsaid_and_others_not() -> None:
    wide = by_name(made(400_000, wide=png(200, 2400)))["wide"]
    with Image.open(io.BytesIO(wide.jpeg)) as image:
        assert 1100 <= image.width < 2400
    assert wide.caption == "About wide"
    found = made(300_000, wide=png(400, 1200))
    assert len(html(found).encode()) <= 300_000
    with Image.open(io.BytesIO(by_name(found)["wide"].jpeg)) as image:
        width, height = image.size
    assert 320 <= width < 1100
    assert abs(height - width * 400 / 1200) <= 1
    assert by_name(found)["wide"].caption.startswith(f"About wide. Shrunk to {100 * width / 1200:.0f} % of its width, for the page")


def test_room_that_small_ones_leave_goes_to_large_ones() -> None:
    photos = {"a": png(300, 1100), "b": png(301, 1100), "c": png(10, 10)}
    found = made(400_000, **photos)
    size = len(html(found).encode())
    assert 300_000 < size <= 400_000
    widths = {}
    for name in "ab":
        with Image.open(io.BytesIO(by_name(found)[name].jpeg)) as image:
            widths[name] = image.width
    assert min(widths.values()) > 0.8 * max(widths.values())


def test_what_could_not_be_made_out_is_left_out_and_said() -> None:
    found = made(100_000, **{f"p{number}": png(600 + number, 330) for number in range(3)})
    assert [figure.name for figure in found.figures] == ["drawn"]
    blocks = found.sections[0].blocks
    assert blocks[2] == Text("About p0: left out, for the page is kept below 5 MB.")
    assert len(html(found).encode()) <= 100_000


def test_a_page_that_other_things_fill_still_has_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frostline.reporting.pictures.LEAST_ROOM", 300_000)
    full = document(photo=png(300, 700), spare=b"png")
    text = Text("word " * 10_000)
    full = replace(full, sections=(*full.sections, Section("long", "Long", (text,))))
    found = fitted(full, len(html(full).encode()), 20_000)
    assert by_name(found)["photo"].file == "photo.jpg"


def test_a_picture_that_cannot_be_read_is_named() -> None:
    with pytest.raises(UserError, match=r"The picture broken\.png cannot be read"):
        made(100_000, broken=b"\x89PNG\r\n\x1a\n" + bytes(150_000))


def test_the_same_pictures_give_the_same_bytes() -> None:
    large = png(300, 900)
    assert made(200_000, large=large) == made(200_000, large=large)
