"""Fine-tuning from the frost line, from folders of drawn images to a judged model and the stage before it."""

import os
import re
import signal
from contextlib import contextmanager

import numpy as np
import pytest
from drawing import tinted_folders
from killing import killed
from torch import fx, nn

from frostline import show
from frostline.choosing import resumed
from frostline.errors import UserError
from frostline.experiment import load_data, train
from frostline.feature_cache import clear, entries
from frostline.model_card import read_card
from frostline.models.transfer import Cut, Trainable, Upper
from frostline.run_folder import is_finished
from frostline.runs import Run
from frostline.serve.predictor import Predictor

pytestmark = pytest.mark.usefixtures("without_pictures")


@pytest.fixture(scope="module")
def settings(tiny):
    return tiny.with_values(
        recipe="tiny-finetune", train_from="layer4", epochs=2, batch_size=16, optimizer="adamw", lr=1e-3, views=2
    )


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    tinted_folders(root / "train", ["10", "2", "nut"], 40)
    tinted_folders(root / "test", ["10", "2", "nut"], 10, start=500)
    return load_data(root)


@pytest.mark.slow
def test_a_dense_head_is_validated_as_it_is_served(splits, settings, tmp_path):
    run = train(splits, settings.with_values(head="dense-b", views=2, epochs=2), tmp_path / "run")
    for folder, split in ((run.model_folder, "validation"), (run.stage_folder("head"), "validation-head")):
        kept = run.predictions(split)
        served = Predictor(folder).judge(splits.validation).probabilities[np.argsort(splits.validation.ids)]
        np.testing.assert_allclose(served, kept.probabilities[np.argsort(kept.ids)], atol=1e-2)


def test_both_stages_are_kept_and_scored(splits, settings, tmp_path, capsys):
    run = train(splits, settings.with_values(announce=0.5), tmp_path / "run")
    said = capsys.readouterr().err
    assert "frost line, at layer4.0" in said
    trainable, total = run.record["trainable_parameters"], run.record["parameters"]
    assert f"{trainable - 291:,} of them train, and 291 of the head: {trainable:,} of {total:,}." in said
    assert re.search(r"layer3.0 +\S+ +frozen\n.*frost line.*\n +layer4.0 +\S+ +trains\n", said)
    assert re.search(r"240 activations are kept: \d+ MiB. Less than a minute for 2 epochs", said)
    assert "Validation passed 50.00% after" in said
    Run.open(run.folder).verify()
    assert {"test", "test-head", "validation", "validation-head"} == set(run.splits)
    assert run.scores("test")["accuracy"] >= 0.9
    assert read_card(run.model_folder).values["architecture"]["train_from"].startswith("layer4.0")
    for folder, split in ((run.model_folder, "test"), (run.stage_folder("head"), "test-head")):
        served = Predictor(folder).judge(splits.test)
        np.testing.assert_allclose(served.probabilities, run.predictions(split).probabilities, atol=1e-5)
    # what is validated is what is served: the activations went through float16, the predictor's did not
    kept = run.predictions("validation")
    served = Predictor(run.model_folder).judge(splits.validation).probabilities[np.argsort(splits.validation.ids)]
    np.testing.assert_allclose(served, kept.probabilities[np.argsort(kept.ids)], atol=1e-2)
    assert [row["epoch"] for row in run.history() if "epoch" in row] == [1, 2]


@pytest.mark.slow
def test_only_what_is_above_the_line_has_changed(splits, settings, tmp_path):
    from safetensors.numpy import load_file

    run = train(splits, settings, tmp_path / "run")
    before, after = (load_file(folder / "weights.safetensors") for folder in (run.stage_folder("head"), run.model_folder))
    for name, value in before.items():
        changed = not np.array_equal(value, after[name])
        trains = name.startswith("head.") or ("layer4" in name and "running" not in name and "num_batches" not in name)
        assert changed == trains, name


@pytest.mark.slow
@pytest.mark.parametrize("live", [False, True])
def test_all_of_a_network_trains(splits, settings, tmp_path, live):
    from safetensors.numpy import load_file

    run = train(splits, settings.with_values(train_from="all", epochs=1, mirror=live), tmp_path / "run")
    assert run.record["trainable_parameters"] == run.record["parameters"]
    before, after = (load_file(folder / "weights.safetensors") for folder in (run.stage_folder("head"), run.model_folder))
    assert all(
        (name.rpartition(".")[2] in ("running_mean", "running_var", "num_batches_tracked")) == np.array_equal(value, after[name])
        for name, value in before.items()
    )
    kept = run.predictions("validation")
    served = Predictor(run.model_folder).judge(splits.validation)
    np.testing.assert_allclose(_sorted(served), _sorted(kept), atol=1e-2)


