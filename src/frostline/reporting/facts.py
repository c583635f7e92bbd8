"""What the saved records of runs say: read, checked and scored again, once, before a word is written."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.calibrate import apply_temperature, expected_calibration_error
from frostline.compare import curves, distinct, pairs, stated, table
from frostline.errors import UserError
from frostline.files import digest_json
from frostline.layers import blocks, weight_shapes
from frostline.metrics import counts, score
from frostline.paired import ordered
from frostline.predictions import Predictions
from frostline.reporting import inspected
from frostline.reporting.document import Table
from frostline.reporting.document import table as make_table
from frostline.reporting.galleries import Gallery
from frostline.reporting.galleries import read as read_gallery
from frostline.reporting.words import DASH
from frostline.runs import DATA, ENVIRONMENT, MODEL, SETTINGS, TIMINGS, Run
from frostline.verified import check_record, evidence, verified

Record = dict[str, Any]
CARD, WEIGHTS = f"{MODEL}/model.json", f"{MODEL}/weights.safetensors"


@dataclass(frozen=True)
class Judged:
    """One run, as its records have it; an empty record is one that the run does not keep.

    Attributes:
        name: unique among the runs of a report.
        model: what the model's card calls it, or the recipe.
        run: for its pictures.
        record: of ``Run.finish``.
        settings, data, environment, timings, card: the JSON records.
        history: its rows.
        predictions: verified, by split ("test", "validation-head", …).
        scores: of these, computed anew.
        blocks: of the network (``layers.blocks``); empty where the run keeps no model.
        row: of ``compare.table`` on the split that is judged.
        curve: (seconds, validation accuracy), as ``compare.curves`` has it.
    """

    name: str
    model: str
    run: Run
    record: Record
    settings: Record
    data: Record
    environment: Record
    timings: Record
    card: Record
    history: list[Record]
    predictions: dict[str, Predictions]
    scores: dict[str, Record]
    blocks: list[Record]
    row: Record
    curve: list[tuple[float, float]]

    @property
    def digest(self) -> str:
        """Of the run's manifest, and so of all its files."""
        return digest_json(self.run.manifest)

    @property
    def label(self) -> str:
        """Run and model, for captions."""
        return self.name if self.model in ("", self.name) else f"{self.name} · {self.model}"

    @property
    def training(self) -> Record:
        """What the card tells of the training."""
        return dict(self.card.get("training", {}))

    @property
    def architecture(self) -> Record:
        """What the card tells of the network."""
        return dict(self.card.get("architecture", {}))

    @property
    def tells_training(self) -> bool:
        """Whether its records are those of ``experiment.train``, which chooses on validation and then reads test once."""
        return bool(self.settings) and bool(self.card) and "validation" in self.predictions

    @property
    def stages(self) -> list[str]:
        """Stages before the finished model, that were judged on the same split as it."""
        return [name.partition("-")[2] for name in self.predictions if name.startswith("test-")]


@dataclass(frozen=True)
class Facts:
    """All that a report is made of.

    Attributes:
        runs: in the order given.
        split: "test" where all runs have it, else "validation".
        pairs: of ``compare.pairs`` on this split.
        stated: of ``compare.stated``.
        inspection: what ``frostline inspect`` recorded of the data; empty without.
        pictures: of the inspection's folder, by name.
        chosen: number of the run to ship: the best on ``chosen_on``.
        unchecked: sentences on what of the inspection could not be compared with the runs.
        galleries: pictures of mistakes and of least certain hits.
    """

    runs: tuple[Judged, ...]
    split: str
    pairs: list[Record]
    stated: list[Record]
    inspection: Record
    pictures: dict[str, bytes]
    chosen: int
    unchecked: tuple[str, ...] = ()
    galleries: tuple[Gallery, ...] = ()

    @property
    def best(self) -> Judged:
        """The run to ship."""
        return self.runs[self.chosen]

    @property
    def chosen_on(self) -> str:
        """The split by which one of several runs was chosen: "validation" where all have it, else the one that is judged."""
        return _choosing(self.runs, self.split)

    @property
    def unvalidated(self) -> list[str]:
        """Names of the runs without validation predictions."""
        return [run.name for run in self.runs if "validation" not in run.predictions]

    @property
    def silent(self) -> list[str]:
        """Names of the runs whose records do not tell how they were trained, and what read test when."""
        return [run.name for run in self.runs if not run.tells_training]

    def evidence(self, run: Judged) -> dict[str, bool]:
        """What of the judged split could be checked in a run's records; see ``verified.evidence``."""
        return evidence(run.run, self.split)

    @property
    def across(self) -> inspected.Across | None:
        """The inspection's pairs of near duplicates in two splits of the run to ship; None where that cannot be told."""
        return inspected.across(self.inspection, self.best.data, self.best.predictions)


