"""How one run takes another's place: the old one is there until the new one has finished, whatever happens in between."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from frostline import run_folder
from frostline.config import Settings
from frostline.errors import UserError
from frostline.run_folder import ASIDE, MARKER, MOVING, check_place, checkpoints
from frostline.runs import Run

CHECKPOINT = "epoch-000001.safetensors"


class Killed(BaseException):
    """In place of kill -9: what is done stays done, and nothing is tidied up."""


def finish(folder: Path, text: str = "old", overwrite: bool = False, resume: bool = False) -> Run:
    with Run.create(folder, overwrite, resume) as run:
        fill(run, text)
        run.finish({"text": text})
    return run


def fail(folder: Path, inside: Callable[[Run], Any] = print, error: BaseException | None = None, **how: bool) -> None:
    with Run.create(folder, **how) as run:
        inside(run)
        raise error or KeyError


def fill(run: Run, text: str) -> None:
    run.write_settings(Settings(recipe=text))
    run.write_data({"source": text})
    run.model_folder.mkdir()
    (run.model_folder / "weights").write_text(text)


def begin(run: Run) -> None:
    fill(run, "new")
    add_checkpoint(run)


def add_checkpoint(run: Run, name: str = CHECKPOINT) -> None:
    run.checkpoints_folder.mkdir(exist_ok=True)
    (run.checkpoints_folder / name).write_text(run.folder.name)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    finish(tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize("error", [UserError("no"), KeyboardInterrupt(), OSError("disk full")])
def test_a_run_that_fails_gives_the_old_one_back(folder: Path, error: BaseException, capsys: Any) -> None:
    before = contents(folder)

    def inside(run: Run) -> None:
        fill(run, "new")
        with pytest.raises(UserError, match="unfinished"):
            Run.open(folder)
        Run.open(folder / ASIDE).verify()

    with pytest.raises(type(error)):
        fail(folder, inside, error, overwrite=True)
    assert contents(folder) == before
    Run.open(folder).verify()
    assert "is there again" in capsys.readouterr().err


def test_a_run_that_finishes_takes_its_place(folder: Path) -> None:
    finish(folder, "new", overwrite=True)
    assert Run.open(folder).record == {"text": "new"}
    assert not (folder / ASIDE).exists()
    Run.open(folder).verify()


def test_a_manifest_that_cannot_be_written_is_a_failure(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(folder)

    def full(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("frostline.runs.write_json", full)
    with pytest.raises(OSError, match="disk full"):
        fail(folder, lambda run: run.finish({}), overwrite=True)
    assert contents(folder) == before


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("step", range(12))
def test_killed_at_any_step_nothing_of_the_old_one_is_lost(
    folder: Path, step: int, resume: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_checkpoint(Run(folder))
    before = contents(folder)
    left = iter(range(step))
    real = Path.rename

    def rename(path: Path, target: Path) -> Path:
        if next(left, None) is None:
            raise Killed
        return real(path, target)

    def torn(source: Path, target: Path) -> None:
        target.write_text("torn")
        if next(left, None) is None:
            raise Killed
        target.write_bytes(source.read_bytes())

    with monkeypatch.context() as patch:
        patch.setattr(run_folder.Path, "rename", rename)
        patch.setattr(run_folder.shutil, "copyfile", torn)
        with suppress(Killed), closing(Run.create(folder, overwrite=True, resume=resume)) as run:
            run_folder.give_way(folder, resume, run._had)
    if (folder / "run.json").exists():
        Run.open(folder).verify()
    with pytest.raises(KeyError):
        fail(folder, overwrite=True, resume=resume)
    assert not (folder / MOVING).exists()
    if resume and (folder / ASIDE).exists():  # there are checkpoints: it goes on from them, and only then is the old one deleted
        Run.open(folder / ASIDE).verify()
        assert checkpoints(folder) == {CHECKPOINT}
    else:
        assert contents(folder) == before


def test_killed_before_the_old_one_is_gone_the_new_one_counts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "drop_aside", lambda _: None)
        finish(folder, "new", overwrite=True)
    assert (folder / ASIDE).is_dir()
    assert Run.open(folder).record == {"text": "new"}
    with pytest.raises(UserError, match="holds a finished run"):
        Run.create(folder)
    assert not (folder / ASIDE).exists()
    Run.open(folder).verify()


def test_what_can_go_on_is_not_deleted_unasked(tmp_path: Path) -> None:
    folder = tmp_path / "my run"
    with Run.create(folder) as run:
        begin(run)
    before = contents(folder)
    for refuse in (Run.create, check_place):
        with pytest.raises(UserError, match="was interrupted and can go on") as caught:
            refuse(folder)
        assert f"--resume '{folder}'" in caught.value.hint
        assert "--overwrite" in caught.value.hint
        assert contents(folder) == before
    with pytest.raises(KeyError):
        fail(folder, lambda run: run.checkpoints_folder.mkdir(), overwrite=True)
    assert contents(folder) == before
    finish(folder, "new", overwrite=True)
    assert checkpoints(folder) == set()
    assert {entry.name for entry in folder.iterdir()} == {MARKER, "run.json", "settings.json", "data.json", "rejects.csv", "model"}


def test_a_half_written_checkpoint_is_none(tmp_path: Path) -> None:
    with Run.create(tmp_path / "run") as run:
        add_checkpoint(run, f".{CHECKPOINT}.x1.tmp")
    finish(tmp_path / "run", "new")


def test_a_new_run_that_can_go_on_keeps_its_checkpoints_and_the_old_one_lies_aside(folder: Path, capsys: Any) -> None:
    with pytest.raises(KeyError):
        fail(folder, begin, overwrite=True)
    assert str(folder / ASIDE) in capsys.readouterr().err
    with pytest.raises(UserError, match="unfinished") as caught:
        Run.open(folder)
    assert str(folder / ASIDE) in caught.value.hint
    assert Run.open(folder / ASIDE).record == {"text": "old"}
    with pytest.raises(KeyError):  # again: still nothing is lost
        fail(folder, resume=True)
    Run.open(folder / ASIDE).verify()
    assert checkpoints(folder) == {CHECKPOINT}
    finish(folder, "new", resume=True)
    assert Run.open(folder).record == {"text": "new"}
    assert not (folder / ASIDE).exists()


def test_a_run_ended_early_stays_until_the_one_that_goes_on_has_finished(folder: Path) -> None:
    add_checkpoint(Run(folder))
    before = contents(folder)

    def inside(run: Run) -> None:
        assert checkpoints(folder) == {CHECKPOINT}
        assert run.read("settings.json")["recipe"] == "old"  # killed here, it could still go on
        fill(run, "old")

    with pytest.raises(KeyError):
        fail(folder, inside, resume=True)
    assert contents(folder) == before
    with pytest.raises(KeyError):
        fail(folder, lambda run: add_checkpoint(run, "epoch-000002.safetensors"), resume=True)
    assert checkpoints(folder) == {CHECKPOINT, "epoch-000002.safetensors"}
    Run.open(folder / ASIDE).verify()


@pytest.mark.parametrize("text", ["[]", "null", "3", '"x"', '{"record": 3}', "{}", "no JSON"])
def test_another_programs_run_json_is_no_interrupted_run(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    assert not run_folder.interrupted(tmp_path)
