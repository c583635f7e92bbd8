"""The pictures of a run, from what it has recorded: curves, the search for a rate, confusion matrices as counts and percentages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from frostline import plots, plots_search
from frostline.metrics import counts
from frostline.progress import say
from frostline.runs import PLOTS, Run


def draw_pictures(run: Run, recipe: str, record: Mapping[str, Any]) -> None:
    """Draw each picture that the run's records give; one that cannot be drawn is said, for a judged run is worth more than it.

    Args:
        run: not finished yet; what is drawn becomes part of it.
        recipe: stands in the titles.
        record: of training: ``best``, ``learning_curve``, ``more_images``, ``lr_finder``, as far as they are there.
    """
    title = f"{run.folder.resolve().name} · {recipe}"
    for name, draw in _pictures(run, title, record):
        try:
            draw(run.folder / PLOTS / f"{name}.png")
        except plots.NoPicturesError as error:
            say(f"No pictures: {error}", "yellow")
            return
        except Exception as error:  # Matplotlib raises many kinds, and so does a disk
            say(f"The picture {name} could not be drawn: {type(error).__name__}: {error}", "yellow")


def _pictures(run: Run, title: str, record: Mapping[str, Any]) -> Iterator[tuple[str, Callable[[Path], None]]]:
    """Name of each picture, and what draws it to a path."""
    if epochs := [row for row in run.history() if "epoch" in row and row.get("stage") != "head"]:
        yield "curves", lambda path: plots.curves(epochs, path, title, record.get("best", {}).get("epoch"))
    if found := record.get("lr_finder"):
        yield "lr_finder", lambda path: plots_search.rate_finder(found, path, title)
    if points := record.get("learning_curve"):
        yield "learning_curve", lambda path: plots.learning_curve(points, path, title, record["more_images"])
    for name in run.splits:
        scores = run.scores(name)
        yield f"confusion_{name}", _confusion(run, name, title, percent=False)
        if len(scores["per_class"]) <= plots.MOST_COUNTED:  # where there is room for numbers
            yield f"confusion_{name}_percent", _confusion(run, name, title, percent=True)


def _confusion(run: Run, split: str, title: str, percent: bool) -> Callable[[Path], None]:
    def draw(path: Path) -> None:
        judged = run.predictions(split)
        plots.confusion(counts(judged), judged.classes, path, f"{title} · {split}", percent=percent)

    return draw
