"""The whole way from folders of drawn images to a judged, saved model, in seconds."""

import json
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
from drawing import tinted_folders

from frostline import anytime, features
from frostline.artifact import read_model
from frostline.config import Settings
from frostline.engine import Engine
from frostline.errors import UserError
from frostline.experiment import free_folder, load_data, train
from frostline.feature_cache import FeatureOverflowError, clear, entries, raw
from frostline.features import extract
from frostline.model_card import read_card, seen_digests
from frostline.runs import Run
from frostline.serve.predictor import Predictor
from frostline.stopping import StopRule
from frostline.verified import check_record, verified

CLASSES = ["10", "2", "nut"]
SCRATCH = Settings(
    recipe="cnn-small", kind="scratch", network="cnn-small", epochs=1, batch_size=20, device="cpu", precision="f32", lr=3e-3
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Three classes of 40 training and 10 test images, 24 by 24."""
    root = tmp_path_factory.mktemp("data")
    tinted_folders(root / "train", CLASSES, 40)
    tinted_folders(root / "test", CLASSES, 10, start=500)
    return root


@pytest.fixture(scope="module")
def frozen(tiny):
    return tiny.with_values(recipe="tiny-frozen")


@pytest.fixture(scope="module")
def first(folders, frozen, tmp_path_factory):
    """A finished run with two views, and the cache folder that it leaves."""
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("first-home")
        patch.setenv("FROSTLINE_HOME", str(home))
        patch.setattr("frostline.experiment._draw", lambda *_: None)
        run = train(folders, frozen.with_values(views=2), tmp_path_factory.mktemp("first") / "run")
    return run, home


@pytest.fixture(autouse=True)
def compiled_already(first, cache_folder, monkeypatch, request):
    """The tiny network is converted once for this file; pictures are drawn by the tests that look at them."""
    shutil.copytree(first[1] / "graphs", cache_folder / "graphs")
    drawn = (
        "test_from_scratch",
        "test_a_picture_that_cannot_be_drawn_leaves_a_finished_run",
        "test_pictures_and_card_name_the_network_where_it_is_not_the_recipe_s",
    )
    if request.node.name not in drawn:
        monkeypatch.setattr("frostline.experiment._draw", lambda *_: None)


@pytest.fixture
def cached(first, cache_folder):
    """A cache folder that holds the first run's features."""
    shutil.copytree(first[1] / "features", cache_folder / "features")


def rows():
    return sorted((entry["key"]["view"], entry["rows"]) for entry in entries())


def test_from_scratch(folders, tmp_path):
    run = train(folders, SCRATCH.with_values(epochs=4), tmp_path / "run")
    opened, card = Run.open(tmp_path / "run"), read_card(run.model_folder)
    opened.verify()
    assert sorted(opened.splits) == ["test", "validation"]
    assert opened.record["recipe"] == "cnn-small"
    assert opened.record["test_accuracy"] == opened.scores("test")["accuracy"] >= 0.9
    assert opened.scores("test")["n"] == 30
    assert [row["epoch"] for row in opened.history()] == [1, 2, 3, 4]
    assert opened.record["model_digest"] == card.digest
    # 24 halved three times is 3: 896 + 18,496 + 73,856 + (9 * 128 + 1) * 256 + 257 * 3
    assert opened.record["parameters"] == opened.record["trainable_parameters"] == 896 + 18_496 + 73_856 + 295_168 + 771
    drawn = {path.name for path in (tmp_path / "run" / "plots").iterdir()}
    assert {"curves.png", "confusion_test.png", "confusion_validation.png"} <= drawn


@pytest.mark.slow
def test_a_picture_that_cannot_be_drawn_leaves_a_finished_run(folders, tmp_path, monkeypatch):
    def broken(*_):
        raise ValueError("no such font")

    monkeypatch.setattr("frostline.plots.confusion", broken)
    run = train(folders, SCRATCH, tmp_path / "run")
    Run.open(tmp_path / "run").verify()
    assert run.record["test_accuracy"] == run.scores("test")["accuracy"]
    assert [path.name for path in (tmp_path / "run" / "plots").iterdir()] == ["curves.png"]


@pytest.mark.slow
def test_the_cache_is_not_cleared_under_a_training(folders, cache_folder, tmp_path, monkeypatch):
    real = Run.add_history

    def clearing(self, row):
        with pytest.raises(UserError, match="is in use"):
            clear()
        real(self, row)

    monkeypatch.setattr(Run, "add_history", clearing)
    assert train(folders, SCRATCH, tmp_path / "run").history()
    clear()


def test_tensorboard_is_looked_for_before_training(folders, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto.event_pb2", None)
    with pytest.raises(UserError, match="TensorBoard is not installed"):
        train(folders, SCRATCH, tmp_path / "run", tensorboard=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_pictures_and_card_name_the_network_where_it_is_not_the_recipe_s(folders, tmp_path, figures):
    settings = SCRATCH.with_values(recipe="cnn-digits")
    run = train(folders, settings, tmp_path / "run")
    titles = {figure.get_suptitle() or figure.axes[0].get_title() for figure in figures}
    assert len(titles) == 3
    assert all(title.startswith("run · cnn-digits with cnn-small") for title in titles), titles
    assert read_card(run.model_folder).values["name"] == "cnn-digits with cnn-small"
    assert run.record["recipe"] == "cnn-digits"


def test_the_saved_model_says_what_the_run_measured(first, folders, frozen):
    run, _ = first
    predictor, splits = Predictor(run.folder), load_data(folders, frozen)
    assert predictor.classes == ("2", "10", "nut")
    stated, scored = predictor.card.values["scores"], run.scores("validation")
    assert stated == {"validation": {key: scored[key] for key in ("n", "accuracy", "interval", "log_loss", "confusion")}}
    kept, again = run.predictions("test"), predictor.judge(splits.test)
    assert run.record["test_accuracy"] == run.scores("test")["accuracy"] >= 0.9
    assert [row["n"] for row in run.record["label_sets"]] == [len(run.predictions("test"))] * 3
    kept_sets = {row["promised"]: row["threshold"] for row in run.record["label_sets"]}
    assert predictor.coverages == (0.9, 0.95, 0.99)
    assert dict(predictor.card.label_sets) == kept_sets
    assert {row["n"] for row in predictor.card.values["label_sets"]} == {len(run.predictions("validation"))}
    check_record(run)
    # the run's features went through float16, the predictor's did not
    np.testing.assert_allclose(again.probabilities, kept.probabilities, atol=2e-3)
    assert (again.predicted == kept.predicted).all()
    assert run.record["trainable_parameters"] == 96 * 3 + 3
    Run.open(run.folder).verify()


def test_what_is_kept_stands_in_the_order_of_the_data_and_bears_the_record_out(first, folders, frozen):
    run, splits = Run.open(first[0].folder), load_data(folders, frozen)
    for images in (splits.validation, splits.test):
        assert verified(run, images.name).ids.tolist() == images.ids.tolist()
    check_record(run)


def test_the_graph_computes_what_the_saved_weights_and_the_temperature_say(first, folders, frozen):
    from safetensors.numpy import load_file

    folder, images = first[0].model_folder, load_data(folders, frozen).test.pixels
    card, graph = read_model(folder)
    weights = load_file(folder / "weights.safetensors")
    features = Engine(graph, "f32").features(images).astype(np.float64)  # (N, V, D)
    compressed = np.sign(features) * np.abs(features) ** card.values["architecture"]["power"]
    logits = compressed @ weights["head.weight"].T + weights["head.bias"]
    log_p = logits - np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1, keepdims=True)) - logits.max(-1, keepdims=True)
    wanted = np.exp(log_p.mean(1) / card.temperature)
    wanted /= wanted.sum(1, keepdims=True)
    np.testing.assert_allclose(Predictor(folder).predict(images), wanted, atol=1e-4)


def test_data_are_loaded_with_what_training_takes(tmp_path):
    tinted_folders(tmp_path, ["a", "b"], 40)
    lines = [f"{name}/{number}.png,{name},{name}{number // 4}" for name in "ab" for number in range(40)]
    (tmp_path / "table.csv").write_text("\n".join(["path,label,patient", *lines]) + "\n")
    table = tmp_path / "table.csv"
    found = load_data(table, group="patient", seed=2, test="none")
    patients = [set(part.groups.tolist()) for part in (found.train, found.validation)]
    assert found.test is None
    assert not patients[0] & patients[1]
    assert sum(map(len, patients)) == 20
    with_recipe = load_data(table, "fast-94", validation_fraction=0.5, validation_max=8)
    assert len(with_recipe.validation) == 8
    for way in (((SCRATCH,), {"seed": 3}), (("cnn-small",), {"seed": 3}), ((), {"recipe": "cnn-small", "seed": 3})):
        assert load_data(table, *way[0], **way[1]).train.ids.tolist() == load_data(table, seed=3).train.ids.tolist()


@pytest.mark.parametrize(
    ("given", "values", "said"),
    [
        (("cnn-smal",), {}, "no recipe 'cnn-smal'"),
        ((), {"recipe": "cnn-smal"}, "no recipe 'cnn-smal'"),
        ((), {"groups": "patient"}, "no setting 'groups'"),
        (("cnn-small",), {"recipe": "cnn-vgg"}, "Two recipes are named"),
    ],
)
def test_data_are_not_loaded_by_what_there_is_not(folders, given, values, said):
    with pytest.raises(UserError, match=said):
        load_data(folders, *given, **values)


def test_seen_images_are_those_of_training_and_validation(first, folders, frozen):
    splits, seen = load_data(folders, frozen), seen_digests(first[0].model_folder)
    assert seen == {raw(digest) for images in (splits.train, splits.validation) for digest in images.digests}
    assert not seen & {raw(digest) for digest in splits.test.digests}


def test_views_are_averaged_in_training_and_in_the_saved_model(first, folders, frozen, cached):
    predictor, splits = Predictor(first[0].folder), load_data(folders, frozen)
    assert predictor.card.views == 2
    assert rows() == [("image", 150), ("mirror", 150)]
    mirrored = predictor.predict(list(splits.test.pixels[:, :, ::-1]))
    np.testing.assert_allclose(mirrored, predictor.predict(list(splits.test.pixels)), atol=1e-6)


def test_a_second_run_answers_from_the_cache_with_identical_scores(first, folders, frozen, cached, tmp_path, monkeypatch):
    padded = Engine._padded

    def checked(self, block):
        assert block.ndim != 4 or len(block) == 10, "an image went through the network although its features are cached"
        return padded(self, block)  # heads run, and the self-test's ten images

    monkeypatch.setattr(Engine, "_padded", checked)
    monkeypatch.setattr("frostline.experiment.speed_of", lambda run: {})  # it times the network, on drawn images
    second = train(folders, frozen.with_values(views=2), tmp_path / "second")
    assert second.record["model_digest"] == first[0].record["model_digest"]
    for split in ("validation", "test"):
        assert second.scores(split) == first[0].scores(split)
        assert (second.predictions(split).probabilities == first[0].predictions(split).probabilities).all()


def test_an_excluded_image_another_seed_and_fewer_views_reuse_rows(folders, frozen, cached, tmp_path):
    shutil.copytree(folders, tmp_path / "fewer")
    (tmp_path / "fewer" / "train" / "2" / "0.png").unlink()
    train(tmp_path / "fewer", frozen.with_values(seed=3), tmp_path / "run")
    assert rows() == [("image", 150), ("mirror", 150)]


def test_training_a_frozen_network_never_reads_test(first, folders, frozen, cached, tmp_path):
    settings = frozen.with_values(views=2)
    splits, digest = load_data(folders, settings), first[0].record["model_digest"]
    shuffled = np.roll(splits.test.labels, 10)
    relabelled = train(replace(splits, test=replace(splits.test, labels=shuffled)), settings, tmp_path / "shuffled")
    shutil.copytree(folders / "train", tmp_path / "data" / "train")
    without = train(tmp_path / "data", settings.with_values(test="none"), tmp_path / "without")
    assert relabelled.record["model_digest"] == without.record["model_digest"] == digest
    assert relabelled.record["test_accuracy"] < 0.1
    assert without.record["test_accuracy"] is None
    assert without.splits == ("validation",)


def test_training_from_scratch_never_reads_test_and_a_finished_run_is_replaced_only_when_asked(folders, tmp_path):
    splits = load_data(folders, SCRATCH)
    digest = train(splits, SCRATCH, tmp_path / "run", csv=True).record["model_digest"]
    assert (tmp_path / "run" / "history.csv").is_file()
    with pytest.raises(UserError, match="finished run"):
        train(folders, SCRATCH, tmp_path / "run")
    again = train(replace(splits, test=None), SCRATCH, tmp_path / "run", overwrite=True)
    assert again.record["model_digest"] == digest
    assert Run.open(tmp_path / "run").splits == ("validation",)
    assert not (tmp_path / "run" / "history.csv").exists()


@pytest.mark.parametrize("kind", ["frozen", pytest.param("scratch", marks=pytest.mark.slow)])
def test_a_test_image_of_another_size_changes_no_model(kind, first, folders, frozen, cached, tmp_path):
    settings = frozen.with_values(views=2) if kind == "frozen" else SCRATCH
    shutil.copytree(folders, tmp_path / "data")
    tinted_folders(tmp_path / "data" / "test", CLASSES[:1], 1, start=900, height=25, width=30)  # in place of 10/0.png
    run = train(tmp_path / "data", settings, tmp_path / "run")
    wanted = first[0] if kind == "frozen" else train(folders, SCRATCH, tmp_path / "same")
    assert run.record["model_digest"] == wanted.record["model_digest"]
    test = load_data(tmp_path / "data", settings).test
    assert (test.size, len(test)) == (None, 30)
    found, before = run.predictions("test"), wanted.predictions("test")
    np.testing.assert_allclose(found.probabilities[1:], before.probabilities[1:], atol=1e-5)
    np.testing.assert_allclose(found.probabilities, Predictor(run.folder).predict([*map(str, test.files)]), atol=2e-3)


def test_a_class_whose_training_images_all_stand_in_validation_is_no_error(folders, frozen, cached, tmp_path, capsys):
    shutil.copytree(folders, tmp_path / "data")
    for number in range(10):
        for name in CLASSES:
            place = tmp_path / "data" / "val" / name
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(folders / "train" / name / f"{number}.png", place)
    for number in range(10, 40):
        (tmp_path / "data" / "train" / "nut" / f"{number}.png").unlink()
    run = train(tmp_path / "data", frozen, tmp_path / "run")
    assert run.scores("test")["accuracy"] > 0.6
    assert read_card(run.model_folder).values["data"]["absent_from_train"] == ["nut"]
    note = "train: no image of 1 of 3 classes: 'nut'; a model hardly ever answers with what it has not been shown."
    assert note in run.read("data.json")["notes"]
    assert note in " ".join(capsys.readouterr().err.split())


def test_test_is_read_only_after_the_model_is_saved(folders, frozen, tmp_path, monkeypatch):
    read = []

    def watched(images, *others):
        read.append((images.name, (tmp_path / "run" / "model" / "model.json").exists()))
        yield from extract(images, *others)

    monkeypatch.setattr("frostline.frozen.extract", watched)
    train(folders, frozen, tmp_path / "run")
    assert read == [("validation", False), ("train", False), ("validation", False), ("test", True)]


def test_a_test_image_whose_features_are_too_large_for_the_cache_is_judged_all_the_same(
    first, folders, frozen, tmp_path, monkeypatch, capsys
):
    model, stored = tmp_path / "run" / "model" / "model.json", features.to_stored

    def overflowing(rows, dtype):
        if dtype == "float16" and model.exists():  # training and validation have none such
            raise FeatureOverflowError
        return stored(rows, dtype)

    monkeypatch.setattr(features, "to_stored", overflowing)
    run = train(folders, frozen.with_values(views=2), tmp_path / "run")
    Run.open(tmp_path / "run").verify()
    assert run.record["model_digest"] == first[0].record["model_digest"]
    np.testing.assert_allclose(run.predictions("test").probabilities, first[0].predictions("test").probabilities, atol=2e-3)
    told = "A feature of test is too large for float16: all of test was judged by features in float32."
    assert told in run.scores("test")["notes"]
    assert told in capsys.readouterr().err
    assert told not in str(read_card(run.model_folder).values)


@pytest.fixture
def small_blocks(monkeypatch):
    """Extraction in blocks of 16 rows, so that a few dozen images are many blocks."""
    monkeypatch.setattr(features, "BLOCK", 16)
    monkeypatch.setattr(anytime, "FIRST", 8)


@pytest.mark.usefixtures("small_blocks")
def test_stop_at_leaves_a_finished_model_of_what_was_seen(folders, frozen, tmp_path):
    run = train(folders, frozen.with_values(stop_at=0.5), tmp_path / "run")
    training = read_card(run.model_folder).values["training"]
    assert training["train_images"] in (16, 32, 48)
    assert training["validation_images"] == 8
    assert len(seen_digests(run.model_folder)) == training["train_images"] + 8
    assert "reached --stop-at 0.5" in run.record["ended"]
    points = [row for row in run.history() if row["stage"] == "features"]
    assert [point["images"] for point in points] == list(range(16, training["train_images"] + 1, 16))
    assert points[-1]["validation_accuracy"] >= 0.5
    assert all(point["validation_accuracy"] < 0.5 for point in points[:-1])
    assert run.scores("test")["n"] == 30
    assert len(verified(Run.open(run.folder), "validation")) == 8


@pytest.mark.slow
@pytest.mark.usefixtures("small_blocks")
def test_a_stopped_run_is_continued_from_its_rows(folders, frozen, tmp_path):
    train(folders, frozen.with_values(budget=1e-3), tmp_path / "stopped")
    assert rows() == [("image", 8 + 16 + 30)]
    whole = train(folders, frozen, tmp_path / "whole")
    assert rows() == [("image", 150)]
    assert read_card(whole.model_folder).values["training"]["train_images"] == 108


@pytest.mark.usefixtures("small_blocks")
def test_ctrl_c_leaves_a_finished_model(folders, frozen, tmp_path, monkeypatch):
    checks, check = iter(range(1, 100)), StopRule.check

    def interrupted(self, accuracy=None):
        self.interrupted = next(checks) >= 4
        return check(self, accuracy)

    monkeypatch.setattr(StopRule, "check", interrupted)
    run = train(folders, frozen, tmp_path / "run")
    assert run.record["ended"] == "interrupted by Ctrl-C"
    assert read_card(run.model_folder).values["training"]["train_images"] == 48
    Run.open(tmp_path / "run").verify()


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("early", [{"stop_at": 0.5}, {"budget": 1e-3}])
def test_a_dense_head_is_trained_on_what_was_seen_when_extraction_ends_early(early, folders, frozen, tmp_path):
    run = train(folders, frozen.with_values(head="dense-c", epochs=3, batch_size=8, **early), tmp_path / "run")
    seen = read_card(run.model_folder).values["training"]["train_images"]
    assert [row["steps"] for row in run.history() if "epoch" in row] == [seen // 8, 2 * seen // 8, 3 * seen // 8]
    extracted = [row["seconds"] for row in run.history() if row.get("stage") == "features"]
    assert all(row["elapsed"] >= round(extracted[-1], 1) for row in run.history() if "epoch" in row)  # one clock, the command's


@pytest.mark.slow
def test_an_accuracy_reached_by_the_last_image_does_not_end_the_head_after_one_step(folders, frozen, tmp_path):
    run = train(folders, frozen.with_values(head="dense-c", epochs=2, batch_size=9, stop_at=0.1), tmp_path / "run")
    assert read_card(run.model_folder).values["training"]["train_images"] == 108
    assert [row["steps"] for row in run.history() if "epoch" in row] == [12, 24]


def test_frozen_parameters_do_not_move(folders, frozen, tiny_weights, tmp_path):
    from safetensors.numpy import load_file

    run = train(folders, frozen.with_values(head="dense-d", epochs=2), tmp_path / "run")
    saved, given = load_file(run.model_folder / "weights.safetensors"), load_file(tiny_weights / "model.safetensors")
    backbone = {name.removeprefix("backbone.network."): value for name, value in saved.items() if name.startswith("backbone.")}
    assert set(backbone) == set(given)
    for name, value in given.items():
        np.testing.assert_array_equal(backbone[name], value, err_msg=name)
    assert {name.split(".")[0] for name in saved} == {"backbone", "head"}
    assert [row["epoch"] for row in run.history() if "epoch" in row] == [1, 2]


@pytest.mark.parametrize(("head", "count"), [("ridge", 96 * 3 + 3), ("dense-a", 0)])
def test_what_is_frozen_and_what_is_fitted_is_said(head, count, folders, frozen, cached, tmp_path, capsys):
    run = train(folders, frozen.with_values(head=head, epochs=1), tmp_path / "run")
    count = count or run.record["trainable_parameters"]
    total = run.record["parameters"] - count
    assert f"{total:,} parameters, all frozen; {count:,} of the {head} head are fitted." in capsys.readouterr().err


def test_ridge(folders, frozen, cached, tmp_path):
    run = train(folders, frozen.with_values(head="ridge", power=1), tmp_path / "run")
    assert run.scores("test")["accuracy"] >= 0.9
    training = read_card(run.model_folder).values["training"]
    assert training["head"] == "ridge"
    assert training["l2"] in (1e-3, 1e-1)
    assert training["refitted_on"].startswith("training and validation, 120 images")


@pytest.mark.slow
def test_photos(frozen, tmp_path):
    for name, height, width in (("a", 70, 90), ("b", 90, 70)):
        for split, start in (("train", 0), ("test", 300)):
            tinted_folders(tmp_path / "data" / split, [name, name + "2"], 8, start + ord(name), height, width)
    run = train(tmp_path / "data", frozen.with_values(fit="pad"), tmp_path / "run")
    card = read_card(run.model_folder)
    assert (card.preprocess.stored, card.preprocess.size, card.preprocess.fit) == ((48, 48), (48, 48), "pad")
    assert card.preprocess.mean == (0.5, 0.4, 0.3)
    predictor, splits = Predictor(tmp_path / "run"), load_data(tmp_path / "data")
    paths = [str(path) for path in splits.test.files]
    np.testing.assert_allclose(predictor.predict(paths), run.predictions("test").probabilities, atol=2e-3)


@pytest.mark.slow
def test_other_arguments_beside_the_same_weights_make_another_network(folders, frozen, cached, tiny_weights, tmp_path):
    changed = tmp_path / "changed"
    shutil.copytree(tiny_weights, changed)
    config = json.loads((changed / "config.json").read_text())
    (changed / "config.json").write_text(json.dumps({**config, "model_args": {"output_stride": 16}}))
    train(folders, frozen.with_values(weights=str(changed)), tmp_path / "run")
    assert rows() == [("image", 150), ("image", 150), ("mirror", 150)]


def test_two_runs_without_a_name_get_a_folder_each(folders, frozen, tmp_path, monkeypatch):
    """The folder is made at once: data take time to load."""
    monkeypatch.chdir(tmp_path)
    first, second = free_folder(frozen, "digits"), free_folder(frozen, "digits")
    assert [path.name for path in (first, second)] == [f"{frozen.recipe}-digits-1", f"{frozen.recipe}-digits-2"]
    with pytest.raises(UserError):
        train("nowhere", frozen)
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {first.name, second.name}


def test_what_does_nothing_for_a_head_that_is_fitted_is_said(folders, frozen, tmp_path, capsys):
    train(folders, frozen.with_values(mixup=0.2, epochs=3), tmp_path / "run")
    assert "A logistic head is fitted, not trained: epochs, mixup without effect." in capsys.readouterr().err