def _sorted(predictions):
    return predictions.probabilities[np.argsort(predictions.ids)]


@pytest.mark.slow
def test_a_second_run_finds_the_activations_and_gives_the_same_model(splits, settings, tmp_path, monkeypatch):
    first = train(splits, settings, tmp_path / "one")
    assert sorted((entry["key"]["below"][:6], entry["key"]["view"]) for entry in entries()) == [
        ("layer4", "image"),
        ("layer4", "mirror"),
    ]
    monkeypatch.setattr("frostline.engine.Engine.run", _only_padding(splits))
    second = train(splits, settings, tmp_path / "two")
    assert first.record["model_digest"] == second.record["model_digest"]


def _only_padding(splits):
    from frostline.engine import Engine

    real = Engine.run

    def run(self, blocks):
        def watched():
            for block in blocks:
                rows = {block[i].tobytes() for i in range(len(block))}
                assert not rows & {image.tobytes() for image in splits.train.pixels}, "an image of training was computed again"
                yield block

        return real(self, watched())

    return run


@pytest.mark.slow
@pytest.mark.parametrize(("values", "reason"), [({"budget": 0.001}, "budget"), ({"stop_at": 0.4}, "reached --stop-at 0.4")])
def test_what_is_enough_before_the_upper_part_trains_leaves_the_heads_model(splits, settings, tmp_path, values, reason):
    run = train(splits, settings.with_values(**values), tmp_path / "run")
    assert reason in run.record["ended"]
    assert run.scores("test")["n"] == 30
    assert run.record["trainable_parameters"] == 96 * 3 + 3
    assert set(run.splits) == {"test", "validation"}


def test_ridge_is_no_head_to_go_on_from(splits, settings, tmp_path):
    with pytest.raises(UserError, match="goes on from a head"):
        train(splits, settings.with_values(head="ridge"), tmp_path / "run")


@pytest.mark.slow
def test_more_views_are_cached_than_the_model_averages(splits, settings, tmp_path):
    run = train(splits, settings.with_values(cached_views=4), tmp_path / "run")
    kept = {entry["key"]["view"]: entry["rows"] for entry in entries()}
    assert kept == {"image": 120, "mirror": 120, "shifted-2": 108, "cropped-3": 108}
    assert read_card(run.model_folder).views == 2


def cached(splits, settings, stop=None):
    from frostline.activations import Cached
    from frostline.frozen import freeze_below
    from frostline.stopping import StopRule

    return Cached(freeze_below(settings, splits.train.size), splits, settings, stop or StopRule(), settings.cached_views)


def stored(features):
    return np.asarray(features.float() if hasattr(features, "float") else features)


