"""The folder of a run: what may be in it, who writes there, and how a new run takes an old one's place.

A run that is finished, or that can go on, is put aside within its folder until the new one has finished, and put back where that
comes to nothing. Killed at any moment, the folder tells what is what:

.moving     the old run, together with what lies beside it: it is made whole again
.previous   the old run, whole; what lies beside it is the new one's
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Container
from pathlib import Path
from shlex import quote

from frostline.errors import UserError, few
from frostline.files import hold, sync_folder
from frostline.progress import say

MANIFEST, MARKER = "run.json", ".frostline-run"
SETTINGS, ENVIRONMENT, DATA, REJECTS = "settings.json", "environment.json", "data.json", "rejects.csv"
HISTORY, TIMINGS = "history.jsonl", "timings.json"
PREDICTIONS, SCORES, PLOTS, MODEL, STAGES = "predictions", "scores", "plots", "model", "stages"
HISTORY_CSV, TENSORBOARD, CHECKPOINTS = "history.csv", "tensorboard", "checkpoints"
ASIDE, MOVING = ".previous", ".moving"

#: What a run may consist of, and all that is ever deleted when one is replaced.
_OWN = frozenset(
    {MANIFEST, MARKER, SETTINGS, ENVIRONMENT, DATA, REJECTS, HISTORY, TIMINGS, ASIDE, MOVING}
    | {PREDICTIONS, SCORES, PLOTS, MODEL, STAGES, HISTORY_CSV, TENSORBOARD, CHECKPOINTS}
)
#: What a run that goes on began with: killed before it is written again, the run can still go on.
_BEGUN_WITH = frozenset({SETTINGS, DATA})


def check_place(folder: Path, overwrite: bool = False, resume: bool = False) -> None:
    """Refuse a folder that a new run may not take; nothing is written.

    Args:
        folder: need not be there.
        overwrite: a run in it may be replaced.
        resume: one with checkpoints may go on, and one that Ctrl-C has ended.

    Raises:
        UserError: it holds other things, a finished run, or an interrupted one that can go on; or it cannot be read.
    """
    try:
        names = {entry.name for entry in folder.iterdir()} if folder.exists() else set()
        can_go_on = bool(checkpoints(folder))
        cut_short = interrupted(folder)
    except OSError as error:
        raise cannot_write(folder, error) from error
    _refuse_others(folder, names)
    if MANIFEST in names and not (overwrite or (resume and (can_go_on or cut_short))):
        raise UserError(f"{folder} holds a finished run.", hint="another folder for --out, or --overwrite to replace it")
    if MANIFEST not in names and can_go_on and not (overwrite or resume):
        raise UserError(
            f"{folder} holds a run that was interrupted and can go on.",
            hint=f"frostline train --resume {quote(str(folder))} to go on with it, or --overwrite to begin anew",
        )


def _refuse_others(folder: Path, names: set[str]) -> None:
    own = {name for name in names if name in _OWN or any(name.startswith(f".{known}.") for known in _OWN)}
    # Only the marker makes a folder ours: without it, a "model" in it is somebody else's.
    if others := names - own if MARKER in names else names:
        hint = "a new or empty folder for --out"
        raise UserError(f"{folder} holds other things than a run.", expected="nothing else", received=few(others), hint=hint)


def cannot_write(folder: Path, error: OSError) -> UserError:
    """What is said of a folder that the system refuses."""
    return UserError(f"Cannot write a run to {folder}.", received=str(error), hint="another folder for --out")


def checkpoints(folder: Path) -> set[str]:
    """The names of the checkpoints of the run in this folder; half-written ones do not count."""
    kept = folder / CHECKPOINTS
    return {entry.name for entry in kept.iterdir() if not entry.name.startswith(".")} if kept.is_dir() else set()


def interrupted(folder: Path) -> bool:
    """Whether the finished run in this folder was ended by Ctrl-C; false where there is none."""
    try:
        return "Ctrl-C" in str(json.loads((folder / MANIFEST).read_text("utf-8"))["record"].get("ended", ""))
    except (FileNotFoundError, ValueError, LookupError, AttributeError, TypeError):
        return False


def is_finished(folder: Path) -> bool:
    """Whether a run in this folder has come to its end, so that there is nothing to go on with."""
    return (folder / MANIFEST).exists() and not (folder / CHECKPOINTS).is_dir() and not interrupted(folder)


def lock(folder: Path) -> int:
    """Mark the folder as a run and keep it locked for as long as the handle is open; a killed process leaves no lock."""
    try:
        return hold(folder / MARKER)
    except BlockingIOError as error:
        raise UserError(f"Another process is writing a run to {folder}.", hint="another folder for --out") from error


def settle(folder: Path) -> None:
    """End what a killed process has left half done; to be called under the lock."""
    if (folder / MOVING).exists():
        _take_back(folder)
    if (folder / MANIFEST).exists():
        drop_aside(folder)


def make_room(folder: Path, resume: bool) -> None:
    """Put aside what is worth keeping and delete the rest; with ``resume`` what the run goes on from stays where it is.

    What was put aside before stays: what lies beside it came to nothing.
    """
    finished = (folder / MANIFEST).exists()
    if not (folder / ASIDE).exists() and (finished or (checkpoints(folder) and not resume)):
        _put_aside(folder, resume)
    _empty(folder, {MARKER, ASIDE} | ({CHECKPOINTS} | _BEGUN_WITH if resume else set()))


def _put_back(folder: Path, resume: bool) -> None:
    """Delete the new run and make the old one what it was; the checkpoints of a run that went on (``resume``) are its own."""
    _empty(folder, {MARKER, ASIDE} | ({CHECKPOINTS} if resume else set()))
    (folder / ASIDE).rename(folder / MOVING)
    _take_back(folder)


def give_way(folder: Path, resumed: bool, had: set[str]) -> None:
    """End a run that has not finished: the one before it comes back, or, where there are new checkpoints, it is said where it is.

    Args:
        folder: of both.
        resumed: the new run went on from the old.
        had: the checkpoints that the new run began with.
    """
    try:
        if checkpoints(folder) == had:
            _put_back(folder, resumed)
            say(f"The run that was in {folder} before is there again.", "yellow")
            return
    except OSError as error:
        say(f"The run that was in {folder} before could not be put back: {error}", "yellow")
    say(f"The run before this one is kept in {folder / ASIDE} until this one has finished.", "yellow")


def drop_aside(folder: Path) -> None:
    """Delete what was put aside, where there is something: the new run has finished."""
    if (folder / ASIDE).exists():
        shutil.rmtree(folder / ASIDE)


def no_run(folder: Path) -> UserError:
    """What is said where a finished run is looked for and there is none."""
    if (folder / MARKER).exists():
        kept = f"; the run before it is in {folder / ASIDE}" if (folder / ASIDE).exists() else ""
        message = f"The run in {folder} is unfinished: it was stopped or is still at work."
        return UserError(message, hint=f"train into it again{kept}")
    found = "a folder without run.json" if folder.is_dir() else "no such folder"
    return UserError(f"There is no run at {folder}.", expected="the folder that 'frostline train --out' made", received=found)


def _put_aside(folder: Path, resume: bool) -> None:
    moving = folder / MOVING
    moving.mkdir()
    # The manifest goes first, so that a run half moved is never taken for a finished one.
    for name in sorted({entry.name for entry in folder.iterdir()} - {MARKER, MOVING}, key=lambda name: (name != MANIFEST, name)):
        if resume and name in _BEGUN_WITH:
            shutil.copyfile(folder / name, moving / name)
        elif not (resume and name == CHECKPOINTS):
            (folder / name).rename(moving / name)
        if name == MANIFEST:
            sync_folder(folder)
    moving.rename(folder / ASIDE)
    sync_folder(folder)


def _take_back(folder: Path) -> None:
    """Move everything that lies in ``MOVING`` to where it was, the manifest last; copies of what is still there go."""
    moving = folder / MOVING
    for name in sorted((entry.name for entry in moving.iterdir()), key=lambda name: (name == MANIFEST, name)):
        if (folder / name).exists():
            (moving / name).unlink()
        else:
            (moving / name).rename(folder / name)
    moving.rmdir()
    sync_folder(folder)


def _empty(folder: Path, kept: Container[str]) -> None:
    # The manifest goes first, so that a run half removed is never taken for a finished one.
    (folder / MANIFEST).unlink(missing_ok=True)
    sync_folder(folder)
    for entry in folder.iterdir():
        if entry.name not in kept:
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