def gather(opened: Sequence[Run], inspection: Path | None = None, galleries: Sequence[Path] = ()) -> Facts:
    """Read and check everything.

    Raises:
        UserError: a run is missing, changed, named twice, or claims what its predictions do not give; two runs were judged on
            different images; a run has no predictions at all; the inspection is of other data, a gallery of other predictions.
    """
    if not opened:
        raise UserError("A report needs a run.", expected="one or more folders that 'frostline train' made")
    distinct(opened)
    for run in opened:
        check_record(run)
    split = _common_split(opened)
    rows = table(opened, split)
    found = zip(opened, rows, curves(opened), strict=True)
    runs = tuple(_judged(run, row, curve) for run, row, (_, curve) in found)
    tests = pairs(opened, split) if len(opened) > 1 else []
    looked, pictures, unchecked = inspected.read(inspection, {run.name: run.data for run in runs}) if inspection else ({}, {}, ())
    shown = tuple(read_gallery(folder, opened) for folder in galleries)
    return Facts(runs, split, tests, stated(opened), looked, pictures, _chosen(runs, split), unchecked, shown)


def _common_split(opened: Sequence[Run]) -> str:
    for split in ("test", "validation"):
        lacking = [run.name for run in opened if split not in run.splits]
        if not lacking:
            return split
        if split == "test" and len(lacking) < len(opened):
            raise UserError(
                f"{', '.join(lacking)} has not been judged on a test split, and others have.",
                expected="runs judged on the same images",
                hint="leave it out, or train it with a test split",
            )
    raise UserError(f"{', '.join(lacking)} has no predictions.", expected="runs that 'frostline train' has finished")


def _judged(run: Run, row: Record, curve: list[tuple[float, float]]) -> Judged:
    records = {name: run.read(name) if name in run.names() else {} for name in (SETTINGS, DATA, ENVIRONMENT, TIMINGS, CARD)}
    predictions = {split: verified(run, split) for split in run.splits}
    card = records[CARD]
    return Judged(
        name=row["name"],
        model=str(card.get("name") or records[SETTINGS].get("recipe", "")),
        run=run,
        record=dict(run.record),
        settings=records[SETTINGS],
        data=records[DATA],
        environment=records[ENVIRONMENT],
        timings=records[TIMINGS],
        card=card,
        history=run.history(),
        predictions=predictions,
        scores={split: {**score(judged), "confusion": counts(judged)} for split, judged in predictions.items()},
        blocks=_blocks(run, card),
        row=row,
        curve=curve,
    )


def _blocks(run: Run, card: Record) -> list[Record]:
    """As the run recorded them, else from its weights."""
    if kept := run.record.get("blocks"):
        return list(kept)
    return blocks(weight_shapes(run.path(WEIGHTS)), card.get("architecture", {})) if WEIGHTS in run.names() else []


def _choosing(runs: Sequence[Judged], split: str) -> str:
    return "validation" if all("validation" in run.predictions for run in runs) else split


def _chosen(runs: Sequence[Judged], split: str) -> int:
    """The best on validation, where everything is chosen; of equals the surer, then the smaller, then the first."""
    on = _choosing(runs, split)

    def worth(i: int) -> tuple[float, float, float]:
        scores = runs[i].scores[on]
        size = runs[i].row["model_bytes"]
        return -scores["accuracy"], scores["log_loss"] or 0.0, math.inf if size is None else size

    return min(range(len(runs)), key=worth)


def uncalibrated(judged: Judged, split: str) -> Predictions:
    """The same predictions as they were before the temperature T: p ∝ p'^T, for p' ∝ p^(1/T) (Guo et al. 2017)."""
    p = judged.predictions[split]
    temperature = float(judged.card["temperature"])
    values = p.probabilities.astype(np.float64)
    log_p = np.log(np.maximum(values, np.finfo(np.float32).tiny))
    return Predictions(p.ids, p.labels, apply_temperature(log_p, 1 / temperature), p.classes, p.digests)


def calibration(p: Predictions) -> tuple[float, float]:
    """Expected calibration error in 15 bins, and its debiased variant."""
    plain, debiased = (expected_calibration_error(p.probabilities, p.labels, debiased=flag) for flag in (False, True))
    return plain, debiased


def all_wrong(runs: Sequence[Judged], split: str) -> list[tuple[str, str, str, int]]:
    """Images that every run gets wrong: id, true class, what most runs say, and how many say it; the most agreed first."""
    sets = [ordered(run.predictions[split]) for run in runs]
    first, rows = sets[0], np.flatnonzero(~np.any([p.correct for p in sets], axis=0))
    found = []
    answers = [(p.classes, p.predicted) for p in sets]  # models may order their classes differently, or know more of them
    for row in rows.tolist():
        said = [classes[predicted[row]] for classes, predicted in answers]
        most = max(sorted(set(said)), key=said.count)
        truth = first.classes[first.labels[row]] if first.labels[row] >= 0 else "an unknown class"
        found.append((str(first.ids[row]), truth, most, said.count(most)))
    return sorted(found, key=lambda row: (-row[3], row[0]))


def counts_matrix(scores: Record) -> NDArray[np.int64]:
    """(K, K) of a record of scores."""
    return np.asarray(scores["confusion"], np.int64)


def tells(record: Mapping[str, Any], *keys: str) -> Any:
    """A value inside records, None where one of the keys is missing."""
    value: Any = record
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def by_run(caption: str, facts: Facts, rows: list[tuple[str, ...]]) -> Table:
    """A column a run; rows that no run tells are left out."""
    told = [row for row in rows if any(cell != DASH for cell in row[1:])]
    return make_table(caption, ("", *(run.name for run in facts.runs)), told)
