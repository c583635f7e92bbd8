"""What is looked at before a run's folder is touched: its place, its data, and whether its weights can be had."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frostline.choosing import check_same, settled_for_data
from frostline.config import Settings
from frostline.data.edits import edited
from frostline.data.imageset import Source, Splits
from frostline.data.sources import load_source
from frostline.data.splits import split
from frostline.effects import say_without_effect
from frostline.errors import UserError
from frostline.run_folder import check_place
from frostline.runs import DATA, SETTINGS, Run
from frostline.teacher import find_teacher


@dataclass(frozen=True)
class Prepared:
    """The data of a run that may begin.

    Attributes:
        source: what was found; None where splits were given.
        splits: disjoint, and edited as the settings say.
        seconds: that loading took.
    """

    source: Source | None
    splits: Splits
    seconds: float


def load_data(data: str | Path, settings: Settings | str | None = None, **values: Any) -> Splits:
    """Images of a place as disjoint train, validation and test; see ``data.sources``, ``data.splits`` and ``data.edits``.

    ``settings`` and ``values``, for example ``group="patient"``, as in ``train``; but where none are given no recipe is chosen.
    """
    return _loaded(data, settled_for_data(settings, values))[1]


def prepare(data: str | Path | Splits, settings: Settings, folder: Path, overwrite: bool, resume: bool) -> Prepared:
    """Everything that can be wrong with what was asked for and shows at once; arguments as in ``experiment.train``.

    Nothing is written to ``folder``, so what is there stays as it is where this fails.

    Raises:
        UserError: a folder that the run may not take, data or weights that cannot be had, or other data or settings than a run that
            goes on had.
    """
    check_place(folder, overwrite, resume)
    if resume and (folder / SETTINGS).is_file():
        check_same(Settings().with_values(**Run(folder).read(SETTINGS)), settings)
    started = time.monotonic()
    source, splits = _loaded(data, settings)
    seconds = time.monotonic() - started
    if resume:
        _check_same(splits, Run(folder))
    if settings.kind == "frozen":
        from frostline.models.weights import check_there

        check_there(settings.backbone, settings.weights)
    _check_teacher(settings, splits, folder)
    say_without_effect(settings, len(splits.train))
    return Prepared(source, splits, seconds)


def _check_teacher(settings: Settings, splits: Splits, folder: Path) -> None:
    if settings.teacher and Path(settings.teacher).resolve().is_relative_to(folder.resolve()):
        raise UserError(
            "A run cannot be its own teacher.", received=f"{settings.teacher} in {folder}", hint="another folder for --out"
        )
    find_teacher(settings, splits)


def _loaded(data: str | Path | Splits, settings: Settings) -> tuple[Source | None, Splits]:
    if isinstance(data, Splits):
        return None, edited(data, settings.exclude, settings.relabel)
    source = load_source(data, strict=settings.strict, unknown_as_wrong=settings.unknown_as_wrong, group=settings.group)
    splits = split(
        source,
        seed=settings.seed,
        validation_fraction=settings.validation_fraction,
        validation_max=settings.validation_max,
        cut_test=settings.test == "auto",
    )
    return source, edited(splits, settings.exclude, settings.relabel)


def _check_same(splits: Splits, run: Run) -> None:
    """The data of a run that goes on must be those that it began with."""
    for part in ("fingerprints", "edits") if (run.folder / DATA).is_file() else ():
        then, now = run.read(DATA).get(part), splits.record.get(part)
        if then != now:
            what = "data are" if part == "fingerprints" else "files of --exclude and --relabel are"
            raise UserError(f"The {what} not those that the run began with.", expected=str(then), received=str(now))
