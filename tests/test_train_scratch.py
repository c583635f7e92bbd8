"""Training from random weights: what validation was told is what the saved model says."""

import tracemalloc

import numpy as np
import pytest
import torch
from drawing import tinted_folders
from killing import killed
from torch import nn

from frostline import train_scratch
from frostline.choosing import resumed
from frostline.config import Settings
from frostline.errors import UserError
from frostline.experiment import load_data, train
from frostline.models.cnn import NETWORKS, make_network
from frostline.models.fast import fast
from frostline.recipes import BEST_SCRATCH, recipe
from frostline.runs import Run
from frostline.serve.predictor import Predictor
from frostline.train_scratch import batch_size, parts

pytestmark = pytest.mark.usefixtures("without_pictures")

SETTINGS = Settings(
    recipe="cnn-small", kind="scratch", network="cnn-small", epochs=2, batch_size=20, device="cpu", precision="f32", lr=3e-3
)


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    tinted_folders(root, ["10", "2", "nut"], 40)
    return load_data(root, SETTINGS)


@pytest.mark.parametrize("views", [*(pytest.param(views, marks=pytest.mark.slow) for views in (1, 2)), 6])
def test_validation_is_predicted_as_the_saved_model_predicts(splits, tmp_path, views):
    run = train(splits, SETTINGS.with_values(views=views), tmp_path / "run")
    chosen, served = run.predictions("validation"), Predictor(run.folder).judge(splits.validation)
    np.testing.assert_allclose(chosen.probabilities, served.probabilities, atol=1e-4)


@pytest.mark.slow
def test_epochs_are_told_apart_by_one_view_alone(splits, tmp_path):
    one, six = (train(splits, SETTINGS.with_values(views=views), tmp_path / f"{views}") for views in (1, 6))
    rows = [[(row["validation_accuracy"], row["validation_loss"]) for row in run.history()] for run in (one, six)]
    assert rows[0] == rows[1]
    best = max(row["validation_accuracy"] for row in one.history())
    assert one.read("scores/validation.json")["accuracy"] == pytest.approx(best)
    assert (one.predictions("validation").probabilities != six.predictions("validation").probabilities).any()


@pytest.mark.slow
def test_images_grow_to_their_own_size(splits, tmp_path):
    seen = []

    class Watched(nn.Module):
        def __init__(self, network):
            super().__init__()
            self.body, self.head = network.body, network.head

        def forward(self, x):
            seen.append((self.training, tuple(x.shape[2:])))
            return self.head(self.body(x))

    values = {"network": "fast-small", "optimizer": "sgd", "lr": 0.01, "grow_from": 8, "grow_share": 0.5, "epochs": 4}  # of 24×24
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("frostline.train_scratch.make_network", lambda *given: Watched(make_network(*given)))
        train(splits, SETTINGS.with_values(**values), tmp_path / "run")
    sizes = [size for training, size in seen if training]
    assert list(dict.fromkeys(sizes)) == [(8, 8), (16, 16), (24, 24)]
    assert sizes.count((24, 24)) == 2 * sizes.count((8, 8))
    assert seen[-1] == (False, (24, 24))


@pytest.mark.parametrize(("images", "wanted"), [(48_000, 500), (24_000, 500), (10_000, 208), (3_072, 64), (1_455, 64), (20, 64)])
def test_small_data_gets_smaller_batches(images, wanted):
    size = (32, 32)
    assert batch_size(images, size, recipe("fast-94")) == wanted
    assert batch_size(images, size, recipe("fast-94").with_values(least_steps=0)) == 500
    assert batch_size(images, size, recipe("fast-94").with_values(batch_size=30)) == 30


@pytest.mark.parametrize(("batch", "wanted"), [(500, 2), (129, 2), (127, 1), (64, 1), (10, 1)])
def test_small_batches_are_computed_whole(batch, wanted):
    assert parts(batch, recipe("fast-94")) == wanted
    assert parts(batch, recipe("fast-94").with_values(least_steps=0)) == 2