@pytest.mark.parametrize("head", ["logistic", "dense-b"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_head_begins_from_what_torch_makes_of_the_activations(splits, settings, monkeypatch, tmp_path, head, dtype):
    """By the compiled part above the line, as on a CPU, and by torch, as on a GPU: the same rows of the same features."""
    from frostline import above_line
    from frostline.stopping import StopRule

    activations = cached(splits, settings.with_values(head=head, feature_dtype=dtype, precision="f32", cached_views=2))
    compiled = activations.head_features(Run(tmp_path), StopRule())
    with monkeypatch.context() as patch:
        patch.setattr(above_line, "compiled", lambda *_: None)
        by_torch = activations.head_features(Run(tmp_path), StopRule())
    assert compiled.validation.features.shape == (12, 2 if head == "dense-b" else 1, 96)
    for one, other in ((compiled.train, by_torch.train), (compiled.validation, by_torch.validation)):
        np.testing.assert_array_equal(one.seen, other.seen)
        np.testing.assert_allclose(one.features, other.features, atol=1e-4)
    np.testing.assert_allclose(compiled.moments.xx, by_torch.moments.xx, rtol=1e-3, atol=1e-3)


def test_further_views_are_computed_after_the_first_epoch_and_are_the_same(splits, settings, tmp_path):
    settings = settings.with_values(cached_views=3)
    activations = cached(splits, settings)
    batches = activations.training()
    assert {entry["key"]["view"]: entry["rows"] for entry in entries()} == {"image": 120, "mirror": 12}
    assert len(list(batches.epoch(0))) == 7
    assert {entry["key"]["view"]: entry["rows"] for entry in entries()} == {"image": 120, "mirror": 12}
    batches.prepare(1)
    assert {entry["key"]["view"]: entry["rows"] for entry in entries()} == {"image": 120, "mirror": 120, "shifted-2": 108}
    at_once = cached(splits, settings.with_values(epochs=1))
    np.testing.assert_array_equal(stored(batches.features), stored(at_once.training().features))


def test_no_cached_view_is_mirrored_where_none_is_served(splits, settings):
    cached(splits, settings.with_values(cached_views=3, views=1)).training().prepare(1)
    assert {entry["key"]["view"]: entry["rows"] for entry in entries()} == {
        "image": 120,
        "shifted-1-upright": 108,
        "cropped-2-upright": 108,
    }


def test_a_further_view_that_overflows_moves_all_to_bfloat16(splits, settings, tmp_path, monkeypatch, capsys):
    from frostline import feature_cache, features

    settings = settings.with_values(cached_views=3)
    activations = cached(splits, settings)
    batches, first = activations.training(), stored(activations.training().features[:, 0])

    def overflowing(rows, dtype):
        if dtype == "float16":
            raise feature_cache.FeatureOverflowError
        return feature_cache.to_stored(rows, dtype)

    monkeypatch.setattr(features, "to_stored", overflowing)
    batches.prepare(1)
    assert "too large for float16" in capsys.readouterr().err
    assert activations.record["feature_dtype"] == "bfloat16"
    assert str(batches.features.dtype) == "torch.bfloat16"
    np.testing.assert_allclose(stored(batches.features[:, 0]), first, rtol=2**-7, atol=1e-3)
    with pytest.raises(UserError, match="feature_dtype=bfloat16"):
        cached(splits, settings.with_values(feature_dtype="float16")).training().prepare(1)


@pytest.mark.slow
def test_what_ends_while_further_views_are_computed_leaves_a_run_that_goes_on(splits, settings, tmp_path, monkeypatch):
    settings = settings.with_values(cached_views=3, epochs=3)
    whole = train(splits, settings, tmp_path / "whole")
    clear()
    from frostline.activations import Cached

    real = Cached._filled

    def stopping(self, dtype):
        os.kill(os.getpid(), signal.SIGINT)
        return real(self, dtype)

    monkeypatch.setattr("frostline.features.BLOCK", 64)  # more than one block, so that there is something to cut short
    with monkeypatch.context() as patch:
        patch.setattr(Cached, "_filled", stopping)
        cut = train(splits, settings, tmp_path / "cut")
    assert "Ctrl-C" in cut.record["ended"]
    assert [row["epoch"] for row in cut.history() if "epoch" in row] == [1]
    _, saved = resumed(tmp_path / "cut", None, [], {})
    again = train(splits, saved, tmp_path / "cut", resume=True)
    assert [row["epoch"] for row in again.history() if "epoch" in row] == [1, 2, 3]
    assert again.record["model_digest"] == whole.record["model_digest"]


@pytest.mark.slow
@pytest.mark.parametrize(("after", "precision", "share"), [(1, "f32", 0.0), (3, "f32", 0.0), (2, "bf16", 0.0), (1, "f32", 0.4)])
def test_an_interrupted_run_is_resumed_to_the_same_model(splits, settings, tmp_path, monkeypatch, after, precision, share):
    settings = settings.with_values(epochs=4, precision=precision, skip_easy=share)
    whole = train(splits, settings, tmp_path / "whole")
    assert not whole.checkpoints_folder.exists()

    with killed(monkeypatch, after_epoch=after):
        train(splits, settings, tmp_path / "cut")
    # killed again, while it begins to go on: nothing that it needs is gone
    Run.create(tmp_path / "cut", resume=True).close()
    source, saved = resumed(tmp_path / "cut", None, [], {})
    assert (source, saved) == (splits.record["source"], settings)
    again = train(splits, saved, tmp_path / "cut", resume=True)
    assert again.record["model_digest"] == whole.record["model_digest"]
    assert [row["epoch"] for row in again.history() if "epoch" in row] == [1, 2, 3, 4]
    assert is_finished(tmp_path / "cut")
    with pytest.raises(UserError, match="holds a finished run"):
        train(splits, saved, tmp_path / "cut", resume=True)


def test_changed_settings_are_listed(splits, settings, tmp_path, monkeypatch):
    run = Run.create(tmp_path / "run")
    run.write_settings(settings)
    run.write_data(splits.record)
    run.checkpoints_folder.mkdir()
    run.close()
    with pytest.raises(UserError) as caught:
        resumed(tmp_path / "run", None, ["lr=0.5"], {"views": 1})
    assert {"lr: 0.001 became 0.5", "views: 2 became 1"} == set(caught.value.received.split("; "))
    with pytest.raises(UserError, match="goes on with the data it began with"):
        resumed(tmp_path / "run", None, [], {}, "elsewhere")
    assert resumed(tmp_path / "run", None, ["lr=0.001"], {})[1] == settings


LIVE = {"augment": ("zoom", "contrast"), "shift": 2}


@pytest.mark.slow
def test_pixels_that_change_go_through_the_whole_network_and_nothing_is_stored(splits, settings, tmp_path, capsys):
    run = train(splits, settings.with_values(**LIVE), tmp_path / "run")
    assert "nothing is stored" in capsys.readouterr().err
    assert not any("below" in entry["key"] for entry in entries())  # features for the head alone
    assert run.scores("test")["accuracy"] >= 0.9
    card = read_card(run.model_folder).values
    assert (card["training"]["path"], card["training"]["train_images"]) == ("live", 108)
    for folder, split in ((run.model_folder, "validation"), (run.stage_folder("head"), "validation-head")):
        served = Predictor(folder).judge(splits.validation)
        kept, order = run.predictions(split), np.argsort(splits.validation.ids)
        assert (kept.labels[np.argsort(kept.ids)] == splits.validation.labels[order]).all()
        # that of the head is of the head before it was refitted: like the one that is served, and not the same
        atol = 1e-5 if split == "validation" else 0.2
        np.testing.assert_allclose(served.probabilities[order], kept.probabilities[np.argsort(kept.ids)], atol=atol)


@pytest.mark.slow
def test_the_live_path_is_repeatable_and_resumes_to_the_same_bits(splits, settings, tmp_path, monkeypatch):
    settings = settings.with_values(**LIVE, ema=0.9, cutmix=1.0, epochs=3)
    whole = train(splits, settings, tmp_path / "whole")

    with killed(monkeypatch, after_epoch=2):
        train(splits, settings, tmp_path / "cut")
    again = train(splits, resumed(tmp_path / "cut", None, [], {})[1], tmp_path / "cut", resume=True)
    assert again.record["model_digest"] == whole.record["model_digest"]


def test_what_is_not_changed_is_the_cached_activation(splits, settings):
    """Live and cached batches are one path in two forms: unchanged pixels give the same activations."""
    from frostline.activations import Cached, Live
    from frostline.frozen import freeze_below
    from frostline.stopping import StopRule

    settings = settings.with_values(feature_dtype="float32")
    below = freeze_below(settings, splits.train.size)
    cached, live = Cached(below, splits, settings, StopRule(), 2), Live(below, splits, settings)
    found = {"cached": {}, "live": {}}
    for name, source in (("cached", cached), ("live", live)):
        rows = iter(source.judged)
        for x, y in source.validation().epoch(0):
            assert x.shape[1:] == (2, *below.line.shape)
            for activations, label in zip(x, y, strict=True):
                row = int(next(rows))
                assert splits.validation.labels[row] == label
                found[name][row] = activations.numpy()
    assert sorted(found["cached"]) == sorted(found["live"]) == list(range(len(splits.validation)))
    for row, activations in found["cached"].items():
        np.testing.assert_allclose(activations, found["live"][row], atol=1e-5)


@pytest.mark.slow
def test_photos_take_the_live_path_too(settings, tmp_path):
    tinted_folders(tmp_path / "data", ["a", "b"], 30, height=40, width=60)
    tinted_folders(tmp_path / "data", ["a", "b"], 10, start=50, height=50, width=30)
    run = train(tmp_path / "data", settings.with_values(augment=("mirror",), epochs=1), tmp_path / "run")
    assert run.read("settings.json")["augment"] == ["mirror"]
    assert run.record["trainable_parameters"] > 96 * 2


def test_what_cannot_change_is_refused(splits, settings, tmp_path):
    with pytest.raises(UserError, match="features are made once"):
        train(splits, settings.with_values(train_from="head", mirror=True), tmp_path / "run")


@pytest.mark.slow
def test_ctrl_c_before_the_first_whole_epoch_leaves_a_run_that_goes_on(splits, settings, tmp_path, monkeypatch, capsys):
    settings, whole = settings.with_values(epochs=1), train(splits, settings.with_values(epochs=1), tmp_path / "whole")
    real = Run.timing

    @contextmanager
    def stopping(self, name):
        with real(self, name):
            if name == "fit":
                os.kill(os.getpid(), signal.SIGINT)
            yield

    with monkeypatch.context() as patch:
        patch.setattr(Run, "timing", stopping)
        cut = train(splits, settings, tmp_path / "cut")
    assert "Ctrl-C" in cut.record["ended"]
    show.finished(cut, "data")
    assert "frostline train --resume" in capsys.readouterr().out
    _, saved = resumed(tmp_path / "cut", None, [], {})
    with pytest.raises(UserError, match=r"lr: 0\.001 became 0\.5"):
        train(splits, saved.with_values(lr=0.5), tmp_path / "cut", resume=True)
    again = train(splits, saved, tmp_path / "cut", resume=True)
    assert again.record["model_digest"] == whole.record["model_digest"]
    assert is_finished(tmp_path / "cut")


@pytest.mark.slow
def test_a_full_disk_is_said_before_anything_is_cached(splits, settings, tmp_path, monkeypatch, capsys):
    from collections import namedtuple

    Usage = namedtuple("Usage", "total used free")
    row = 2 * 192 * 3 * 3 * 2  # activations of layer4's input at 48 pixels, twice, in float16
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(0, 0, int(row * (108 * 3.5 + 24) / 0.8)))
    run = train(splits, settings.with_values(cached_views=5, epochs=1), tmp_path / "run")
    assert "room for" in capsys.readouterr().err
    kept = read_card(run.model_folder).values["training"]["cached_views"]
    assert 2 <= kept < 5
    # two views are cached now: they need room once more alone, and what the cache holds of other images counts for nothing
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(0, 0, int(row * (108 + 24.5) / 0.8)))
    assert train(splits, settings.with_values(epochs=1), tmp_path / "again").scores("test")["n"] == 30
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(0, 0, 1000))
    other = load_data(tinted_folders(tmp_path / "data", ["x", "y"], 20, start=900))
    with pytest.raises(UserError, match="no room for the activations"):
        train(other, settings, tmp_path / "other")


