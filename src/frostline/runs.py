"""The run directory: everything a training run leaves behind, each file whole, the manifest last.

settings.json  environment.json  data.json  rejects.csv     what was asked, on what, from what
history.jsonl  timings.json                                 a row per epoch or block of images; seconds per stage
predictions/SPLIT.npz  scores/SPLIT.json  plots/*.png       what came of it
checkpoints/                                                what an unfinished training goes on from
model/  stages/NAME/                                        the model, and those of stages before it; written by others
run.json                                                    the record and the digests of all files: a run without it is unfinished
"""

from __future__ import annotations

import json
import os
import re
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import frostline
from frostline import run_folder
from frostline.config import Settings
from frostline.data.imageset import Reject
from frostline.errors import UserError, few
from frostline.files import digest_file, digest_json, write_json
from frostline.history import append_row, read_rows, write_events, write_table
from frostline.predictions import Predictions
from frostline.records import json_record, write_csv
from frostline.run_folder import (
    ASIDE,
    CHECKPOINTS,
    DATA,
    ENVIRONMENT,
    HISTORY,
    HISTORY_CSV,
    MANIFEST,
    MARKER,
    MODEL,
    PLOTS,
    PREDICTIONS,
    REJECTS,
    SCORES,
    SETTINGS,
    STAGES,
    TENSORBOARD,
    TIMINGS,
)

__all__ = ["DATA", "ENVIRONMENT", "MANIFEST", "MARKER", "MODEL", "PLOTS", "PREDICTIONS", "REJECTS", "SCORES", "SETTINGS", "STAGES"]
__all__ += ["TIMINGS", "Run"]

FORMAT = 1


