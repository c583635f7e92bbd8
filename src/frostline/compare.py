"""Finished runs side by side, and whether their difference on the same images is more than chance.

Everything is computed from the saved predictions again, so runs older than a score have it too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table
from rich.text import Text

from frostline.calibrate import expected_calibration_error
from frostline.errors import UserError
from frostline.metrics import Z95, score
from frostline.predictions import Predictions
from frostline.runs import DATA, MODEL, SETTINGS, TIMINGS, Run

#: A difference is called one below this corrected p.
ALPHA = 0.05

#: What the runs' records (``Run.finish``) tell beyond their predictions; null where one does not.
_TOLD = ("parameters", "training_seconds")


def table(runs: Sequence[Run], split: str = "test") -> list[dict[str, Any]]:
    """A row per run, in the given order, as JSON values; ``model_bytes`` is the size of the model on disk.

    Raises:
        UserError: a run has no predictions of this split, or one of its files was changed.
    """
    return [_row(name, run, split) for name, run in zip(_names(runs), runs, strict=True)]


def _names(runs: Sequence[Run]) -> list[str]:
    """The runs' names; their folders where two have the same."""
    names = [run.name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.folder) for run in runs]


def _row(name: str, run: Run, split: str) -> dict[str, Any]:
    predictions = run.predictions(split)
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
    }


