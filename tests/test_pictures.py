"""Pictures of a run: each on its own, and none of them keeps a judged run from being finished."""

from pathlib import Path

import numpy as np
import pytest

from frostline import pictures, plots
from frostline.metrics import score
from frostline.pictures import draw_pictures
from frostline.predictions import Predictions
from frostline.runs import Run

CURVE = [{"images": 2**i, "validation_accuracy": 0.5 + i / 10, "interval": [0.4, 1.0], "seconds": float(i)} for i in range(3)]
MATRICES = ("confusion_test.png", "confusion_test_percent.png")
RECORD = {"learning_curve": CURVE, "more_images": "More would help.", "best": {"epoch": 2}}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made = Run.create(tmp_path / "a run")
    for epoch in (1, 2):
        made.add_history({"epoch": epoch, "train_loss": 1 / epoch, "validation_loss": 1 / epoch, "validation_accuracy": 0.5})
    labels = np.arange(4) % 2
    rows = np.eye(2, dtype=np.float32)[labels]
    predictions = Predictions(np.array(list("abcd")), labels, rows, ("no", "yes"), np.array([b"1", b"2", b"3", b"4"], "S16"))
    made.write_predictions("test", predictions)
    made.write_scores("test", score(predictions))
    return made


def drawn(run: Run) -> set[str]:
    return {path.name for path in run.folder.glob("plots/*")}


def test_what_is_recorded_is_drawn(run: Run) -> None:
    draw_pictures(run, "a-recipe", RECORD)
    assert drawn(run) == {"curves.png", "learning_curve.png", *MATRICES}


def test_without_room_for_numbers_the_colours_have_to_do(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "MOST_COUNTED", 1)
    draw_pictures(run, "a-recipe", RECORD)
    assert drawn(run) == {"curves.png", "learning_curve.png", "confusion_test.png"}


def test_a_picture_that_cannot_be_drawn_is_said_and_the_others_are_drawn(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_given: object) -> None:
        raise ValueError("Image size of 99999x99999 pixels is too large")

    monkeypatch.setattr(plots, "learning_curve", broken)
    draw_pictures(run, "a-recipe", RECORD)
    assert drawn(run) == {"curves.png", *MATRICES}
    assert "learning_curve could not be drawn: ValueError: Image size of 99999x99999" in capsys.readouterr().err


def test_a_place_that_cannot_be_written_to_is_said(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    (run.folder / "plots").write_bytes(b"in the way")
    draw_pictures(run, "a-recipe", RECORD)
    assert capsys.readouterr().err.count("could not be drawn") == 4
    run.finish({})
    Run.open(run.folder).verify()


def test_without_matplotlib_it_is_said_once(run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    pictures.draw_pictures(run, "a-recipe", RECORD)
    told = capsys.readouterr().err
    assert told.count("No pictures") == 1
    assert "frostline[report]" in told
