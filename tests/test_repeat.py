import json
from dataclasses import replace

import numpy as np
import pytest
from drawing import tinted_folders
from forged import forge
from scipy import stats

from frostline.config import Settings
from frostline.errors import UserError
from frostline.experiment import load_data
from frostline.metrics import score
from frostline.predictions import Predictions
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


@pytest.mark.slow
def test_every_seed_is_a_run_and_what_is_done_is_not_done_again(settings, tmp_path, capsys):
    data = tinted_folders(tmp_path / "data", ["a", "b", "c"], 12)
    summary = train_seeds(data, settings, 2, tmp_path / "out")
    assert summary["seeds"] == [3, 4]
    runs = [Run.open(tmp_path / "out" / f"seed-{seed}") for seed in (3, 4)]
    assert summary["accuracy"]["values"] == [run.scores("test")["accuracy"] for run in runs]
    assert summary["n"] == [len(run.predictions("test")) for run in runs]
    assert [run.read("settings.json")["seed"] for run in runs] == [3, 4]
    assert runs[0].read("data.json") != runs[1].read("data.json")  # where the split is cut, the seed cuts it
    before = [run.manifest for run in runs]
    capsys.readouterr()
    again = train_seeds(data, settings, 3, tmp_path / "out")
    assert "Seed 3 is done" in capsys.readouterr().err
    assert again["accuracy"]["values"][:2] == summary["accuracy"]["values"]
    assert [Run.open(run.folder).manifest for run in runs] == before


@pytest.mark.slow
def test_finished_runs_with_other_settings_are_not_taken_for_these(settings, tmp_path):
    data = tinted_folders(tmp_path / "data", ["a", "b"], 12)
    train_seeds(data, settings, 2, tmp_path / "out")
    with pytest.raises(UserError, match="other settings"):
        train_seeds(data, settings.with_values(views=2), 2, tmp_path / "out")


