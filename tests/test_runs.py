from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from frostline import runs
from frostline.config import Settings
from frostline.data.imageset import Reject
from frostline.errors import UserError
from frostline.metrics import score
from frostline.predictions import Predictions
from frostline.runs import Run


def predictions() -> Predictions:
    ids, digests = np.array(["a", "b"], dtype=np.str_), np.array([b"1", b"2"], dtype="S16")
    return Predictions(ids, np.array([0, 1]), np.array([[0.9, 0.1], [0.6, 0.4]]), ("cat", "dog"), digests)


def write(folder: Path, overwrite: bool = False) -> Run:
    with Run.create(folder, overwrite) as run:
        run.write_settings(Settings(recipe="tiny"))
        run.write_environment({"python": "3"})
        run.write_data({"fingerprint": "f"}, [Reject("größe.png", "zero bytes")])
        with run.timing("extract"):
            run.add_history({"images": 2, "validation_accuracy": 0.5})
        run.write_predictions("test", predictions())
        run.write_scores("test", score(predictions()))
        (run.model_folder / "sub").mkdir(parents=True)
        (run.model_folder / "sub" / "model.bin").write_bytes(b"weights")
        run.finish({"parameters": 12})
    return run


def test_a_finished_run_comes_back(tmp_path: Path) -> None:
    write(tmp_path / "new" / "mine")
    run = Run.open(tmp_path / "new" / "mine")
    run.verify()
    assert (run.name, run.record, run.splits) == ("mine", {"parameters": 12}, ("test",))
    assert run.read(runs.SETTINGS)["recipe"] == "tiny"
    assert run.read(runs.DATA) == {"fingerprint": "f"}
    assert run.read(runs.TIMINGS).keys() == {"extract"}
    assert run.history() == [{"images": 2, "validation_accuracy": 0.5}]
    assert run.scores("test") == json.loads(json.dumps(score(run.predictions("test"))))
    assert run.path(runs.REJECTS).read_text("utf-8") == "path,reason\ngröße.png,zero bytes\n"
    assert run.names() == [
        "data.json", "environment.json", "history.jsonl", "model/sub/model.bin", "predictions/test.npz", "rejects.csv",
        "scores/test.json", "settings.json", "timings.json",
    ]  # fmt: skip


def test_the_same_run_is_the_same_bytes_but_for_times(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name / "run")
    for name in Run.open(tmp_path / "a" / "run").names():
        if name != runs.TIMINGS:
            assert (tmp_path / "a" / "run" / name).read_bytes() == (tmp_path / "b" / "run" / name).read_bytes()


def test_timings_add_up_and_survive_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 11.5, 20.0, 20.25])
    monkeypatch.setattr(runs.time, "monotonic", lambda: next(clock))
    with Run.create(tmp_path / "run") as run:
        with run.timing("fit"):
            pass
        with pytest.raises(KeyError), run.timing("fit"):
            raise KeyError
        assert run.read(runs.TIMINGS) == run.timings == {"fit": 1.75}