@pytest.mark.parametrize("views", [1, 2])
def test_a_run_goes_on_with_as_many_views_as_it_began_with(splits, settings, tmp_path, monkeypatch, views):
    from collections import namedtuple

    Usage = namedtuple("Usage", "total used free")
    row, settings = 2 * 192 * 3 * 3 * 2, settings.with_values(cached_views=5, views=views, epochs=3)

    def free(rows):
        monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(0, 0, int(row * rows / 0.8)))

    free(108 * 3.5 + 12 * views)
    with killed(monkeypatch, after_epoch=2):
        train(splits, settings, tmp_path / "run")
    for rows in (500, 1000):  # there is room for more than then, or for all
        free(rows + 108 * 3.5)
        with killed(monkeypatch, after_epoch=2):
            train(splits, settings, tmp_path / "run", resume=True)
    free(100)
    with pytest.raises(UserError, match="no room for the activations"):
        train(splits, settings, tmp_path / "run", resume=True)
    free(1000)
    again = train(splits, settings, tmp_path / "run", resume=True)
    assert read_card(again.model_folder).values["training"]["cached_views"] == 3


def test_the_record_tells_of_the_views_that_were_trained_on(splits, settings, tmp_path):
    run = train(splits, settings.with_values(cached_views=3, stop_at=0.01, head="logistic"), tmp_path / "run")
    assert run.record["ended"]
    found = read_card(run.model_folder).values["training"]
    assert found.get("cached_views", 1) == 1
    activations = cached(splits, settings.with_values(cached_views=3))
    assert (activations.views, activations.record["cached_views"]) == (3, 1)
    activations.training().prepare(1)
    assert activations.record["cached_views"] == 3