def stated(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """What the student projects that Frostline grew from state for CIFAR-10, as rows for ``render``; none for other data.

    Nobody has verified it; the letters are those of docs/recipes.md.
    """
    published = {run.read(DATA).get("published") for run in runs if DATA in run.names()}
    if published != {"cifar10"}:
        return []
    nothing = dict.fromkeys(("interval", "n", "log_loss", "macro_f1", "calibration_error", "model_bytes", *_TOLD))
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


def curves(runs: Sequence[Run]) -> dict[str, list[tuple[float, float]]]:
    """For each run its validation accuracy against the seconds since its command was given, in order of time.

    A point for every epoch, for every block of images that a head was fitted on, for each stage that was kept, and for the
    finished model, whose time is that at which it was saved.
    """
    return {name: _curve(run) for name, run in zip(_names(runs), runs, strict=True)}


def _curve(run: Run) -> list[tuple[float, float]]:
    spent = run.read(TIMINGS) if TIMINGS in run.names() else {}
    began = sum(spent.get(stage, 0.0) for stage in ("data", "compile"))
    points = []
    for row in run.history():
        if row.get("validation_accuracy") is None or row.get("stage") == "head":
            continue
        points.append((row["elapsed"] if "elapsed" in row else began + row["seconds"], row["validation_accuracy"]))
    if "validation-head" in run.splits:
        ready = began + sum(spent.get(stage, 0.0) for stage in ("activations", "head"))
        points.append((ready, float(run.predictions("validation-head").correct.mean())))
    if run.record.get("training_seconds") is not None and "validation" in run.splits:
        points.append((run.record["training_seconds"], float(run.predictions("validation").correct.mean())))
    return sorted(points)


def pairs(runs: Sequence[Run], split: str = "test") -> list[dict[str, Any]]:
    """Each pair of runs on the same images: difference of accuracy, exact McNemar test, Holm's correction, a verdict.

    Keys: a, b (names), n, only_a and only_b (images that only this one got right), difference (accuracy of a less that of b) and
    its interval (95 %), p, p_holm (equal to p for one pair), verdict.

    Raises:
        UserError: two runs were not judged on the same images with the same truth, or ``table``'s reasons.
    """
    judged = [(name, _by_id(run.predictions(split))) for name, run in zip(_names(runs), runs, strict=True)]
    rows = [_pair(*first, *second) for first, second in combinations(judged, 2)]
    for row, corrected in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p_holm"] = corrected
        row["verdict"] = _verdict(row, len(rows))
    return rows


def _by_id(p: Predictions) -> Predictions:
    order = np.argsort(p.ids)
    return Predictions(p.ids[order], p.labels[order], p.probabilities[order], p.classes, p.digests[order])


def paired(name_a: str, a: Predictions, name_b: str, b: Predictions) -> dict[str, Any]:
    """Two models on the same images, as ``pairs`` has it but for the correction and the verdict."""
    return _pair(name_a, _by_id(a), name_b, _by_id(b))


def _pair(name_a: str, a: Predictions, name_b: str, b: Predictions) -> dict[str, Any]:
    if reason := _difference_of_rows(a, b):
        hint = "judge both with 'frostline evaluate' on the same data and split"
        raise UserError(f"{name_a} and {name_b} cannot be compared: {reason}.", expected="the same images and truth", hint=hint)
    only_a, only_b = int((a.correct & ~b.correct).sum()), int((b.correct & ~a.correct).sum())
    row = {"a": name_a, "b": name_b, "n": len(a), "only_a": only_a, "only_b": only_b, "p": mcnemar(only_a, only_b)}
    interval = list(paired_interval(only_a, only_b, len(a)))
    return row | {"difference": (only_a - only_b) / len(a) if len(a) else None, "interval": interval}


def _difference_of_rows(a: Predictions, b: Predictions) -> str:
    """Why rows in order of their ids are not the same images with the same truth; empty when they are."""
    if len(a) != len(b):
        return f"one has {len(a)} rows, the other {len(b)}"
    if (other := a.ids != b.ids).any():
        return f"they hold different rows, such as {a.ids[other][0]} and {b.ids[other][0]}"
    if (other := a.digests != b.digests).any():
        return f"{other.sum()} images differ in content, such as {a.ids[other][0]}"
    if (other := _truth(a) != _truth(b)).any():
        return f"{other.sum()} images have another true class, such as {a.ids[other][0]}"
    return ""


def _truth(p: Predictions) -> NDArray[np.str_]:
    """(N,) names of true classes, as two models may order them differently; empty for an unknown one, the array's last."""
    return np.array([*p.classes, ""])[p.labels]


def mcnemar(only_a: int, only_b: int) -> float:
    """Two-sided p of the exact test that both are right equally often (McNemar 1947, Psychometrika 12:153; exact binomial).

    Among the images that exactly one got right, each is equally likely to be that one; the others tell nothing. Assumes
    independent images. Computed in whole numbers, without rounding.
    """
    n, few = only_a + only_b, min(only_a, only_b)
    term = total = 1
    for i in range(1, few + 1):
        term = term * (n - i + 1) // i
        total += term
    p: float = 2 * total / 2**n
    return min(1.0, p)


def paired_interval(only_a: int, only_b: int, n: int, z: float = Z95) -> tuple[float, float]:
    """Interval of the difference of two accuracies on the same ``n`` images.

    After Bonett and Price 2012 (Br. J. Math. Stat. Psychol. 65:479): Wald's interval with one image more that only a got right,
    and one that only b did. Assumes independent images. It and the exact test may disagree about zero where p is near 0.05.
    """
    a, b = (only_a + 1) / (n + 2), (only_b + 1) / (n + 2)
    half = z * math.sqrt((a + b - (a - b) ** 2) / (n + 2))
    return max(-1.0, a - b - half), min(1.0, a - b + half)


def holm(p_values: Sequence[float]) -> list[float]:
    """p values corrected for their number, in the given order (Holm 1979, Scand. J. Stat. 6:65).

    Calling differences those below alpha, one or more of them is wrong with probability alpha at most.
    """
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        corrected[i] = highest
    return corrected


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
    "training s": lambda row: _number(row["training_seconds"], ",.0f"),
}


def _accuracy(share: float, interval: Sequence[float] | None) -> str:
    between = "" if interval is None else " [{:.2f}, {:.2f}]".format(*(100 * end for end in interval))
    return f"{100 * share:.2f} %{between}"


def _number(value: float | None, form: str, scale: float = 1) -> str | None:
    return None if value is None else format(value * scale, form)


def render(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The rows of ``table`` for a terminal; what is not known is a dash."""
    shown = Table("run")
    for heading in _COLUMNS:
        shown.add_column(heading, justify="left" if heading == "recipe" else "right")
    for row in rows:
        cells = [row["name"], *(show(row) or "–" for show in _COLUMNS.values())]
        shown.add_row(*map(Text, cells))  # a name in brackets is a name, not a style
    return shown