class Run:
    """A run in a folder: ``create`` one to write, ``open`` a finished one to read. A run being written may be read as well.

    While it is written the folder is locked against other processes; ``finish``, or leaving a ``with`` block, unlocks it.

    Attributes:
        folder: where it is.
        manifest: that of a finished run; empty while it is written.
        timings: seconds per stage so far.
    """

    def __init__(self, folder: Path, manifest: Mapping[str, Any] | None = None) -> None:
        self.folder, self.manifest = folder, manifest or {}
        self.timings: dict[str, float] = {}
        self._checked: set[str] = set()
        self._had: set[str] = set()
        self._resumed = False
        self._unlock: Any = lambda: None

    @classmethod
    def create(cls, folder: Path, overwrite: bool = False, resume: bool = False) -> Self:
        """Begin a run in ``folder``, which is made if needed; an unfinished run in it that cannot go on is replaced.

        Another is replaced if ``overwrite``, once this one has finished: until then it lies aside, and leaving a ``with`` block
        unfinished puts it back, unless there are checkpoints to go on from. With ``resume`` those that are there stay, and the
        rest is written anew.

        Raises:
            UserError: see ``run_folder.check_place``; another process writes a run there; or it cannot be written to.
        """
        run = cls(folder)
        try:
            if folder.is_dir():  # looked at before anything is written, and again when nobody else can write
                run_folder.check_place(folder, True)
            folder.mkdir(parents=True, exist_ok=True)
            run._unlock = weakref.finalize(run, os.close, run_folder.lock(folder))
            run_folder.settle(folder)
            run_folder.check_place(folder, overwrite, resume)
            run._resumed = resume and (folder / MANIFEST).exists()
            run._had = run_folder.checkpoints(folder) if run._resumed else set()
            run_folder.make_room(folder, resume)
        except OSError as error:
            raise run_folder.cannot_write(folder, error) from error
        except UserError:
            run.close()
            raise
        return run

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if not self.manifest and (self.folder / ASIDE).is_dir():
                run_folder.give_way(self.folder, self._resumed, self._had)
        finally:
            self.close()

    def close(self) -> None:
        """Let others write here; what is not finished stays unfinished."""
        self._unlock()

    def write_settings(self, settings: Settings) -> None:
        """What was asked for."""
        self._write(SETTINGS, settings.as_dict())

    def write_environment(self, record: Mapping[str, Any]) -> None:
        """What it runs on, as ``environment.describe`` has it."""
        self._write(ENVIRONMENT, record)

    def write_data(self, record: Mapping[str, Any], rejects: Iterable[Reject] = ()) -> None:
        """What it learns from: fingerprints and counts; what was left out goes into a table beside it."""
        self._write(DATA, record)
        write_csv(self.folder / REJECTS, ["path", "reason"], ([reject.path, reject.reason] for reject in rejects))

    def add_history(self, row: Mapping[str, Any]) -> None:
        """Append one row (see ``history``); it is on disk when this returns."""
        append_row(self.folder / HISTORY, row)

    @contextmanager
    def timing(self, stage: str) -> Iterator[None]:
        """Add the seconds spent inside to this stage's, also when it fails."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.timings[stage] = round(self.timings.get(stage, 0.0) + time.monotonic() - started, 3)
            self._write(TIMINGS, self.timings)

    def write_predictions(self, split: str, predictions: Predictions) -> None:
        """What the model said about every row of a split."""
        predictions.save(self.folder / PREDICTIONS / f"{_safe(split)}.npz")

    def write_scores(self, split: str, scores: Mapping[str, Any]) -> None:
        """What ``metrics.score`` made of these predictions."""
        self._write(f"{SCORES}/{_safe(split)}.json", scores)

    def finish(self, record: Mapping[str, Any]) -> None:
        """Write the manifest, last of all: ``record`` (the run's summary) and the digest of every file. Then unlock."""
        names = self.names()
        manifest: dict[str, Any] = {"format": FORMAT, "frostline": frostline.__version__, "name": self.folder.resolve().name}
        manifest = json_record(manifest)  # the folder's name may hold bytes that are no UTF-8
        manifest |= {"record": json_record(record), "files": {name: digest_file(self.folder / name) for name in names}}
        manifest["digest"] = digest_json(manifest)
        write_json(self.folder / MANIFEST, manifest)
        self.manifest = manifest
        with suppress(OSError):  # this run is finished all the same; the next one tries again
            run_folder.drop_aside(self.folder)
        self.close()

    def _write(self, name: str, record: Mapping[str, Any]) -> None:
        write_json(self.folder / name, json_record(record))

    @classmethod
    def open(cls, folder: Path) -> Self:
        """A finished run, to read. Files are checked against the manifest when they are first read.

        Raises:
            UserError: there is no run, it is unfinished, or its manifest is damaged, changed or of a newer format.
        """
        try:
            manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
            told = manifest.pop("digest")
            if digest_json(manifest) != told:
                raise UserError(f"{folder / MANIFEST} was changed after it was written.", received="another digest than its own")
        except FileNotFoundError as error:
            raise run_folder.no_run(folder) from error
        except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
            raise UserError(f"Cannot read {folder / MANIFEST}.", expected="the record of a run", received=str(error)) from error
        if manifest.get("format") != FORMAT:
            received = f"format {manifest.get('format')}"
            raise UserError(f"{folder} was written by another version.", expected=f"format {FORMAT}", received=received)
        return cls(folder, manifest)

    @property
    def name(self) -> str:
        """The folder's name when the run finished."""
        return str(self.manifest.get("name", self.folder.resolve().name))

    @property
    def record(self) -> Mapping[str, Any]:
        """What ``finish`` was given."""
        return dict(self.manifest.get("record", {}))

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that have predictions."""
        return tuple(Path(name).stem for name in self.names() if name.startswith(f"{PREDICTIONS}/"))

    @property
    def model_folder(self) -> Path:
        """Where the model is."""
        return self.folder / MODEL

    @property
    def checkpoints_folder(self) -> Path:
        """Where training keeps what it needs to go on; no part of a finished run."""
        return self.folder / CHECKPOINTS

    def stage_folder(self, name: str) -> Path:
        """Where the model of an earlier stage is."""
        return self.folder / STAGES / _safe(name)

    def names(self) -> list[str]:
        """The files of the run, relative to its folder: the recorded ones, or while it is written those that are there.

        The manifest and what ``export_history`` makes are not among them.
        """
        if self.manifest:
            return list(self.manifest["files"])
        paths = [path.relative_to(self.folder) for path in self.folder.rglob("*") if path.is_file()]
        skipped = {MANIFEST, HISTORY_CSV, TENSORBOARD, CHECKPOINTS}
        hidden = {path for path in paths if any(part.startswith(".") for part in path.parts)}
        return sorted(path.as_posix() for path in paths if path.parts[0] not in skipped and path not in hidden)

    def path(self, name: str) -> Path:
        """A file of the run, checked against the manifest (once).

        Raises:
            UserError: the run has no such file, or it is missing or was changed after the run finished.
        """
        path = self.folder / name
        if not self.manifest or name in self._checked:
            return path
        if name not in self.manifest["files"]:
            raise UserError(f"The run {self.name} has no {name}.", expected=few(self.manifest["files"]))
        if not path.is_file():
            raise UserError(f"{path} is missing.", expected="every file that was there when the run finished")
        if digest_file(path) != self.manifest["files"][name]:
            raise UserError(f"{path} was changed or damaged after the run finished.", received="another digest than recorded")
        self._checked.add(name)
        return path

    def verify(self) -> None:
        """Check every file of a finished run now; ``UserError`` as ``path`` has it."""
        for name in self.names():
            self.path(name)

    def read(self, name: str) -> dict[str, Any]:
        """One of the JSON records, such as ``SETTINGS``."""
        try:
            record: dict[str, Any] = json.loads(self.path(name).read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"Cannot read {self.folder / name}.", received=str(error)) from error
        return record

    def history(self) -> list[dict[str, Any]]:
        """The rows of the history, none when nothing was appended."""
        if HISTORY not in self.names():
            return []
        return read_rows(self.path(HISTORY))

    def predictions(self, split: str) -> Predictions:
        """What the model said about this split."""
        return Predictions.load(self.path(f"{PREDICTIONS}/{_safe(split)}.npz"))

    def scores(self, split: str) -> dict[str, Any]:
        """The scores of this split as they were recorded."""
        return self.read(f"{SCORES}/{_safe(split)}.json")

    def export_history(self, csv: bool = True, tensorboard: bool = False) -> None:
        """Write the history as history.csv and as TensorBoard events too, from the rows alone.

        Raises:
            UserError: TensorBoard is asked for and not installed.
        """
        if csv:
            write_table(self.folder / HISTORY_CSV, self.history())
        if tensorboard:
            write_events(self.folder / TENSORBOARD, self.history())


def _safe(split: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", split):
        raise UserError("That is no name of a split.", expected="letters, digits, '.', '_', '-'", received=repr(split))
    return split
