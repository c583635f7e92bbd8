from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from judged import predictions
from reported import finished_run

from frostline import plots
from frostline.metrics import score
from frostline.plots_run import draw_run
from frostline.runs import Run

pytest.importorskip("matplotlib")


def drawn(run: Run) -> set[str]:
    return {path.name for path in (run.folder / "plots").iterdir()}


def test_each_split_has_its_matrix_as_counts_and_as_percentages(tmp_path: Path) -> None:
    run = Run.open(finished_run(tmp_path / "run"))
    draw_run(run, "a recipe", {"best": {"epoch": 2}})
    matrices = {f"confusion_{split}{form}.png" for split in ("test", "validation") for form in ("", "_percent")}
    assert drawn(run) == {"curves.png", *matrices}


def test_without_room_for_numbers_the_colours_have_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "MOST_COUNTED", 1)
    with Run.create(tmp_path / "run") as run:
        run.write_predictions("test", judged := predictions([0, 1], np.array([[0.9, 0.1], [0.2, 0.8]])))
        run.write_scores("test", score(judged))
        draw_run(run, "a recipe", {})
    assert drawn(run) == {"confusion_test.png"}
