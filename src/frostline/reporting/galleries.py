"""Pictures of a run's mistakes and of its least certain hits, as ``frostline explain --gallery`` left them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frostline.errors import UserError, few
from frostline.files import digest_bytes
from frostline.picked import described, least_certain_hits, most_confident_mistakes
from frostline.reporting.document import Block, Figure, Figures, Text
from frostline.reporting.words import counted, percent
from frostline.runs import PREDICTIONS, Run
from frostline.verified import differences

Record = dict[str, Any]
#: Pictures that are described one by one to somebody who cannot see them; of more, only how many.
MOST_TOLD = 12
_PICKED = {"mistakes": most_confident_mistakes, "hits": least_certain_hits}
_AGAIN = "make it again: frostline explain RUN --gallery --out DIR"


@dataclass(frozen=True)
class Gallery:
    """What one folder of galleries holds.

    Attributes:
        folder: as it was named.
        run: number of its run in the report.
        record: split, n, wrong, mistakes and hits, as galleries.json has them and the predictions bear out.
        pictures: the bytes of mistakes.png and hits.png, by "mistakes" and "hits", where they were drawn.
    """

    folder: str
    run: int
    record: Record
    pictures: Mapping[str, bytes]


def read(folder: Path, runs: Sequence[Run]) -> Gallery:
    """The galleries in a folder, after they were found to be of one of these runs as its predictions are now.

    Raises:
        UserError: there are none, they are of none of these runs, or they show what its predictions do not say.
    """
    try:
        record: Record = json.loads((folder / "galleries.json").read_text("utf-8"))
        name, split = str(record["run"]), str(record["split"])
        counts = {kind: len(list(record[kind])) for kind in _PICKED}
        drawn = dict(record["pictures"]) if "pictures" in record else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"There are no galleries in {folder}.",
            expected="galleries.json, as 'frostline explain RUN --gallery --out DIR' writes it",
            received=f"{type(error).__name__}: {error}",
        ) from error
    number = _run(folder, record, name, split, runs)
    again = _checked(folder, record, runs[number], split, counts)
    pictures = {kind: found for kind in _PICKED if counts[kind] and (found := _picture(folder / f"{kind}.png", drawn))}
    return Gallery(str(folder), number, {"split": split, **again}, pictures)


def _run(folder: Path, record: Record, name: str, split: str, runs: Sequence[Run]) -> int:
    """Number of the run that the galleries are of."""
    named = [i for i, run in enumerate(runs) if run.name == name]
    if not named:
        names = few(run.name for run in runs)
        raise UserError(f"The galleries in {folder} are of a run that is not in this report.", expected=names, received=name)
    files = [runs[i].manifest["files"].get(f"{PREDICTIONS}/{split}.npz") for i in named]
    digest = record.get("predictions")
    for i, now in zip(named, files, strict=True):
        if now is not None and digest in (None, now):
            return i
    raise UserError(
        f"The galleries in {folder} are not of what {name} says now of its {split} images.",
        expected=f"predictions with digest {files[0]}" if files[0] else f"predictions of {few(runs[named[0]].splits)}",
        received=f"{split}, with digest {digest}",
        hint=_AGAIN,
    )


def _checked(folder: Path, record: Record, run: Run, split: str, counts: Mapping[str, int]) -> Record:
    """What the record must say, computed from the predictions; an error where it says anything else."""
    predictions = run.predictions(split)
    again: Record = {"n": len(predictions), "wrong": int((~predictions.correct).sum())}
    again |= {kind: described(pick(predictions, counts[kind]), predictions) for kind, pick in _PICKED.items()}
    if wrong := next(differences({key: record.get(key) for key in again}, again), ""):
        raise UserError(
            f"The galleries in {folder} do not show what the predictions of {run.name} say.",
            expected="the most confident mistakes and the least certain hits, as they can be picked again",
            received=wrong,
            hint=_AGAIN,
        )
    return again


def _picture(path: Path, drawn: Mapping[str, str] | None) -> bytes:
    """The bytes of a picture, empty where none was drawn; ``drawn``: digests by name, None of a record that keeps none."""
    if drawn is not None and path.name not in drawn:
        return b""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        content = b""
    except OSError as error:
        raise UserError(f"Cannot read {path}.", received=error.strerror or str(error)) from error
    if drawn is not None and digest_bytes(content) != drawn[path.name]:
        received = "another picture" if content else "no such file"
        raise UserError(f"{path} is not the picture that was drawn for this gallery.", received=received, hint=_AGAIN)
    return content


def shown(gallery: Gallery, number: int, label: str) -> list[Block]:
    """The pictures with their captions; or a sentence where there are none.

    Args:
        gallery: of one run.
        number: of the gallery, for names.
        label: of the run and its model, for captions.
    """
    record, split = gallery.record, gallery.record["split"]
    if not gallery.pictures:
        return [Text(f"The gallery of {label} in {gallery.folder} holds no pictures.")]
    mistakes, hits = (len(record[kind]) for kind in ("mistakes", "hits"))
    wrong = counted(record["wrong"], "mistake")
    which = f"its {wrong}, the surest first," if mistakes == record["wrong"] else f"the {mistakes:,} surest of its {wrong}"
    about = {
        "mistakes": f"{which} on {record['n']:,} {split} images; "
        "above each what it said and how sure it was, and the class that the image has in the data",
        "hits": f"the {hits:,} {split} images that it got right and was least sure of; above each its two likeliest classes",
    }
    return [
        Figures((Figure(f"gallery-{number}-{kind}", f"{label}: {about[kind]}.", f"{label}: {_told(record[kind])}.", png=content),))
        for kind, content in gallery.pictures.items()
    ]


def _told(rows: Sequence[Record]) -> str:
    """The images one by one, in words."""
    said = [f"{row['id']}: {row['predicted']} with {percent(row['probability'], 1)}{_beside(row)}" for row in rows[:MOST_TOLD]]
    return "; ".join([*said, *([f"and {len(rows) - MOST_TOLD} more"] if len(rows) > MOST_TOLD else [])])


def _beside(row: Record) -> str:
    if row["true"] != row["predicted"]:
        return f", is {row['true'] or 'of another class'}"
    return "" if row["second"] is None else f", {row['second']} with {percent(row['second_probability'], 1)}"
