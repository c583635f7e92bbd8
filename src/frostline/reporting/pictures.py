"""Photographs in a report made small enough, so that the page can be sent: as they are, as JPEG, then with fewer pixels."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import replace

from PIL import Image

from frostline.decode import BadImage, decode_rgb
from frostline.errors import UserError
from frostline.reporting.document import Block, Document, Figure, Figures, Text

#: Bytes of a page that mail and chat still take.
MOST_BYTES = 5_000_000
#: Of a page that is full of other things, what pictures may take all the same.
LEAST_ROOM = 1_000_000
QUALITY = 85
#: Width in pixels at which the page shows a picture: with more nothing is seen, with less something is lost, which is said.
#: A grid of ten a row has cells of 98 px then. Below the least nothing can be made out.
SEEN, LEAST = 1100, 320

_WHY = f"for the page is kept below {MOST_BYTES / 1e6:.0f} MB"


def fitted(document: Document, page_bytes: int, most: int = MOST_BYTES) -> Document:
    """The document with pictures that let its page stay within ``most`` bytes; the same one where they do already.

    Small pictures stay as they are, and what they leave of their share goes to the larger ones. A caption says where a picture was
    made so small that it can be seen, and a sentence stands in the place of one that had to be left out.

    Args:
        document: with all pictures as they were found.
        page_bytes: of its page, with these pictures inside.
        most: bytes of the page.

    Raises:
        UserError: a picture that is too large cannot be read.
    """
    photos = {figure.name: figure for figure in document.figures if figure.png}
    if page_bytes <= most or not photos:
        return document
    inside = sum(_inside(len(figure.png)) for figure in photos.values())
    room = max(most - (page_bytes - inside), LEAST_ROOM) - 1000 * len(photos)  # captions grow by a sentence
    small: dict[str, Figure | None] = {}
    for left, figure in zip(range(len(photos), 0, -1), sorted(photos.values(), key=lambda each: len(each.png)), strict=True):
        small[figure.name] = found = _within(figure, room // left * 3 // 4 - 3)
        room -= _inside(len(found.photo)) if found else 0
    sections = tuple(
        replace(section, blocks=tuple(new for block in section.blocks for new in _changed(block, small)))
        for section in document.sections
    )
    return replace(document, sections=sections)


def _inside(count: int) -> int:
    """Characters of so many bytes in base64."""
    return math.ceil(count / 3) * 4


def _changed(block: Block, small: Mapping[str, Figure | None]) -> list[Block]:
    """A block with its pictures exchanged; those that are left out as sentences behind it."""
    if not isinstance(block, Figures):
        return [block]
    kept = tuple(new for figure in block.figures if (new := small.get(figure.name, figure)))
    out = [figure for figure in block.figures if figure.name in small and small[figure.name] is None]
    said = [Text(f"{figure.caption.rstrip('.')}: left out, {_WHY}.") for figure in out]
    return [*([Figures(kept)] if kept else []), *said]


def _within(figure: Figure, most: int) -> Figure | None:
    """The picture in at most so many bytes; None where it could not be made out then."""
    if len(figure.png) <= most:
        return figure
    try:
        image = decode_rgb(figure.png)
    except BadImage as error:
        raise UserError(f"The picture {figure.file} cannot be read.", received=str(error), hint="make it again") from error
    width = image.width
    while width >= min(LEAST, image.width):
        content = _jpeg(image, width)
        if len(content) <= most:
            lost = width < min(image.width, SEEN)
            said = f" Shrunk to {100 * width / image.width:.0f} % of its width, {_WHY}." if lost else ""
            caption = f"{figure.caption.rstrip('.')}.{said}" if said else figure.caption
            return replace(figure, caption=caption, png=b"", jpeg=content)
        width = int(width * min(0.95, 0.98 * math.sqrt(most / len(content)))) if most > 0 else 0
    return None


def _jpeg(image: Image.Image, width: int) -> bytes:
    stream = io.BytesIO()
    height = max(1, round(image.height * width / image.width))
    image.resize((width, height), Image.Resampling.LANCZOS).save(stream, "JPEG", quality=QUALITY)
    return stream.getvalue()