def test_a_finished_run_is_replaced_only_when_asked(tmp_path: Path) -> None:
    write(tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    with pytest.raises(UserError, match="holds a finished run"):
        Run.create(tmp_path / "run")
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before
    with Run.create(tmp_path / "run", overwrite=True):
        assert {path.name for path in (tmp_path / "run").iterdir()} == {runs.MARKER, ".previous"}
        with pytest.raises(UserError, match="unfinished"):
            Run.open(tmp_path / "run")


def test_an_unfinished_run_is_replaced(tmp_path: Path) -> None:
    with Run.create(tmp_path / "run") as run:
        run.write_settings(Settings())
        (run.folder / ".settings.json.x1.tmp").write_text("torn")
        (run.folder / ".model.x2").mkdir()
    write(tmp_path / "run")
    Run.open(tmp_path / "run").verify()
    assert not list((tmp_path / "run").glob(".*.x*"))


@pytest.mark.parametrize("name", ["notes.txt", "model", "run.json", "settings.json"])
def test_a_folder_that_is_no_run_is_refused_untouched(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("precious")
    for overwrite in (False, True):
        with pytest.raises(UserError, match="holds other things"):
            Run.create(tmp_path, overwrite)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["precious"]


def test_a_run_with_something_of_the_users_is_refused_untouched(tmp_path: Path) -> None:
    write(tmp_path / "run")
    (tmp_path / "run" / "notes.txt").write_text("precious")
    with pytest.raises(UserError, match=r"notes\.txt"):
        Run.create(tmp_path / "run", overwrite=True)
    Run.open(tmp_path / "run").verify()


def test_links_are_removed_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "weights").write_text("precious")
    with Run.create(tmp_path / "run") as run:
        run.model_folder.symlink_to(tmp_path / "elsewhere")
    with Run.create(tmp_path / "run"):
        assert (tmp_path / "elsewhere" / "weights").read_text() == "precious"
        assert not (tmp_path / "run" / "model").exists()


def test_a_file_in_the_way_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("x")
    with pytest.raises(UserError, match="Cannot write a run"):
        Run.create(tmp_path / "run")


@pytest.mark.skipif(sys.platform == "win32", reason="no locks there")
def test_a_run_being_written_is_left_alone(tmp_path: Path) -> None:
    with Run.create(tmp_path / "run") as run:
        run.write_settings(Settings())
        with pytest.raises(UserError, match="Another process is writing"):
            Run.create(tmp_path / "run", overwrite=True)
        assert run.read(runs.SETTINGS)["recipe"] == "custom"
    Run.create(tmp_path / "run").close()


@pytest.mark.skipif(sys.platform == "win32", reason="no such signal there")
def test_a_killed_run_is_unfinished_and_can_be_run_again(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from frostline.runs import Run\n"
        "run = Run.create(Path(sys.argv[1])); run.add_history({'epoch': 1})\n"
        "open(run.folder / 'history.jsonl', 'a').write('{\"epo'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], check=False)
    assert done.returncode == -signal.SIGKILL
    with pytest.raises(UserError, match="unfinished"):
        Run.open(tmp_path / "run")
    assert runs.read_rows(tmp_path / "run" / "history.jsonl") == [{"epoch": 1}]
    write(tmp_path / "run")
    assert Run.open(tmp_path / "run").history() == [{"images": 2, "validation_accuracy": 0.5}]


def test_what_is_no_run_is_a_user_error(tmp_path: Path) -> None:
    for folder, words in [(tmp_path, r"without run\.json"), (tmp_path / "none", "no such folder")]:
        with pytest.raises(UserError, match=words):
            Run.open(folder)
    for text in ("{", "[]", "{}", "3", "\xff"):
        (tmp_path / "run.json").write_text(text, "latin-1")
        with pytest.raises(UserError, match="Cannot read"):
            Run.open(tmp_path)


def test_one_changed_digit_is_noticed(tmp_path: Path) -> None:
    write(tmp_path / "run")
    scores, manifest = tmp_path / "run" / "scores" / "test.json", tmp_path / "run" / "run.json"
    scores.write_text(scores.read_text().replace("0.5", "0.6", 1))
    run = Run.open(tmp_path / "run")
    run.predictions("test")
    for read in (lambda: run.scores("test"), run.verify):
        with pytest.raises(UserError, match="was changed or damaged"):
            read()
    manifest.write_text(manifest.read_text().replace('"parameters": 12', '"parameters": 13'))
    with pytest.raises(UserError, match="was changed after it was written"):
        Run.open(tmp_path / "run")


def test_missing_and_unknown_files_are_named(tmp_path: Path) -> None:
    write(tmp_path / "run")
    run = Run.open(tmp_path / "run")
    with pytest.raises(UserError, match=r"has no predictions/validation\.npz"):
        run.predictions("validation")
    with pytest.raises(UserError, match="no name of a split"):
        run.predictions("../test")
    (tmp_path / "run" / "timings.json").unlink()
    with pytest.raises(UserError, match=r"timings\.json is missing"):
        run.verify()


def test_a_newer_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "FORMAT", 2)
    write(tmp_path / "run")
    monkeypatch.undo()
    with pytest.raises(UserError, match="another version"):
        Run.open(tmp_path / "run")


def test_exports_are_no_part_of_the_record(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    write(tmp_path / "run")
    run = Run.open(tmp_path / "run")
    run.export_history(tensorboard=True)
    assert (tmp_path / "run" / "history.csv").read_text() == "images,validation_accuracy\n2,0.5\n"
    assert len(list((tmp_path / "run" / "tensorboard").iterdir())) == 1
    run.verify()
    write(tmp_path / "run", overwrite=True)
    assert not (tmp_path / "run" / "history.csv").exists()


def test_a_run_without_history_has_no_rows(tmp_path: Path) -> None:
    with Run.create(tmp_path / "run") as run:
        assert run.history() == []
        run.finish({"loss": float("nan")})
    assert Run.open(tmp_path / "run").history() == []
    assert Run.open(tmp_path / "run").record == {"loss": None, "not_finite": ["loss: nan"]}