def test_the_learning_rate_finder_computes_no_further_views(splits, settings, tmp_path):
    from frostline.rate_finder import find_rate
    from frostline.stopping import StopRule
    from frostline.training import Training

    settings = settings.with_values(cached_views=3)
    activations = cached(splits, settings)
    network = Trainable(activations.below.line.upper, nn.Linear(96, 3), activations.below.line.shape)
    training = Training(network, activations.training(), activations.validation(), settings, None, StopRule())
    find_rate(training)
    assert activations.record["cached_views"] == 1


@pytest.mark.slow
def test_a_run_killed_after_its_last_epoch_records_what_an_uninterrupted_one_does(splits, settings, tmp_path, monkeypatch):
    from frostline import feature_cache, features

    def overflowing(rows, dtype):
        if dtype == "float16" and overflowing.views:
            raise feature_cache.FeatureOverflowError
        return feature_cache.to_stored(rows, dtype)

    def filled(self, dtype):
        overflowing.views = True
        try:
            return real(self, dtype)
        finally:
            overflowing.views = False

    from frostline.activations import Cached

    overflowing.views, real = False, Cached._filled
    monkeypatch.setattr(features, "to_stored", overflowing)
    monkeypatch.setattr(Cached, "_filled", filled)
    settings = settings.with_values(cached_views=3)
    whole = train(splits, settings, tmp_path / "whole")
    clear()
    with killed(monkeypatch, "frostline.train_finetune.recorded_temperature"):
        train(splits, settings, tmp_path / "cut")
    again = train(splits, settings, tmp_path / "cut", resume=True)
    assert read_card(again.model_folder).values["training"]["feature_dtype"] == "bfloat16"
    assert again.record["model_digest"] == whole.record["model_digest"]


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_the_plan_counts_what_trains_and_leaves_the_network_as_it_is(splits, settings, precision):
    from frostline.frozen import freeze_below
    from frostline.plan import make_plan

    settings = settings.with_values(precision=precision)
    below = freeze_below(settings, splits.train.size)
    before = {name: value.clone() for name, value in below.loaded.network.state_dict().items()}
    plan = make_plan(below, settings.with_values(rates=("*layer4*conv1*=frozen", "*=1"), train_batchnorm=True), splits, 2)
    assert all((value == before[name]).all() for name, value in below.loaded.network.state_dict().items())
    assert all(parameter.grad is None for parameter in below.loaded.network.parameters())
    parts = {part.name: part for part in plan.parts}
    assert sum(part.parameters for part in plan.parts) == below.loaded.parameters
    assert {name for name, part in parts.items() if part.trained} == {"layer4.0"}
    assert (plan.rows, plan.stored) == (240, 240 * 192 * 3 * 3 * 2)
    assert min(plan.seconds, plan.below_speed, plan.above_speed) > 0
    assert (plan.head.trained, plan.head.parameters) == (291, 291)
    held = make_plan(below, settings.with_values(rates=("head.*=frozen", "*=1")), splits, 2)
    assert (held.head.trained, held.head.parameters) == (0, 291)
    assert {part.name for part in held.parts if part.above} == {"layer4.0"}
    live = make_plan(below, settings, splits, 0)
    assert (live.rows, live.stored) == (0, 0)