@pytest.mark.parametrize(("side", "wanted"), [(32, 500), (45, 500), (64, 256), (128, 64), (224, 64)])
def test_large_images_get_smaller_batches(side, wanted):
    assert batch_size(48_000, (side, side), recipe("fast-94")) == wanted
    assert batch_size(48_000, (side, side), recipe("fast-94").with_values(least_steps=0)) == 500


def test_a_network_for_one_size_cannot_grow(splits, tmp_path):
    with pytest.raises(UserError, match="8×8") as raised:
        train(splits, SETTINGS.with_values(grow_from=8), tmp_path / "run")
    assert "fast-small" in raised.value.hint


@pytest.mark.slow
def test_a_fast_network_trains_judges_and_saves(splits, tmp_path):
    values = {"network": "fast-small", "optimizer": "muon", "lr": 0.1, "momentum": 0.6, "alternate": True, "shift": 2, "views": 6}
    settings = SETTINGS.with_values(**values, epochs=3, rates=("head.*=0.1", "*.bias=0.1", "*=1"))
    run = train(splits, settings, tmp_path / "run")
    chosen, served = run.predictions("validation"), Predictor(run.folder).judge(splits.validation)
    np.testing.assert_allclose(chosen.probabilities, served.probabilities, atol=1e-4)
    assert run.record["trainable_parameters"] < run.record["parameters"]
    again = train(splits, settings, tmp_path / "again")
    assert again.record["model_digest"] == run.record["model_digest"]


def batches_of(splits, **values):
    settings = recipe("fast-96").with_values(validation_max=20, device="cpu", **values)
    return train_scratch._read(splits, settings)[1]


