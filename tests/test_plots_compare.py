from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from frostline.cli import app, main
from frostline.errors import UserError
from frostline.plots_compare import _duration, accuracy_against_seconds, pareto

pytest.importorskip("matplotlib")

CURVES: list[tuple[str, list[tuple[float, float]]]] = [
    ("fast-94", [(20.0, 0.6), (100.0, 0.9), (400.0, 0.94)]),
    ("mobilenetv2-frozen", [(110.0, 0.88)]),
    ("nothing", []),
]


def test_every_run_with_a_point_has_its_line(tmp_path: Path, figures: list[Any]) -> None:
    path = tmp_path / "plot.png"
    accuracy_against_seconds(CURVES, path, "Accuracy against time")
    with Image.open(path) as image:
        assert image.size[0] > 1000
    (figure,) = figures
    (axes,) = figure.axes
    lines = [line for line in axes.lines if not line.get_label().startswith("_")]
    assert [line.get_label() for line in lines] == ["fast-94: 94.0 % after 6.67 min", "mobilenetv2-frozen: 88.0 % after 1.83 min"]
    assert list(lines[0].get_ydata()) == [60.0, 90.0, 94.0]
    assert axes.get_xscale() == "log"


def test_more_runs_than_colours_differ_in_dashes(tmp_path: Path, figures: list[Any]) -> None:
    accuracy_against_seconds([(f"run {number}", [(1.0, 0.5), (2.0, 0.6)]) for number in range(12)], tmp_path / "p.png", "many")
    lines = [line for line in figures[0].axes[0].lines if not line.get_label().startswith("_")]
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 12


def test_runs_of_one_name_have_a_line_each(tmp_path: Path, figures: list[Any]) -> None:
    accuracy_against_seconds([("run", [(1.0, 0.5)]), ("run", [(2.0, 0.6)])], tmp_path / "p.png", "two")
    labels = [line.get_label() for line in figures[0].axes[0].lines if not line.get_label().startswith("_")]
    assert labels == ["run: 50.0 % after 1 s", "run: 60.0 % after 2 s"]


def test_no_run_with_a_time_is_the_persons_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="tells when"):
        accuracy_against_seconds([("a", [])], tmp_path / "p.png", "none")
    assert not (tmp_path / "p.png").exists()


def test_times_are_said_in_a_persons_units() -> None:
    assert [_duration(seconds) for seconds in (0.5, 42, 90, 7200, 9000)] == ["0.5 s", "42 s", "1.5 min", "2 h", "2.5 h"]


def test_another_kind_of_picture_is_refused(tmp_path: Path) -> None:
    refused = CliRunner().invoke(app, ["compare", str(tmp_path), "--plot", "speed"])
    assert (refused.exit_code, "'speed' is not" in refused.output) == (2, True)


def test_a_place_that_cannot_be_written_is_said_before_runs_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("frostline.runs.Run.open", lambda *_: pytest.fail("a run was read"))
    monkeypatch.setattr("sys.argv", ["frostline", "compare", str(tmp_path), "--plot", "time", "--output", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert str(tmp_path) in "".join(capsys.readouterr().err.split())


def row(name: str, accuracy: float, seconds: float | None, latency: float | None) -> dict[str, Any]:
    interval = [accuracy - 0.02, accuracy + 0.01]
    return {"name": name, "accuracy": accuracy, "interval": interval, "training_seconds": seconds, "latency_ms": latency}


def test_what_nothing_beats_is_joined_in_a_panel_a_cost(tmp_path: Path, figures: list[Any]) -> None:
    rows = [row("slow", 0.96, 900.0, 30.0), row("quick", 0.9, 60.0, 2.0), row("beaten", 0.88, 100.0, None)]
    pareto(rows, tmp_path / "p.png", "three")
    seconds, latency = figures[0].axes
    assert [list(axes.lines[0].get_xdata()) for axes in (seconds, latency)] == [[60.0, 900.0], [2.0, 30.0]]
    assert list(seconds.lines[0].get_ydata()) == [90.0, 96.0]
    assert {text.get_text() for text in seconds.texts} == {"slow", "quick", "beaten"}
    assert "not recorded" not in seconds.get_xlabel()
    assert latency.get_xlabel().endswith("not recorded: beaten")
    assert [label.get_text() for label in seconds.get_xticklabels()] == ["100", "300", "1000"]


def test_costs_that_no_run_tells_make_no_picture(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="what it costs"):
        pareto([row("old", 0.9, None, None)], tmp_path / "p.png", "none")
    assert not (tmp_path / "p.png").exists()
