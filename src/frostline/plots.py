"""Pictures of saved records, drawn by Matplotlib without a screen. Each is a pure function of its arguments.

Colours are Okabe & Ito's (2008), which colour-blind people can tell apart; lines differ in dash and marker as well.
"""

from __future__ import annotations

import math
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from frostline.errors import UserError
from frostline.files import write_through
from frostline.metrics import normalised

Rows = Sequence[Mapping[str, Any]]
Layout = Literal["constrained", "compressed"]  # the latter for axes of a fixed aspect

TRAIN, VALIDATION, MARK, DARK = "#0072B2", "#D55E00", "#009E73", "#444444"

#: A confusion matrix of more classes is drawn without its counts, or without its names.
MOST_COUNTED, MOST_NAMED = 20, 60

#: With more classes than these, neighbours share a square, so that it can be seen.
MOST_SQUARES = 200

_STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "legend.frameon": False,
    "figure.facecolor": "white",
    "text.parse_math": False,  # a class may be called "$5"
}

#: Matplotlib's own font has no Chinese, Japanese or Korean; whichever of these is installed fills in.
_FALLBACKS = ("Noto Sans CJK SC", "Noto Sans CJK JP", "Hiragino Sans", "PingFang SC", "Microsoft YaHei", "Malgun Gothic", "SimHei")


class NoPicturesError(UserError):
    """Matplotlib is not installed: figures are saved as numbers alone."""


@contextmanager
def new_figure(path: Path, title: str, width: float, height: float, layout: Layout = "constrained") -> Iterator[Any]:
    """A titled figure (inches) to draw on, written to ``path`` as PNG on leaving; pyplot and its state are not used."""
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
        from matplotlib.font_manager import fontManager
    except ImportError as error:
        raise NoPicturesError("Pictures need Matplotlib.", hint="pip install 'frostline[report]'") from error
    fonts = ["DejaVu Sans", *(name for name in _FALLBACKS if name in {font.name for font in fontManager.ttflist})]
    with mpl.rc_context({**_STYLE, "font.family": fonts}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # drawn as a box: no reason to fail
        figure = Figure(figsize=(width, height), dpi=150, layout=layout)
        title = title.encode("utf-8", "backslashreplace").decode()  # a folder's name may be no Unicode, which cannot be drawn
        lines = [line for part in title.splitlines() for line in textwrap.wrap(part, int(width * 10.5)) or [""]]
        figure.suptitle("\n".join(lines), fontsize=12, fontweight="bold")
        yield figure
        # Without the library's version inside, equal records give equal files.
        options: dict[str, Any] = {"format": "png", "metadata": {"Software": None}, "bbox_inches": "tight", "pad_inches": 0.12}
        write_through(path, lambda temporary: figure.savefig(temporary, **options))


def curves(history: Rows, path: Path, title: str, best: int | None = None) -> None:
    """Loss and accuracy over epochs, of training and validation, with the epoch whose weights were kept marked.

    Args:
        history: rows with "epoch" and any of train_loss, train_accuracy, validation_loss, validation_accuracy (null: a gap).
        path: the PNG to write.
        title: names the run and the model.
        best: the epoch that was kept; by default that of the highest validation accuracy, the first of equals.

    Raises:
        ValueError: no row is an epoch with a loss or an accuracy.
    """
    rows = [row for row in history if "epoch" in row]
    told = [what for what in ("loss", "accuracy") if any(f"{split}_{what}" in row for row in rows for split in _LINES)]
    if not told:
        raise ValueError("no row of the history is an epoch with a loss or an accuracy")
    best = _best_epoch(rows) if best is None else best
    with new_figure(path, title, 5 * len(told), 4.2) as figure:
        panels = figure.subplots(1, len(told), squeeze=False)[0]
        for axes, what in zip(panels, told, strict=True):
            _draw_epochs(axes, rows, what, best)
        handles, names = max((axes.get_legend_handles_labels() for axes in panels), key=lambda found: len(found[0]))
        figure.legend(handles, names, loc="outside lower center", ncols=3)


def _best_epoch(rows: Rows) -> int | None:
    judged = [row for row in rows if row.get("validation_accuracy") is not None]
    return max(judged, key=lambda row: row["validation_accuracy"])["epoch"] if judged else None


#: Key in the history: name in the legend, colour, dash, marker.
_LINES = {"train": ("training", TRAIN, "--", "s"), "validation": ("validation", VALIDATION, "-", "o")}


def _draw_epochs(axes: Any, rows: Rows, what: str, best: int | None) -> None:
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    epochs = [row["epoch"] for row in rows]
    dots = len(rows) <= 40
    for split, (name, colour, line, dot) in _LINES.items():
        values = [math.nan if row.get(f"{split}_{what}") is None else row[f"{split}_{what}"] for row in rows]
        if not np.isnan(values).all():
            axes.plot(epochs, values, line, color=colour, marker=dot if dots else "", markersize=4, label=name)
    if best in epochs:
        axes.axvline(best, color=MARK, linestyle=":", linewidth=1.8, label=f"kept: epoch {best}")
        _mark_best(axes, rows[epochs.index(best)], what)
    axes.set(title=what.capitalize(), xlabel="epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10, min_n_ticks=1))
    axes.set_xlim(min(epochs) - 0.5, max(epochs) + 0.5)
    if what == "accuracy":
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))


