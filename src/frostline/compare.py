"""Finished runs side by side, and whether their difference on the same images is more than chance.

Everything is computed from the saved predictions again, so runs older than a score have it too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from frostline.calibrate import expected_calibration_error
from frostline.errors import UserError
from frostline.metrics import score
from frostline.paired import difference_of_rows, holm, ordered, paired
from frostline.runs import DATA, MODEL, SETTINGS, TIMINGS, Run
from frostline.verified import check_record, verified

#: A difference is called one below this corrected p.
ALPHA = 0.05

#: What the runs' records (``Run.finish``) tell beyond their predictions; null where one does not.
_TOLD = ("parameters", "training_seconds")
#: Of the record's "speed": see ``speed.measure``.
_SPEED = ("images_per_second", "latency_ms")
#: Validation accuracy whose time the table tells.
REACHED = 0.9


def table(runs: Sequence[Run], split: str = "test") -> list[dict[str, Any]]:
    """A row per run, in the given order, as JSON values; ``model_bytes`` is the size of the model on disk.

    Raises:
        UserError: a run has no predictions of this split, or one of its files was changed.
    """
    return [_row(name, run, split) for name, run in zip(_names(runs), runs, strict=True)]


def distinct(runs: Sequence[Run]) -> None:
    """Refuse a run that is named twice, however its folder is written.

    Raises:
        UserError: two of them are one folder.
    """
    known: dict[Path, Path] = {}
    for run in runs:
        place = run.folder.resolve()
        if place in known:
            raise UserError(
                f"The run {run.name} is named twice.",
                expected="different runs",
                received=f"{known[place]} and {run.folder}, which are one folder",
                hint="name it once",
            )
        known[place] = run.folder


def tested(runs: Sequence[Run]) -> list[Run]:
    """Those of the runs that were judged on test images."""
    return [run for run in runs if "test" in run.splits]


def on_the_same_images(runs: Sequence[Run], split: str = "test") -> bool:
    """Whether all runs were judged on the very same images.

    Raises:
        UserError: as ``table``.
    """
    sets = [ordered(verified(run, split)) for run in runs]  # as pairs are compared: models may order their classes differently
    return not any(difference_of_rows(sets[0], other) for other in sets[1:])


def _names(runs: Sequence[Run]) -> list[str]:
    """The runs' names; their folders where two have the same."""
    names = [run.name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.folder) for run in runs]


def _row(name: str, run: Run, split: str) -> dict[str, Any]:
    check_record(run)
    predictions = verified(run, split)
    scores = score(predictions)
    files = [run.path(name) for name in run.names() if name.startswith(f"{MODEL}/")]
    return {
        "name": name,
        "recipe": run.read(SETTINGS).get("recipe") if SETTINGS in run.names() else None,
        **{key: scores[key] for key in ("accuracy", "interval", "n", "log_loss")},
        "macro_f1": scores["macro"]["f1"],
        "calibration_error": expected_calibration_error(predictions.probabilities, predictions.labels),
        **{key: run.record.get(key) for key in _TOLD},
        "model_bytes": sum(path.stat().st_size for path in files) if files else None,
        **{key: run.record.get("speed", {}).get(key) for key in _SPEED},
        "seconds_to_90": seconds_to(_curve(run), REACHED),
    }