@pytest.mark.parametrize("augment", [(), ("contrast",)])
def test_easy_images_are_left_out_on_both_paths(splits, settings, tmp_path, augment):
    run = train(splits, settings.with_values(skip_easy=0.3, epochs=2, augment=augment), tmp_path / "run")
    assert len(splits.train) == 108
    assert [row["steps"] for row in run.history() if "steps" in row] == [5, 10]  # of the 76 that are left, 16 at a time
    few = train(splits, settings.with_values(skip_easy=0.3, skip_easy_from=109, epochs=1, augment=augment), tmp_path / "few")
    assert [row["steps"] for row in few.history() if "steps" in row] == [7]  # of all 108


def test_the_plan_knows_that_easy_images_are_left_out(splits, settings, monkeypatch):
    from frostline import plan
    from frostline.frozen import freeze_below

    below, above = freeze_below(settings, splits.train.size), plan._above_speed
    monkeypatch.setattr(plan, "_above_speed", lambda *given: (10.0, *above(*given)[1:]))
    monkeypatch.setattr(plan, "_below_speed", lambda below: 40.0)
    n, settings = len(splits.train), settings.with_values(epochs=4)
    for views, lower in ((2, 0), (0, 1 / 40)):  # the live path goes through the frozen part in every epoch
        whole, less = (plan.make_plan(below, settings.with_values(skip_easy=share), splits, views).seconds for share in (0, 0.25))
        assert whole - less == pytest.approx(4 * 0.25 * n * (1 / 10 + lower))
        few = settings.with_values(skip_easy=0.25, skip_easy_from=n + 1)
        assert plan.make_plan(below, few, splits, views).seconds == whole


@pytest.mark.parametrize("augment", [(), ("contrast",)])
def test_the_first_epochs_see_parts_of_maps_on_both_paths(splits, settings, tmp_path, monkeypatch, capsys, augment):
    seen, forward = set(), Trainable.forward

    def watched(network, maps):
        seen.add((network.training, tuple(maps.shape[-2:])))
        return forward(network, maps)

    monkeypatch.setattr(Trainable, "forward", watched)
    run = train(splits, settings.with_values(crop_from=0.6, augment=augment), tmp_path / "run")
    assert seen == {(True, (2, 2)), (True, (3, 3)), (False, (3, 3))}
    assert run.record["ended"] == "all 2 epochs were run"
    assert "Epochs see parts of the maps first, 2×2 cells, then all." in " ".join(capsys.readouterr().err.split())