def _mark_best(axes: Any, row: Mapping[str, Any], what: str) -> None:
    value = row.get(f"validation_{what}")
    if value is None:
        return
    axes.plot([row["epoch"]], [value], "o", color=MARK, markersize=9, fillstyle="none", markeredgewidth=2)
    words = _percent(value) if what == "accuracy" else f"{value:.4g}"
    axes.set_title(f"kept: {words} on validation", loc="right", color=MARK, fontsize=9)


def learning_curve(points: Rows, path: Path, title: str, sentence: str = "") -> None:
    """Validation accuracy, with its interval, against the images seen (logarithmic), the seconds beneath them.

    Args:
        points: rows with images, validation_accuracy, and where known interval [low, high] and seconds.
        path: the PNG to write.
        title: names the run and the model.
        sentence: what the curve means, such as whether more images would help; drawn beneath.

    Raises:
        ValueError: no row is a point.
    """
    rows = [row for row in points if row.get("images") and row.get("validation_accuracy") is not None]
    if not rows:
        raise ValueError("no row has images and validation_accuracy")
    images, accuracy = ([row[key] for row in rows] for key in ("images", "validation_accuracy"))
    low, high = zip(*(row.get("interval") or [row["validation_accuracy"]] * 2 for row in rows), strict=True)
    with new_figure(path, title, 8, 4.8 if sentence else 4.4) as figure:
        from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter

        axes = figure.subplots()
        axes.fill_between(images, low, high, color=VALIDATION, alpha=0.18, linewidth=0, label="95 % interval")
        axes.vlines(images, low, high, color=VALIDATION, alpha=0.4, linewidth=1)
        axes.plot(images, accuracy, "-o", color=VALIDATION, markersize=4, label="validation accuracy")
        axes.set_xscale("log")
        axes.margins(x=0.06)
        ticks = _spread(images)
        axes.xaxis.set_major_locator(FixedLocator([images[i] for i in ticks]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticklabels([_tick(rows[i]) for i in ticks])
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
        axes.set(xlabel="training images seen, and seconds since the start", ylabel="validation accuracy")
        band = f" [{_percent(low[-1])}, {_percent(high[-1])}]" if low[-1] < high[-1] else ""
        axes.set_title(f"at the end {_percent(accuracy[-1])}{band}", loc="right")
        axes.legend(loc="lower right")
        if sentence:
            figure.supxlabel(textwrap.fill(sentence, 95), fontsize=10, color=DARK, style="italic")


def _tick(row: Mapping[str, Any]) -> str:
    seconds = row.get("seconds")
    return f"{row['images']:,}" + ("" if seconds is None else f"\n{seconds:,.{0 if seconds >= 10 else 1}f} s")


def _spread(images: Sequence[int], most: int = 9) -> list[int]:
    """Indices of points far enough apart on a logarithmic axis for a label each; the last is always one."""
    logs = np.log(images)
    gap = (logs.max() - logs.min()) / most
    chosen = [int(logs.argmax())]
    for i in np.argsort(-logs)[1:]:
        if logs[chosen[-1]] - logs[i] >= gap and gap > 0:
            chosen.append(int(i))
    return chosen[::-1]


def confusion(matrix: ArrayLike, classes: Sequence[str], path: Path, title: str, percent: bool = False) -> None:
    """A (K, K) confusion matrix: counts as numbers, the share of each row as colour (by its square root: rare mistakes show too).

    With ``percent`` the shares are the numbers, as percentages. Without numbers above ``MOST_COUNTED`` classes, without names above
    ``MOST_NAMED``; above ``MOST_SQUARES`` neighbouring classes are added up. A class without images is a grey row.
    """
    k = len(classes)
    together = math.ceil(k / MOST_SQUARES)
    counts = _added(np.asarray(matrix), together)
    shares = normalised(counts)
    names = [_shortened(name) for name in classes]
    margin = 1.2 + 0.075 * max(map(len, names)) * (k <= MOST_NAMED)
    side = max(2.6, 0.56 * k) if k <= MOST_COUNTED else max(7.5, 0.17 * k) if k <= MOST_NAMED else 8.0
    with new_figure(path, title, side + margin + 1.1, side + margin + 0.3, layout="compressed") as figure:
        axes = figure.subplots()
        _draw_shares(figure, axes, shares, k)
        about = "" if k <= MOST_NAMED else "  (number of the class)" if together == 1 else f"  ({together} classes to a square)"
        axes.set(xlabel=f"predicted{', % of the true class' if percent else ''}{about}", ylabel=f"true{about}")
        if k <= MOST_NAMED:
            _draw_names(axes, names, 10 if k <= MOST_COUNTED else 7)
        if k <= MOST_COUNTED:
            _draw_numbers(axes, [[f"{100 * share:.1f}" for share in row] for row in shares] if percent else counts, shares)


def _added(counts: NDArray[Any], together: int) -> NDArray[Any]:
    """Blocks of ``together`` rows and columns as one, the last ones smaller."""
    starts = np.arange(0, len(counts), together)
    return np.add.reduceat(np.add.reduceat(counts, starts, axis=0), starts, axis=1)


def _shortened(name: str, most: int = 24) -> str:
    """Names often differ at their ends, so the middle goes."""
    return name if len(name) <= most else f"{name[: most // 2]}…{name[-(most // 2 - 1) :]}"


def _draw_names(axes: Any, names: Sequence[str], size: int) -> None:
    turned = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if max(map(len, names)) > 5 else {}
    axes.set_xticks(range(len(names)), names, fontsize=size, **turned)
    axes.set_yticks(range(len(names)), names, fontsize=size)


def _draw_shares(figure: Any, axes: Any, shares: NDArray[np.float64], k: int) -> None:
    from matplotlib import colormaps
    from matplotlib.colors import PowerNorm
    from matplotlib.ticker import PercentFormatter

    colours = colormaps["Blues"].with_extremes(bad="#D9D9D9")
    edges = (-0.5, k - 0.5, k - 0.5, -0.5)
    image = axes.imshow(shares, cmap=colours, norm=PowerNorm(0.5, 0, 1), interpolation="nearest", extent=edges)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.03, ticks=[0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1])
    bar.ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    bar.outline.set_visible(False)
    bar.set_label("share of the true class")


def _draw_numbers(axes: Any, numbers: Any, shares: NDArray[np.float64]) -> None:
    """Where a share is more than nothing."""
    places = np.argwhere(shares > 0)
    digits = max([1, *(len(str(numbers[row][column])) for row, column in places)])
    for row, column in places:
        colour = "white" if shares[row, column] > 0.3 else "black"
        text = str(numbers[row][column])
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=min(10, 40 / digits))


