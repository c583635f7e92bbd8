"""A document as one HTML page, and as Markdown with its pictures beside it."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from frostline.errors import UserError
from frostline.reporting.document import Block, Code, Document, Figure, Figures, Heading, Items, Table, Text

TEMPLATES = Path(__file__).parent / "templates"
#: Folder of the pictures beside the Markdown.
PICTURES = "pictures"


def html(document: Document) -> str:
    """One page that needs nothing else: styles and pictures are inside; no scripts, no addresses. Text is escaped.

    Raises:
        UserError: Jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
        from markupsafe import Markup
    except ImportError as error:
        raise UserError("A report needs Jinja2.", hint="pip install 'frostline[report]'") from error
    loader = FileSystemLoader(TEMPLATES, encoding="utf-8")
    spaces: dict[str, Any] = {"trim_blocks": True, "lstrip_blocks": True, "finalize": _together}
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, **spaces)
    style = Markup((TEMPLATES / "style.css").read_text("utf-8"))
    drawn = {figure.name: Markup(figure.svg) for figure in document.figures if figure.svg}  # drawn here, escaped there
    photos = {figure.name: _inside(figure) for figure in document.figures if figure.photo}
    template = environment.get_template("report.html.j2")
    return template.render(document=document, style=style, drawn=drawn, photos=photos) + "\n"


def _together(value: Any) -> Any:
    """A number and its percent sign stay on one line; what is markup already stays as it is."""
    return value.replace(" %", "\N{NO-BREAK SPACE}%") if type(value) is str else value


def _inside(figure: Figure) -> str:
    kind = "jpeg" if figure.jpeg else "png"
    return f"data:image/{kind};base64,{base64.b64encode(figure.photo).decode('ascii')}"


def markdown(document: Document) -> str:
    """The same text, tables and figures; pictures are links into ``PICTURES``."""
    lines = [f"# {plain(document.title)}", "", plain(document.subtitle), "", "## Verdict", ""]
    lines += [f"{i}. **{plain(lead)}:** {plain(text)}" for i, (lead, text) in enumerate(document.verdict, 1)]
    for section in document.sections:
        lines += ["", f"## {plain(section.title)}"]
        for block in section.blocks:
            lines += ["", *_lines(block)]
    return "\n".join([*lines, ""])


def _lines(block: Block) -> Iterator[str]:
    if isinstance(block, Text):
        yield plain(block.text)
    elif isinstance(block, Items):
        yield from (f"- {plain(item)}" for item in block.sentences)
    elif isinstance(block, Heading):
        yield f"### {plain(block.text)}"
    elif isinstance(block, Code):
        yield from (f"{plain(block.label)}:", "", "```sh", *block.text.splitlines(), "```")
    elif isinstance(block, Figures):
        for figure in block.figures:
            yield from (f"![{plain(figure.alt)}]({PICTURES}/{figure.file})", "", f"*{plain(figure.caption)}*", "")
    else:
        yield from _rows(block)


def _rows(table: Table) -> Iterator[str]:
    yield f"**{plain(table.caption)}**"
    yield ""
    yield _row(table.header)
    yield "|" + "---|" * len(table.header)
    for i, row in enumerate(table.rows):
        cells = [plain(cell) for cell in row]
        yield _row([f"**{cell}**" if i == table.emphasis and cell else cell for cell in cells], escaped=True)


def _row(cells: object, escaped: bool = False) -> str:
    listed = list(cells) if isinstance(cells, list | tuple) else []
    return "| " + " | ".join(cell if escaped else plain(cell) for cell in listed) + " |"


def plain(text: str) -> str:
    """Text that Markdown shows as it is: nothing in a name becomes markup, a link or a new line."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", " ".join(text.split()))