def seconds_to(curve: Sequence[tuple[float, float]], accuracy: float) -> float | None:
    """Seconds since the command at which a curve (see ``curves``) first had this accuracy; None where it never did."""
    return next((seconds for seconds, reached in curve if reached >= accuracy), None)


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Which (cost, worth) no other point beats in one without being worse in the other, by rising cost (Pareto 1906).

    Equal points are all on the front.
    """
    better = [any(_dominates(other, point) for other in points) for point in points]
    return sorted((i for i, beaten in enumerate(better) if not beaten), key=lambda i: points[i])


def _dominates(a: tuple[float, float], b: tuple[float, float]) -> bool:
    return a != b and a[0] <= b[0] and a[1] >= b[1]


def stated(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """What the student projects that Frostline grew from state for CIFAR-10, as rows for ``render``; none for other data.

    Nobody has verified it; the letters are those of docs/recipes.md.
    """
    published = {run.read(DATA).get("published") for run in runs if DATA in run.names()}
    if published != {"cifar10"}:
        return []
    nothing = dict.fromkeys(
        ("interval", "n", "log_loss", "macro_f1", "calibration_error", "model_bytes", *_TOLD, *_SPEED, "seconds_to_90")
    )
    return [{"name": name, "recipe": "stated", "accuracy": accuracy, **nothing, **more} for name, accuracy, more in _STATED]


#: Name, accuracy and what else they state.
_STATED: tuple[tuple[str, float, dict[str, Any]], ...] = (
    ("small CNN (D)", 0.75, {}),
    ("MobileNetV2, frozen (A)", 0.8469, {}),
    ("MobileNetV2, frozen (D)", 0.85, {}),
    ("EfficientNetV2-S, frozen (A)", 0.8738, {}),
    ("VGG-style CNN (B)", 0.88, {}),
    ("EfficientNet-B2 (B)", 0.90, {"macro_f1": 0.90}),
    ("MobileNetV2, fine-tuned (D)", 0.9024, {"log_loss": 0.33}),
)


def curves(runs: Sequence[Run]) -> list[tuple[str, list[tuple[float, float]]]]:
    """For each run its name, and its validation accuracy against the seconds since its command was given, in order of time.

    A point for every epoch, for every block of images that a head was fitted on, for each stage that was kept, and for the
    finished model, whose time is that at which it was saved.
    """
    return [(name, _curve(run)) for name, run in zip(_names(runs), runs, strict=True)]


def _curve(run: Run) -> list[tuple[float, float]]:
    spent = run.read(TIMINGS) if TIMINGS in run.names() else {}
    began = sum(spent.get(stage, 0.0) for stage in ("data", "compile"))
    points = []
    for row in run.history():
        if row.get("validation_accuracy") is None or row.get("stage") == "head":
            continue
        own = 0.0 if row.get("stage") == "features" else began  # a block of images has the command's clock, an epoch its training's
        points.append((row["elapsed"] if "elapsed" in row else own + row["seconds"], row["validation_accuracy"]))
    if "validation-head" in run.splits:
        ready = began + sum(spent.get(stage, 0.0) for stage in ("activations", "head"))
        points.append((ready, float(verified(run, "validation-head").correct.mean())))
    if run.record.get("training_seconds") is not None and "validation" in run.splits:
        points.append((run.record["training_seconds"], float(verified(run, "validation").correct.mean())))
    return sorted(points)


def pairs(runs: Sequence[Run], split: str = "test") -> list[dict[str, Any]]:
    """Each pair of runs on the same images: difference of accuracy, exact McNemar test, Holm's correction, a verdict.

    Keys: a, b (names), n, only_a and only_b (images that only this one got right), difference (accuracy of a less that of b) and
    its interval (95 %), p, p_holm (equal to p for one pair), verdict.

    Raises:
        UserError: two runs were not judged on the same images with the same truth, or ``table``'s reasons.
    """
    judged = [(name, verified(run, split)) for name, run in zip(_names(runs), runs, strict=True)]
    rows = [paired(*first, *second) for first, second in combinations(judged, 2)]
    for row, corrected in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p_holm"] = corrected
        row["verdict"] = _verdict(row, len(rows))
    return rows


def _verdict(row: Mapping[str, Any], count: int) -> str:
    p = f"p = {row['p_holm']:.2g}" + (f", corrected for {count} pairs" if count > 1 else "")
    if row["p_holm"] >= ALPHA:
        return f"{row['a']} and {row['b']} cannot be told apart on these {row['n']:,} images ({p})"
    better, worse = (row["a"], row["b"]) if row["difference"] > 0 else (row["b"], row["a"])
    low, high = sorted(math.copysign(100, row["difference"]) * end for end in row["interval"])
    gain = f"{100 * abs(row['difference']):.2f} points, 95 % interval {low:.2f} to {high:.2f}"
    return f"{better} is better than {worse} by {gain}, on these {row['n']:,} images ({p})"


#: Heading and contents of the columns after the name; None is shown as a dash.
_COLUMNS: dict[str, Callable[[Mapping[str, Any]], str | None]] = {
    "recipe": lambda row: row["recipe"],
    "accuracy, 95 % interval": lambda row: _accuracy(row["accuracy"], row["interval"]),
    "n": lambda row: _number(row["n"], ",d"),
    "macro F1": lambda row: _number(row["macro_f1"], ".4f"),
    "log loss": lambda row: _number(row["log_loss"], ".4f"),
    "ECE": lambda row: _number(row["calibration_error"], ".4f"),
    "parameters": lambda row: _number(row["parameters"], ",d"),
    "model MB": lambda row: _number(row["model_bytes"], ",.1f", 1e-6),
    "images/s": lambda row: _number(row["images_per_second"], ",.0f"),
    "ms for one": lambda row: _number(row["latency_ms"], ",.2f"),
    "training min": lambda row: _minutes(row["training_seconds"]),
    "min to 90 %": lambda row: _minutes(row["seconds_to_90"]),
}


def _accuracy(share: float, interval: Sequence[float] | None) -> str:
    between = "" if interval is None else " [{:.2f}, {:.2f}]".format(*(100 * end for end in interval))
    return f"{100 * share:.2f} %{between}"


def _number(value: float | None, form: str, scale: float = 1) -> str | None:
    return None if value is None else format(value * scale, form)


def _minutes(seconds: float | None) -> str | None:
    return _number(seconds, ",.1f" if seconds and seconds >= 600 else ".2f", 1 / 60)


def render(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The rows of ``table`` for a terminal; what is not known is a dash."""
    shown = Table("run")
    for heading in _COLUMNS:
        shown.add_column(heading, justify="left" if heading == "recipe" else "right")
    for row in rows:
        cells = [row["name"], *(show(row) or "–" for show in _COLUMNS.values())]
        shown.add_row(*map(Text, cells))  # a name in brackets is a name, not a style
    return shown