@pytest.mark.slow
def test_a_damaged_run_is_an_error_and_stays(settings, tmp_path):
    data = tinted_folders(tmp_path / "data", ["a", "b"], 12)
    train_seeds(data, settings, 2, tmp_path / "out")
    manifest = tmp_path / "out" / "seed-4" / "run.json"
    manifest.write_text(manifest.read_text().replace('"name"', '"nome"'))
    before = {path: path.read_bytes() for path in (tmp_path / "out" / "seed-4").rglob("*") if path.is_file()}
    with pytest.raises(UserError, match="changed after it was written"):
        train_seeds(data, settings, 2, tmp_path / "out")
    assert {path: path.read_bytes() for path in (tmp_path / "out" / "seed-4").rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_without_a_test_split_there_is_nothing_to_compare(settings, tmp_path):
    splits = load_data(tinted_folders(tmp_path / "data", ["a", "b"], 12), settings.with_values(test="none"))
    with pytest.raises(UserError, match="no test split"):
        train_seeds(splits, settings, 2, tmp_path / "out")


@pytest.mark.slow
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


# what is averaged


@pytest.fixture
def quick(monkeypatch):
    """Settings, and instead of training a run of drawn predictions, as training leaves it."""

    def drawn_run(data, settings, folder, resume=False, overwrite=False):
        splits, rng = load_data(data, settings), np.random.default_rng(settings.seed)
        with Run.create(folder, overwrite) as run:
            run.write_settings(settings)
            run.write_data(splits.record)
            for images in (splits.validation, splits.test):
                p = rng.dirichlet(np.ones(len(images.classes)), len(images))
                predictions = Predictions(images.ids, images.labels, p, images.classes, images.digests)
                run.write_predictions(images.name, predictions)
                run.write_scores(images.name, score(predictions))
            run.finish({"test_accuracy": float(predictions.correct.mean())})
        return run

    monkeypatch.setattr("frostline.repeat.train", drawn_run)
    return Settings(recipe="drawn", kind="scratch", network="cnn-small", seed=3)


@pytest.fixture
def declared(tmp_path):
    """Data that says itself what test is."""
    tinted_folders(tmp_path / "data" / "train", ["a", "b"], 12)
    tinted_folders(tmp_path / "data" / "test", ["a", "b"], 6, start=500)
    return tmp_path / "data"


def test_finished_runs_are_averaged_from_their_predictions(quick, declared, tmp_path):
    summary = train_seeds(declared, quick, 3, tmp_path / "out")
    runs = [Run.open(tmp_path / "out" / f"seed-{seed}") for seed in (3, 4, 5)]
    assert summary["accuracy"]["values"] == [float(run.predictions("test").correct.mean()) for run in runs]
    assert summary["n"] == [12, 12, 12]
    assert train_seeds(declared, quick, 3, tmp_path / "out") == summary == json.loads((tmp_path / "out" / "seeds.json").read_text())


def test_a_changed_digit_is_refused_and_not_averaged(quick, declared, tmp_path):
    train_seeds(declared, quick, 2, tmp_path / "out")
    (tmp_path / "out" / "seeds.json").unlink()
    flattered = lambda content: json.dumps({**json.loads(content), "accuracy": 0.999}).encode()  # noqa: E731
    forge(tmp_path / "out" / "seed-4", "scores/test.json", flattered)
    with pytest.raises(UserError, match=r"A claim of seed-4 is wrong: scores/test.json"):
        train_seeds(declared, quick, 2, tmp_path / "out")
    assert not (tmp_path / "out" / "seeds.json").exists()


def test_a_wrong_summary_is_refused(quick, declared, tmp_path):
    train_seeds(declared, quick, 2, tmp_path / "out")
    change = lambda content: json.dumps({**json.loads(content), "record": {"test_accuracy": 0.999}}).encode()  # noqa: E731
    forge(tmp_path / "out" / "seed-3", "run.json", change)
    with pytest.raises(UserError, match=r"A claim of seed-3 is wrong: run.json"):
        train_seeds(declared, quick, 2, tmp_path / "out")


def test_a_missing_row_is_refused_and_not_averaged(quick, declared, tmp_path):
    train_seeds(declared, quick, 2, tmp_path / "out")
    folder = tmp_path / "out" / "seed-4"
    p = Run.open(folder).predictions("test")
    fewer = Predictions(p.ids[1:], p.labels[1:], p.probabilities[1:], p.classes, p.digests[1:])
    fewer.save(tmp_path / "fewer.npz")
    forge(folder, "predictions/test.npz", lambda _: (tmp_path / "fewer.npz").read_bytes())
    forge(folder, "scores/test.json", lambda _: json.dumps(score(fewer)).encode())
    forge(folder, "run.json", lambda content: json.dumps({**json.loads(content), "record": {}}).encode())
    with pytest.raises(UserError, match="seed-4 has no prediction for 1 of its 12 test images"):
        train_seeds(declared, quick, 2, tmp_path / "out")


@pytest.mark.parametrize("split", ["test", "train"])
def test_photos_that_came_later_are_other_data(split, quick, declared, tmp_path):
    train_seeds(declared, quick, 2, tmp_path / "out")
    tinted_folders(declared / split, ["a", "b", *(["c"] if split == "train" else [])], 13, start=900)
    with pytest.raises(UserError, match=r"seed-3 holds a finished run on other data: the images of .*that it had") as refused:
        train_seeds(declared, quick, 3, tmp_path / "out")
    assert split in refused.value.message
    assert not (tmp_path / "out" / "seed-5").exists()


def test_data_that_change_between_two_seeds_are_not_averaged(quick, declared, tmp_path, monkeypatch):
    from frostline import repeat

    drawn_run = repeat.train

    def and_then_more(data, settings, folder, **options):
        run = drawn_run(data, settings, folder, **options)
        tinted_folders(declared / "test", ["a", "b"], 7, start=500)
        return run

    monkeypatch.setattr("frostline.repeat.train", and_then_more)
    with pytest.raises(UserError, match=r"seed-3 and .*seed-4 were judged on different test images"):
        train_seeds(declared, quick, 2, tmp_path / "out")


def test_splits_without_a_record_are_known_by_their_test_images(quick, declared, tmp_path):
    splits = replace(load_data(declared, quick), record={})
    assert train_seeds(splits, quick, 2, tmp_path / "out")["n"] == [12, 12]
    fewer = replace(splits, test=splits.test.take(np.arange(11)))
    with pytest.raises(UserError, match="other data: the images of test"):
        train_seeds(fewer, quick, 2, tmp_path / "out")
