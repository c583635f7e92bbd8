import numpy as np
import pytest
from drawing import tinted_folders
from scipy import stats

from frostline.config import Settings
from frostline.errors import UserError
from frostline.experiment import load_data
from frostline.repeat import spread, train_seeds
from frostline.runs import Run


@pytest.fixture
def settings(tiny_weights, monkeypatch):
    monkeypatch.setattr("frostline.experiment._draw", lambda *_: None)
    values = {"weights": str(tiny_weights), "image_size": 32, "device": "cpu", "precision": "f32", "l2": (1e-2,), "seed": 3}
    return Settings(recipe="tiny", backbone="timm:test_resnet", **values)


def test_the_spread_is_students():
    values = [0.9, 0.92, 0.91, 0.95]
    found = spread(values)
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert (found["mean"], found["interval"]) == (pytest.approx(0.92), pytest.approx([low, high]))
    assert found["standard_deviation"] == pytest.approx(np.std(values, ddof=1))


def test_every_seed_is_a_run_and_what_is_done_is_not_done_again(settings, tmp_path, capsys):
    data = tinted_folders(tmp_path / "data", ["a", "b", "c"], 12)
    summary = train_seeds(data, settings, 2, tmp_path / "out")
    assert summary["seeds"] == [3, 4]
    runs = [Run.open(tmp_path / "out" / f"seed-{seed}") for seed in (3, 4)]
    assert summary["accuracy"]["values"] == [run.scores("test")["accuracy"] for run in runs]
    assert [run.read("settings.json")["seed"] for run in runs] == [3, 4]
    assert runs[0].read("data.json") != runs[1].read("data.json")  # where the split is cut, the seed cuts it
    before = [run.manifest for run in runs]
    capsys.readouterr()
    again = train_seeds(data, settings, 3, tmp_path / "out")
    assert "Seed 3 is done" in capsys.readouterr().err
    assert again["accuracy"]["values"][:2] == summary["accuracy"]["values"]
    assert [Run.open(run.folder).manifest for run in runs] == before


def test_finished_runs_with_other_settings_are_not_taken_for_these(settings, tmp_path):
    data = tinted_folders(tmp_path / "data", ["a", "b"], 12)
    train_seeds(data, settings, 2, tmp_path / "out")
    with pytest.raises(UserError, match="other settings"):
        train_seeds(data, settings.with_values(views=2), 2, tmp_path / "out")


def test_a_damaged_run_is_an_error_and_stays(settings, tmp_path):
    data = tinted_folders(tmp_path / "data", ["a", "b"], 12)
    train_seeds(data, settings, 2, tmp_path / "out")
    manifest = tmp_path / "out" / "seed-4" / "run.json"
    manifest.write_text(manifest.read_text().replace('"name"', '"nome"'))
    before = {path: path.read_bytes() for path in (tmp_path / "out" / "seed-4").rglob("*") if path.is_file()}
    with pytest.raises(UserError, match="changed after it was written"):
        train_seeds(data, settings, 2, tmp_path / "out")
    assert {path: path.read_bytes() for path in (tmp_path / "out" / "seed-4").rglob("*") if path.is_file()} == before


def test_without_a_test_split_there_is_nothing_to_compare(settings, tmp_path):
    splits = load_data(tinted_folders(tmp_path / "data", ["a", "b"], 12), settings.with_values(test="none"))
    with pytest.raises(UserError, match="no test split"):
        train_seeds(splits, settings, 2, tmp_path / "out")


def test_a_seed_that_was_cut_short_is_no_result(settings, tmp_path, monkeypatch):
    from frostline import experiment

    data = tinted_folders(tmp_path / "data", ["a", "b"], 12)
    real = experiment.trained_on

    def interrupted(*arguments):
        trained = real(*arguments)
        trained.record["ended"] = "interrupted by Ctrl-C"
        return trained

    with monkeypatch.context() as patch:
        patch.setattr("frostline.experiment.trained_on", interrupted)
        with pytest.raises(UserError, match="cut short"):
            train_seeds(data, settings, 2, tmp_path / "out")
    assert not (tmp_path / "out" / "seed-4").exists()
    assert train_seeds(data, settings, 2, tmp_path / "out")["seeds"] == [3, 4]
    other = tinted_folders(tmp_path / "other", ["a", "b"], 12, start=100)
    with pytest.raises(UserError, match="other data"):
        train_seeds(other, settings, 2, tmp_path / "out")