def sample_grid(images: Sequence[NDArray[np.uint8]], titles: Sequence[str], path: Path, title: str, columns: int = 10) -> None:
    """N images, (H, W, 3) uint8 of any sizes, in rows of ``columns`` with a few words above each; their shapes are kept.

    Raises:
        ValueError: there are no images, or not one title each.
    """
    if len(images) == 0 or len(images) != len(titles):
        raise ValueError(f"{len(images)} images and {len(titles)} titles make no grid")
    columns = min(columns, len(images))
    words = [[line for part in text.splitlines() for line in _wrapped(part)][:3] for text in titles]
    heights = [1.06 + 0.14 * max(map(len, words[i : i + columns])) for i in range(0, len(images), columns)]
    ends = np.cumsum(heights)
    width = columns * 1.08 - 0.08
    with new_figure(path, title, max(4.0, 1.15 * width + 0.3), 1.15 * ends[-1] + 0.6, layout="compressed") as figure:
        axes = figure.subplots()
        axes.set_axis_off()
        for i, (image, lines) in enumerate(zip(images, words, strict=True)):
            _draw_image(axes, image, "\n".join(lines), i % columns * 1.08, ends[i // columns] - 1.04)
        axes.set(xlim=(0, width), ylim=(ends[-1], 0), aspect="equal")


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 18, max_lines=3, placeholder="…")


def _draw_image(axes: Any, image: NDArray[np.uint8], words: str, x: float, y: float) -> None:
    """Into the unit square whose upper left corner is (x, y), against its upper edge; the words stand on that edge."""
    height, width = (length / max(image.shape[:2]) for length in image.shape[:2])
    smoothing = "nearest" if max(image.shape[:2]) <= 128 else "antialiased"
    left = x + (1 - width) / 2
    axes.imshow(image, extent=(left, left + width, y + height, y), interpolation=smoothing)
    axes.text(x + 0.5, y - 0.03, words, ha="center", va="bottom", fontsize=7.5, linespacing=1.0)


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"