def test_parts_of_maps_need_a_network_that_takes_them(settings):
    from frostline.train_finetune import _check

    settings = settings.with_values(crop_from=0.5)
    fixed = Cut(
        "head", nn.Identity(), Upper(fx.symbolic_trace(nn.Sequential(nn.Flatten(), nn.Linear(16, 2))), 0, 1.0), (1, 4, 4), ""
    )
    tokens = Cut("blocks.11", nn.Identity(), Upper(fx.symbolic_trace(nn.Identity()), 1, 1.0), (50, 768), "")
    for line, why in ((fixed, "of 2×2: "), (tokens, r"(50, 768)")):
        with pytest.raises(UserError, match="takes no parts of maps") as error:
            _check(line, settings)
        assert why in str(error.value.received)


def test_the_plan_knows_that_parts_of_maps_cost_less(settings):
    from frostline.plan import _of_maps

    assert _of_maps((8, 4, 4), settings.with_values(epochs=4, crop_from=0.5)) == pytest.approx((4 / 16 + 9 / 16 + 1 + 1) / 4)
    assert _of_maps((8, 4, 4), settings) == _of_maps((50, 8), settings.with_values(crop_from=0.5)) == 1


@pytest.mark.slow
def test_muon_trains_above_the_line_and_resumes_to_the_same_bits(splits, settings, tmp_path, monkeypatch):
    settings = settings.with_values(optimizer="muon", lr=0.02, momentum=0.9, epochs=2, views=1)
    whole = train(splits, settings, tmp_path / "whole")
    with killed(monkeypatch, after_epoch=1):
        train(splits, settings, tmp_path / "cut")
    again = train(splits, settings, tmp_path / "cut", resume=True)
    assert again.record["model_digest"] == whole.record["model_digest"]


@pytest.mark.slow
def test_bf16_trains_the_same_way(splits, settings, tmp_path):
    run = train(splits, settings.with_values(precision="bf16", augment=("zoom",), epochs=1), tmp_path / "live")
    assert read_card(run.model_folder).values["training"]["precision"] == "bf16"
    run = train(splits, settings.with_values(precision="bf16", epochs=1), tmp_path / "cached")
    assert run.scores("test")["accuracy"] >= 0.9


@pytest.mark.slow
def test_killed_before_the_first_epoch_a_run_begins_anew_with_what_is_cached(splits, settings, tmp_path, monkeypatch):
    with killed(monkeypatch, "frostline.train_finetune.fit_head"):
        train(splits, settings, tmp_path / "cut")
    source, saved = resumed(tmp_path / "cut", None, [], {})
    assert (source, saved) == (splits.record["source"], settings)
    monkeypatch.setattr("frostline.engine.Engine.run", _only_padding(splits))
    assert train(splits, saved, tmp_path / "cut", resume=True).scores("test")["n"] == 30


