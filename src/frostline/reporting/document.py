"""A report before it has a form: titled sections of paragraphs, lists, tables and figures. Its text is plain, never markup."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from frostline.reporting.words import DASH

#: A number with its unit, and perhaps an interval behind it.
_NUMBER = re.compile(r"[+−]?[\d,.]+( to [\d.]+)?(e[+-]?\d+)?( (%|s|min|h|GB|MB|kB|ms|px))?( \([^()]* to [^()]*\))?")


def _is_number(cell: str) -> bool:
    return cell == DASH or _NUMBER.fullmatch(cell) is not None


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    kind: ClassVar[str] = "text"
    text: str


@dataclass(frozen=True)
class Items:
    """A list of sentences."""

    kind: ClassVar[str] = "items"
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Code:
    """Lines to type; ``label`` says what they are."""

    kind: ClassVar[str] = "code"
    label: str
    text: str


@dataclass(frozen=True)
class Heading:
    """A heading inside a section."""

    kind: ClassVar[str] = "heading"
    text: str


@dataclass(frozen=True)
class Table:
    """Rows of cells; the first cell of each names its row. ``emphasis``: the number of the row to be seen first, or -1."""

    kind: ClassVar[str] = "table"
    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    emphasis: int = -1

    @property
    def numeric(self) -> tuple[bool, ...]:
        """Which columns hold numbers, and so stand to the right; the first holds names."""
        columns = [[row[i] for row in self.rows] for i in range(1, len(self.header))]
        return False, *(all(map(_is_number, column)) and any(cell != DASH for cell in column) for column in columns)

    def __post_init__(self) -> None:
        if any(len(row) != len(self.header) for row in self.rows):
            raise ValueError(f"the rows of {self.caption!r} do not have {len(self.header)} cells each")


@dataclass(frozen=True)
class Figure:
    """A picture: SVG text, or the bytes of a PNG or JPEG.

    Attributes:
        name: of its file, without the ending; unique in a report.
        caption: beneath it; names the run and the model.
        alt: what somebody who cannot see it has to know.
        svg: the drawing; empty for a photograph.
        png, jpeg: a photograph's bytes, in one of the two; both empty for a drawing.
    """

    name: str
    caption: str
    alt: str
    svg: str = ""
    png: bytes = b""
    jpeg: bytes = b""

    @property
    def photo(self) -> bytes:
        """The bytes of a photograph; empty for a drawing."""
        return self.png or self.jpeg

    @property
    def file(self) -> str:
        """Its file's name."""
        return f"{self.name}.{'svg' if self.svg else 'jpg' if self.jpeg else 'png'}"


@dataclass(frozen=True)
class Figures:
    """Pictures side by side where there is room."""

    kind: ClassVar[str] = "figures"
    figures: tuple[Figure, ...]


Block = Text | Items | Code | Heading | Table | Figures


@dataclass(frozen=True)
class Section:
    """A titled part of the report; ``key`` names it in links."""

    key: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Document:
    """The whole report.

    Attributes:
        title, subtitle: what it is about.
        verdict: the three sentences: which model to ship, what it confuses, what to fix in the data.
        sections: in order.
        language: of the text, as BCP 47 has it.
    """

    title: str
    subtitle: str
    verdict: tuple[tuple[str, str], ...]
    sections: tuple[Section, ...]
    language: str = "en"

    @property
    def figures(self) -> list[Figure]:
        """All pictures, in order."""
        blocks = [block for section in self.sections for block in section.blocks if isinstance(block, Figures)]
        return [figure for block in blocks for figure in block.figures]


def table(caption: str, header: Sequence[str], rows: Sequence[Sequence[str]], emphasis: int = -1) -> Table:
    """A ``Table`` of any sequences."""
    return Table(caption, tuple(header), tuple(tuple(row) for row in rows), emphasis)
