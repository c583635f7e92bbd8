"""The network drawn: what is frozen, the frost line, and what trains above it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from frostline.reporting.svg import INK, SOFT, WIDTH, Svg

FROZEN, TRAINS, EDGE = "#d6e8f3", "#fbe3d1", "#51606e"
ICE = "#0a5f94"
#: Blocks that are drawn one by one; neighbours of more are drawn as one.
MOST_BLOCKS = 14
_HEIGHT, _GAP = 26.0, 6.0

Blocks = Sequence[Mapping[str, Any]]


def network(blocks: Blocks, stored: str, classes: int, views: int, alt: str) -> str:
    """A network from the image (beneath) to the probabilities (above); the bar in a block follows its share of all parameters.

    Args:
        blocks: as ``layers.blocks`` gives them, from the input on.
        stored: what goes in, in words.
        classes: K.
        views: of each image that are averaged.
        alt: what a screen reader says.
    """
    shown = _joined(blocks)
    total = sum(block["parameters"] for block in blocks) or 1
    known = all(block["trained"] is not None for block in blocks)
    line = next((i for i, block in enumerate(shown) if block["trained"]), len(shown)) if known else -1
    crossed = 0 < line < len(shown)
    drawing = Svg((len(shown) + 2) * (_HEIGHT + _GAP) + (30 if crossed else 0) + 12)
    y = drawing.height - 6 - _HEIGHT
    _plate(drawing, y, f"image, {stored}" + (f", seen as {views} views" if views > 1 else ""))
    for i, block in enumerate(shown):
        if i == line and crossed:
            _frost(drawing, y - _GAP - 4)
            y -= 30
        y -= _HEIGHT + _GAP
        _draw(drawing, y, block, total, known)
    y -= _HEIGHT + _GAP
    _plate(drawing, y, f"probabilities of {classes} classes")
    return drawing.render(alt)


def _joined(blocks: Blocks) -> list[dict[str, Any]]:
    """At most ``MOST_BLOCKS``: neighbours on the same side of the frost line become one, the smallest first."""
    shown = [dict(block) for block in blocks]
    while len(shown) > MOST_BLOCKS:
        pairs = [i for i in range(len(shown) - 1) if bool(shown[i]["trained"]) == bool(shown[i + 1]["trained"])]
        if not pairs:
            break
        i = min(pairs, key=lambda place: shown[place]["parameters"] + shown[place + 1]["parameters"])
        one, other = shown[i : i + 2]
        trained = None if one["trained"] is None else one["trained"] + other["trained"]
        first, last = one["name"].split(" … ")[0], other["name"].split(" … ")[-1]
        both = {"name": f"{first} … {last}", "parameters": one["parameters"] + other["parameters"], "trained": trained}
        shown[i : i + 2] = [both]
    return shown


def _plate(drawing: Svg, y: float, words: str) -> None:
    drawing.box(8, y, WIDTH - 16, _HEIGHT, "#fff", EDGE, 5)
    drawing.text(WIDTH / 2, y + 17, words, 11, INK, "middle")


def _draw(drawing: Svg, y: float, block: Mapping[str, Any], total: int, known: bool) -> None:
    trains = bool(block["trained"])
    drawing.box(8, y, WIDTH - 16, _HEIGHT, "#eef1f4" if not known else TRAINS if trains else FROZEN, EDGE, 5)
    part = block["parameters"] / total
    drawing.box(8, y + _HEIGHT - 4, (WIDTH - 16) * part, 4, "#c04a00" if trains else ICE if known else SOFT)
    drawing.text(16, y + 16, block["name"], 11)
    drawing.text(WIDTH - 16, y + 16, f"{block['parameters']:,}", 10.5, INK, "end")


def _frost(drawing: Svg, y: float) -> None:
    """The line itself: above it layers train, below it nothing moves."""
    drawing.line((0, y), (WIDTH, y), ICE, 2.5, "7 4")
    drawing.text(8, y - 6, "▲ trains", 10.5, "#a03c00", bold=True)
    drawing.text(WIDTH / 2, y - 6, "FROST LINE", 10.5, ICE, "middle", bold=True)
    drawing.text(WIDTH - 8, y - 6, "frozen ▼", 10.5, ICE, "end", bold=True)