@pytest.mark.slow
def test_a_run_does_not_go_on_with_other_data_and_is_left_as_it_is(splits, settings, tmp_path, monkeypatch):
    with killed(monkeypatch, Run, "write_predictions"):
        train(splits, settings, tmp_path / "cut")
    before = {path: path.read_bytes() for path in (tmp_path / "cut").rglob("*") if path.is_file()}
    other = load_data(tinted_folders(tmp_path / "other", ["2", "10", "nut"], 20))
    with pytest.raises(UserError, match="not those that the run began with"):
        train(other, settings, tmp_path / "cut", resume=True)
    assert {path: path.read_bytes() for path in (tmp_path / "cut").rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_the_record_compares_the_stages(splits, settings, tmp_path, capsys):
    run = train(splits, settings, tmp_path / "run")
    stages = run.record["stages"]["head"]
    assert stages["test_accuracy"] == run.scores("test-head")["accuracy"]
    assert stages["difference"] == pytest.approx(run.scores("test")["accuracy"] - stages["test_accuracy"])
    assert stages["n"] == 30
    assert 0 <= stages["p"] <= 1
    assert "Against the head stage:" in capsys.readouterr().err


@pytest.mark.slow
def test_a_dense_head_goes_on_to_train_with_mixed_maps(splits, settings, tmp_path):
    values = {"head": "dense-d", "cutmix": 1.0, "balance": "sampling", "noise": 0.1, "freezeout": ("upper.*conv1*=0.5",)}
    run = train(splits, settings.with_values(**values), tmp_path / "run")
    stages = [row.get("stage") for row in run.history() if "epoch" in row]
    assert stages == ["head", "head", None, None]
    assert run.scores("test")["n"] == 30


def test_tokens_are_not_cut_and_mixed(settings):
    from frostline.train_finetune import _check

    line = Cut("blocks.3", nn.Identity(), Upper(fx.symbolic_trace(nn.Identity()), 1, 1.0), (197, 384), "")
    _check(line, settings)
    with pytest.raises(UserError, match="cutmix mixes maps"):
        _check(line, settings.with_values(cutmix=1.0))
    swin = Cut("layers.3", nn.Identity(), Upper(fx.symbolic_trace(nn.Identity()), 1, 1.0), (7, 7, 768), "")
    _check(swin, settings, "NHWC")
    with pytest.raises(UserError, match="cutmix mixes maps"):
        _check(swin, settings.with_values(cutmix=1.0), "NHWC")


def test_batchnorm_without_statistics_is_not_let_train(settings):
    from frostline.train_finetune import _check

    norm = nn.BatchNorm2d(4)
    line = Cut("layer4", nn.Identity(), Upper(fx.symbolic_trace(nn.Sequential(norm)), 0, 1.0), (4, 2, 2), "")
    asked = settings.with_values(train_batchnorm=True)
    _check(line, asked)  # of random weights
    nn.init.normal_(norm.bias)
    _check(line, settings)
    with pytest.raises(UserError, match="holds no statistics"):
        _check(line, asked)
    nn.init.uniform_(norm.running_var)
    _check(line, asked)


@pytest.mark.slow
def test_every_setting_of_the_part_above_reaches_it(splits, settings, tmp_path):
    plain = train(splits, settings, tmp_path / "plain").record["model_digest"]
    ways = [
        {"drop_activations": 0.3},
        {"crop_from": 0.6},
        {"noise": 0.3},
        {"balance": "sampling"},
        {"layer_decay": 0.5},
        {"rates": ("head.*=3", "*=1")},
    ]
    ways += [
        {"mixup": 0.3},
        {"cutmix": 0.5},
        {"ema": 0.9},
        {"freezeout": ("*conv1*=0.5",)},
        {"clip": 0.01},
        {"label_smoothing": 0.2},
    ]
    ways += [{"loss": "focal"}, {"weight_decay": 5.0}, {"skip_easy": 0.3}, {"accumulate": 2, "train_batchnorm": True}]
    found = {str(way): train(splits, settings.with_values(**way), tmp_path / str(i)).record for i, way in enumerate(ways)}
    digests = {name: record["model_digest"] for name, record in found.items()}
    assert plain not in digests.values()
    assert len(set(digests.values())) == len(ways)


@pytest.mark.slow
def test_what_rates_freeze_is_not_counted_as_trained(splits, settings, tmp_path):
    frozen = settings.with_values(rates=("head.*=1", "*conv2*=1", "*=frozen"), epochs=1)
    run = train(splits, frozen, tmp_path / "run")
    assert 0 < run.record["trainable_parameters"] < 267_840
    assert read_card(run.model_folder).values["training"]["notes"]


@pytest.mark.slow
def test_a_finder_has_its_picture_after_a_resume(splits, settings, tmp_path, monkeypatch):
    settings = settings.with_values(find_lr=True, epochs=3)
    whole = train(splits, settings, tmp_path / "whole")
    with killed(monkeypatch, after_epoch=2):
        train(splits, settings, tmp_path / "cut")
    again = train(splits, settings, tmp_path / "cut", resume=True)
    assert again.record["model_digest"] == whole.record["model_digest"]
    assert sum(row.get("stage") == "lr-finder" for row in again.history()) > 10
    assert read_card(again.model_folder).values["training"]["lr_found"] > 0


def test_a_network_on_another_device_leaves_the_whole_one_where_it_is(splits, settings):
    """What torch runs is a copy: the network itself is converted, trained in part and saved on the CPU."""
    from frostline.frozen import freeze_below
    from frostline.models.eager import EagerEngine

    below = freeze_below(settings, splits.train.size)
    runner = EagerEngine(below.line.lower, below.frozen.preprocess, "cpu", "f32")
    own = {id(parameter) for parameter in below.loaded.network.parameters()}
    assert not own & {id(parameter) for parameter in runner._model.parameters()}


def test_memory_is_limited_whoever_trains(splits, settings, tmp_path, monkeypatch):
    from frostline import files
    from frostline.experiment import trained_on
    from frostline.stopping import StopRule

    seen = []
    monkeypatch.setattr("frostline.train_finetune.freeze_below", lambda *_: seen.append(files._memory.get()) or 1 / 0)
    with Run.create(tmp_path / "run") as run, pytest.raises(ZeroDivisionError):
        trained_on(splits, settings.with_values(memory=0.5), run, StopRule())
    assert seen == [2**29]
