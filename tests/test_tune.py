import csv
import os
import tomllib

import pytest
from drawing import tinted_folders
from PIL import Image

from frostline.choosing import settings_from
from frostline.config import Settings
from frostline.errors import UserError
from frostline.experiment import load_data
from frostline.recipes import recipe
from frostline.search_spaces import SPACES, USUAL, searched_names
from frostline.stopping import StopRule
from frostline.tune import tune


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    tinted_folders(root / "train", ["a", "b", "c"], 30)
    tinted_folders(root / "test", ["a", "b", "c"], 4, start=500)
    return load_data(root)


@pytest.fixture
def settings():
    return Settings(recipe="cnn", kind="scratch", network="cnn-small", image_size=16, epochs=3, device="cpu", precision="f32")


@pytest.mark.slow
def test_trials_are_run_written_and_gone_on_with(splits, settings, tmp_path, monkeypatch):
    rows = tune(splits, settings, ["lr", "shift"], [], 3, tmp_path)
    assert [row["trial"] for row in rows] == [1, 2, 3]
    assert {"lr", "shift"} < set(rows[0])
    assert all(1e-4 <= row["lr"] <= 1e-2 for row in rows)
    best = tomllib.loads((tmp_path / "best.toml").read_text())
    top = max((row for row in rows if row["state"] == "complete"), key=lambda row: row["validation_accuracy"])
    assert Settings(recipe="cnn").with_values(**best) == settings.with_values(lr=top["lr"], shift=top["shift"])
    with open(tmp_path / "trials.csv") as stream:
        assert len(list(csv.DictReader(stream))) == 3
    with Image.open(tmp_path / "trials.png") as picture:
        assert picture.size[0] > 300
    assert not list(tmp_path.glob("trial-*"))  # no models are kept
    monkeypatch.setattr("frostline.tune._accuracy", lambda *_: 0.99)
    again = tune(splits, settings, ["lr", "shift"], [], 4, tmp_path)
    assert again[:3] == rows
    assert again[3]["validation_accuracy"] == 0.99


def test_test_is_not_read(splits, settings, tmp_path, monkeypatch):
    monkeypatch.setattr(type(splits), "test", property(lambda self: pytest.fail("test was read")), raising=False)
    assert len(tune(splits, settings.with_values(epochs=1), ["lr"], [], 1, tmp_path)) == 1


def test_another_search_in_the_folder_is_refused(splits, settings, tmp_path, monkeypatch):
    monkeypatch.setattr("frostline.tune._accuracy", lambda *_: 0.5)
    tune(splits, settings, ["lr"], [], 1, tmp_path)
    with pytest.raises(UserError, match="other settings or data"):
        tune(splits, settings.with_values(batch_size=7), ["lr"], [], 2, tmp_path)


@pytest.mark.parametrize("name", ["weights", "views", "head"])
def test_what_cannot_be_searched_is_named(name, splits, settings, tmp_path):
    with pytest.raises(UserError, match="cannot be searched"):
        tune(splits, settings, [name], [], 1, tmp_path)


def test_a_recipe_that_leaves_out_easy_images_is_not_searched_by_mixing_them_unasked():
    whole, usual = recipe("densenet169-finetune"), ["lr", "weight_decay", "label_smoothing", "mixup", "layer_decay"]
    assert searched_names(whole, [], []) == usual
    assert searched_names(recipe("mobilenetv2-finetune"), [], []) == [name for name in usual if name != "mixup"]
    assert searched_names(recipe("mobilenetv2-finetune"), ["mixup"], []) == ["mixup"]