def test_the_last_epoch_shows_whole_images_however_few_there_are(splits):
    side = splits.train.size[0]
    for epochs in (1, 2, 3):
        batches = batches_of(splits, epochs=epochs, grow_from=side // 2, grow_share=1.0)
        assert batches.size(epochs - 1) == (side, side)
        assert epochs == 1 or batches.size(0) == (side // 2, side // 2)


def test_a_budget_lets_images_grow_in_time(splits):
    side = splits.train.size[0]
    batches = batches_of(splits, epochs=10, grow_from=side // 2)
    assert batches.size(0) == (side // 2, side // 2)
    batches.due = lambda: 10.0  # as the clock of a budget says once its time is spent
    assert batches.size(0) == splits.train.size


@pytest.mark.parametrize(
    ("name", "side", "classes", "each"), [("fast-94", 8, 2, 30), ("fast-95", 48, 3, 14), ("fast-96", 32, 100, 4)]
)
def test_the_fast_recipes_take_small_images_of_any_size_and_go_on_to_the_same_bits(
    name, side, classes, each, tmp_path, monkeypatch
):
    monkeypatch.setitem(NETWORKS, "fast-tiny", fast((8, 16, 16)))
    data = tinted_folders(tmp_path / "data", [f"c{number}" for number in range(classes)], each, height=side, width=side)
    settings = recipe(name).with_values(network="fast-tiny", epochs=3, device="cpu", precision="f32", validation_fraction=0.25)
    splits = load_data(data, settings)
    run = train(splits, settings, tmp_path / "run")
    chosen, served = run.predictions("validation"), Predictor(run.folder).judge(splits.validation)
    np.testing.assert_allclose(chosen.probabilities, served.probabilities, atol=1e-4)
    assert Predictor(run.folder).card.preprocess.stored == (side, side)
    assert len(run.history()) == 3

    with killed(monkeypatch, after_epoch=2):
        train(splits, settings, tmp_path / "cut")
    Run.create(tmp_path / "cut", resume=True).close()
    again = train(splits, resumed(tmp_path / "cut", None, [], {})[1], tmp_path / "cut", resume=True)
    assert again.record["model_digest"] == run.record["model_digest"]


@pytest.mark.parametrize(("side", "shift", "cutout"), [(8, 2, 4), (12, 3, 6), (32, 4, 12), (64, 4, 12)])
def test_squares_and_shifts_leave_something_of_small_images(side, shift, cutout, capsys):
    fitting, notes = train_scratch._fitting(recipe("fast-96"), (side, side + 4))
    assert (fitting.shift, fitting.cutout, len(notes)) == (shift, cutout, (shift < 4) + (cutout < 12))
    said = " ".join(capsys.readouterr().err.split())
    assert all(note in said for note in notes)


def test_mean_and_deviation_take_little_memory(monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (500, 32, 32, 3), dtype=np.uint8)
    monkeypatch.setattr(train_scratch, "COUNTED", 3 * 32 * 32 * 8)
    tracemalloc.start()
    mean, std = train_scratch._statistics(pixels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_allclose(mean, pixels.mean((0, 1, 2)) / 255, atol=1e-4)
    np.testing.assert_allclose(std, pixels.std((0, 1, 2)) / 255, atol=1e-4)
    assert peak < pixels.nbytes / 4


@pytest.mark.slow
def test_photos_are_trained_on_by_the_recipe_that_is_chosen_without_weights(tmp_path):
    for name, height, width in (("a", 70, 90), ("b", 90, 70)):
        tinted_folders(tmp_path / "data", [name, name + "2"], 8, ord(name), height, width)
    settings = recipe(BEST_SCRATCH).with_values(epochs=1, views=1, device="cpu", precision="f32")
    run = train(tmp_path / "data", settings, tmp_path / "run")
    card = Predictor(run.folder).card
    assert (card.preprocess.stored, card.values["training"]["batch_size"]) == ((64, 64), 64)
    assert len(run.predictions("test")) == run.scores("test")["n"] > 0


@pytest.mark.slow
def test_a_budget_gives_a_whole_schedule(splits, tmp_path):
    settings = SETTINGS.with_values(epochs=100_000, schedule="linear", optimizer="sgd", lr=0.01, budget=3.0)
    run = train(splits, settings, tmp_path / "run")
    assert "budget" in run.record["ended"]
    assert run.history()[0]["lr"] < 0.01
    assert run.history()[-1]["lr"] < 0.001


def test_a_precision_that_this_processor_lacks_is_said_before_training(splits, tmp_path, monkeypatch):
    def trained(*_given, **_options):
        raise AssertionError("trained first")

    monkeypatch.setattr("frostline.engine.has_bf16", lambda: False)
    monkeypatch.setattr(train_scratch, "fit", trained)
    with pytest.raises(UserError, match="does not compute in bf16") as raised:
        train(splits, SETTINGS.with_values(precision="bf16"), tmp_path / "run")
    assert "--precision auto" in raised.value.hint


@pytest.mark.parametrize(("processor", "wanted"), [(False, "f32"), (True, "bf16")])
def test_what_a_gpu_trains_in_is_not_asked_of_the_processor(monkeypatch, processor, wanted):
    monkeypatch.setattr("frostline.engine.has_bf16", lambda: processor)
    monkeypatch.setattr(train_scratch, "pick_device", torch.device)
    settings = SETTINGS.with_values(precision="bf16", device="cuda")
    assert train_scratch._precision_of_the_graph(settings) == wanted
    assert train_scratch._precision_of_the_graph(settings.with_values(device="cpu", precision="f32")) == "f32"


@pytest.mark.slow
def test_another_seed_than_that_of_the_cut(splits, tmp_path):
    import frostline

    run = train(splits, SETTINGS.with_values(seed=7, epochs=1), tmp_path / "run")
    source = splits.record["source"]
    for name in ("train", "validation", "test"):
        assert frostline.evaluate(run.folder, source, name)[0].ids.tolist() == getattr(splits, name).ids.tolist()
