"""Pictures of why a model says what it says. Pure functions of their arguments, as in ``plots``."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.plots import DARK, TRAIN, new_figure

Image8 = NDArray[np.uint8]
#: Neighbours in a row under the image.
_IN_A_ROW = 5


def explanation(
    images: tuple[Image8, Image8],
    titles: tuple[str, str],
    bars: Sequence[tuple[str, float]],
    neighbours: Sequence[tuple[Image8, str]],
    path: Path,
    title: str,
) -> None:
    """The image, the image with its heat, probabilities as bars, and the training images most like it beneath.

    Args:
        images: as the model sees it, and with the heat over it, (H, W, 3) uint8.
        titles: a few words above each.
        bars: (class, probability), best first.
        neighbours: (image, words); none leaves the row out.
        path: the PNG to write.
        title: names the image, the model and its answer.
    """
    rows = -(-len(neighbours) // _IN_A_ROW)
    heights = [2.7, *[1.95] * rows]
    with new_figure(path, title, 8.6, sum(heights) + 0.7) as figure:
        parts = figure.subfigures(1 + rows, 1, height_ratios=heights, squeeze=False)[:, 0]
        seen, heat, chances = parts[0].subplots(1, 3, width_ratios=[1, 1, 1.05])
        for axes, image, words in zip((seen, heat), images, titles, strict=True):
            _show(axes, image, words)
        _draw_bars(chances, bars)
        for row in range(rows):
            shown = neighbours[row * _IN_A_ROW : (row + 1) * _IN_A_ROW]
            places = parts[1 + row].subplots(1, _IN_A_ROW, squeeze=False)[0]
            if row == 0:
                parts[1].suptitle("Seen in training and most alike by features (1 − cosine):", fontsize=10, x=0.01, ha="left")
            for axes, (image, words) in zip(places, shown, strict=False):
                _show(axes, image, words, size=8)
            for axes in places[len(shown) :]:
                axes.set_axis_off()


def _show(axes: Any, image: Image8, words: str, size: int = 10) -> None:
    axes.imshow(image, interpolation="nearest" if max(image.shape[:2]) <= 128 else "antialiased")
    axes.set_axis_off()
    wide = 24 if size < 10 else 32
    lines = [textwrap.shorten(line, wide, placeholder="…") or line[:wide] for line in words.splitlines()]
    axes.set_title("\n".join(lines), fontsize=size, loc="center")


def _draw_bars(axes: Any, bars: Sequence[tuple[str, float]]) -> None:
    """Each class' name stands above its bar, so that long ones have room."""
    places = np.arange(len(bars))
    axes.barh(places, [1.0] * len(bars), height=0.34, color="#EEEEEE")
    axes.barh(places, [p for _, p in bars], height=0.34, color=TRAIN)
    for place, (name, p) in zip(places, bars, strict=True):
        words = textwrap.shorten(name, 26, placeholder="…") or name[:25]
        axes.text(0, place - 0.27, words, ha="left", va="bottom", fontsize=10)
        axes.text(1, place - 0.27, f"{100 * p:.1f} %", ha="right", va="bottom", fontsize=10, color=DARK)
    axes.set(xlim=(0, 1), ylim=(max(2.5, len(bars) - 0.5), -0.75))
    axes.set_title("calibrated probability", fontsize=10, loc="center")
    axes.set_axis_off()