def test_where_mixing_is_searched_every_trial_shows_all_images_and_that_is_said(splits, settings, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("frostline.tune._accuracy", lambda _, settings, *__: 0.5 + settings.skip_easy)
    rows = tune(splits, settings.with_values(skip_easy=0.25), ["mixup", "lr"], [], 2, tmp_path / "mixed")
    assert [row["validation_accuracy"] for row in rows] == [0.5, 0.5]
    assert tomllib.loads((tmp_path / "mixed" / "best.toml").read_text())["mixup"] > 0
    assert "mixup searched: every trial shows all images, skip_easy is off." in " ".join(capsys.readouterr().err.split())
    [row] = tune(splits, settings.with_values(skip_easy=0.25), ["lr"], [], 1, tmp_path / "apart")
    assert row["validation_accuracy"] == 0.75
    assert "all images" not in capsys.readouterr().err


def test_a_search_that_cannot_be_opened_says_so(splits, settings, tmp_path):
    (tmp_path / "study.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(UserError, match="cannot be opened") as caught:
        tune(splits, settings, ["lr"], [], 1, tmp_path)
    assert "--out" in caught.value.hint


def test_what_a_killed_trial_left_goes_but_not_what_is_at_work(splits, settings, tmp_path, monkeypatch):
    from frostline.run_folder import lock

    monkeypatch.setattr("frostline.tune._accuracy", lambda *_: 0.5)
    for name in ("trial-7", "trial-8"):
        (tmp_path / name / "checkpoints").mkdir(parents=True)
    handle = lock(tmp_path / "trial-8")
    tune(splits, settings, ["lr"], [], 1, tmp_path)
    os.close(handle)
    assert [path.name for path in tmp_path.glob("trial-*")] == ["trial-8"]


def test_a_real_trial_is_pruned_by_its_epochs(splits, settings, tmp_path, monkeypatch):
    import optuna

    monkeypatch.setattr(optuna.pruners, "MedianPruner", lambda **_: optuna.pruners.ThresholdPruner(lower=2.0))
    seen = []
    real = StopRule.check

    def counting(self, accuracy=None):
        seen.append(accuracy)
        return real(self, accuracy)

    monkeypatch.setattr(StopRule, "check", counting)
    with pytest.raises(UserError, match="No trial ended well"):
        tune(splits, settings.with_values(epochs=5), ["lr"], [], 1, tmp_path)
    with open(tmp_path / "trials.csv") as stream:
        assert [row["state"] for row in csv.DictReader(stream)] == ["pruned"]
    assert sum(accuracy is not None for accuracy in seen) == 1  # judged once: four of five epochs were never run


def test_a_failed_trial_is_a_row_and_all_failed_an_error(splits, settings, tmp_path, monkeypatch):
    def fails(splits, settings, stop, folder):
        raise UserError("The training loss became nan.")

    with monkeypatch.context() as patch:
        patch.setattr("frostline.tune._accuracy", fails)
        with pytest.raises(UserError, match="No trial ended well"):
            tune(splits, settings, ["lr"], [], 2, tmp_path)
    monkeypatch.setattr("frostline.tune._accuracy", lambda *_: 0.5)
    assert [row["state"] for row in tune(splits, settings, ["lr"], [], 3, tmp_path)] == ["fail", "fail", "complete"]


def test_what_is_not_promising_ends_early(splits, settings, tmp_path, monkeypatch):
    levels = iter([0.9, 0.9, 0.9, 0.9, 0.1])

    def scripted(splits, settings, stop: StopRule, folder):
        level = next(levels)
        stop.report({"stage": "head", "epoch": 3, "validation_accuracy": 0.0})
        stop.report({"images": 32, "validation_accuracy": 0.0})
        for epoch in range(5):
            stop.report({"epoch": epoch + 1, "validation_accuracy": level})
            if stop.check(level):
                break
        return level

    monkeypatch.setattr("frostline.tune._accuracy", scripted)
    rows = tune(splits, settings, ["lr"], [], 5, tmp_path)
    assert [row["state"] for row in rows] == ["complete"] * 4 + ["pruned"]


def test_an_interrupted_trial_does_not_count(splits, settings, tmp_path, monkeypatch):
    def interrupted(splits, settings, stop, folder):
        stop.interrupted = settings.lr != 0
        return 0.5

    with monkeypatch.context() as patch:
        patch.setattr("frostline.tune._accuracy", interrupted)
        assert tune(splits, settings, ["lr"], [], 2, tmp_path) == []
    monkeypatch.setattr("frostline.tune._accuracy", lambda *_: 0.5)
    assert len(tune(splits, settings, ["lr"], [], 2, tmp_path)) == 2


@pytest.mark.slow
def test_cuts_are_searched(splits, tiny, tmp_path):
    settings = tiny.with_values(image_size=32, epochs=1, l2=(1e-2,), lr=1e-3)
    rows = tune(splits, settings, ["lr", "mixup"], ["layer3", "layer4"], 2, tmp_path)
    assert {row["train_from"] for row in rows} <= {"layer3", "layer4"}
    assert tomllib.loads((tmp_path / "best.toml").read_text())["train_from"] in ("layer3", "layer4")


@pytest.mark.parametrize("name", sorted(SPACES))
def test_every_space_gives_settings(name):
    import optuna

    trial = optuna.create_study().ask()
    settings = Settings(cutmix=0.0)
    assert settings.with_values(**{name: SPACES[name](trial, settings)}) is not None
    assert {name for names in USUAL.values() for name in names} <= set(SPACES)


def test_a_continued_search_draws_other_values(splits, settings, tmp_path, monkeypatch):
    monkeypatch.setattr("frostline.tune._accuracy", lambda *_: 0.5)
    for count in (1, 2, 3):
        rows = tune(splits, settings, ["lr"], [], count, tmp_path)
    assert len({row["lr"] for row in rows}) == 3


def test_an_error_after_an_interrupt_ends_the_search(splits, settings, tmp_path, monkeypatch):
    def interrupted(splits, settings, stop, folder):
        stop.interrupted = True
        raise UserError("Extraction ended before an image of every class was seen.")

    monkeypatch.setattr("frostline.tune._accuracy", interrupted)
    assert tune(splits, settings, ["lr"], [], 5, tmp_path) == []


def test_what_was_found_is_the_same_training_when_it_is_given_again(splits, tmp_path, monkeypatch):
    monkeypatch.setattr("frostline.tune._accuracy", lambda *_: 0.5)
    asked = ["weight_decay=0", "epochs=20", "views=1", "schedule=constant"]
    settings = settings_from("mobilenetv2-frozen", None, asked, {"train_from": "last:50"})
    rows = tune(splits, settings, ["lr"], ["last:50", "last:91"], 1, tmp_path)
    again = settings_from("mobilenetv2-frozen", tmp_path / "best.toml", [], {})
    assert recipe("mobilenetv2-frozen").with_toml(tmp_path / "best.toml") == again
    assert again == settings.with_values(lr=rows[0]["lr"], train_from=rows[0]["train_from"])
