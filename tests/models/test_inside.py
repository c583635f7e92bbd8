"""The classifier inside: every weight once, the same answers from torch and the graph, and no choice by images it has seen."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from drawing import drawn, encoded, put, tinted_folders
from safetensors.numpy import load_file

import frostline
from frostline import inside
from frostline.abstaining import stated_threshold
from frostline.auditing import features
from frostline.config import Settings
from frostline.conformal import fit_threshold
from frostline.data.sources import load_source
from frostline.errors import UserError
from frostline.experiment import load_data, train
from frostline.exports.exporting import export
from frostline.model_card import read_card
from frostline.models.cnn import make_network
from frostline.models.fast import folded
from frostline.models.hub import at_hand
from frostline.models.inside import compact
from frostline.models.shipped import backbone
from frostline.models.weights import load
from frostline.onnx_engine import OnnxRunner
from frostline.serve.predictor import Predictor

SETTINGS = Settings(
    recipe="fast-test",
    kind="scratch",
    network="fast-small",
    epochs=3,
    batch_size=20,
    optimizer="sgd",
    lr=0.02,
    views=6,
    device="cpu",
    precision="f32",
)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A compact model directory made of a run, and the data that the run saw."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("frostline.experiment._draw", lambda *_: None)
        root = tmp_path_factory.mktemp("inside")
        data = tinted_folders(root / "data", ["a", "b", "c"], 30)
        splits = load_data(data, SETTINGS)
        run = train(splits, SETTINGS, root / "run")
        compact(run.model_folder, splits.validation, root / "small", 2, {"purpose": "a test"})
    return root / "small", data, splits


@pytest.fixture
def shipped(small, monkeypatch):
    monkeypatch.setattr(inside, "place", lambda: small[0])
    return small


def test_folding_changes_nothing():
    network = make_network("fast-large", 3, (16, 16)).train()
    images = torch.randn(40, 3, 16, 16)
    for _ in range(3):
        network(images)
    network.eval()
    with torch.inference_mode():
        torch.testing.assert_close(folded(network)(images), network(images), atol=1e-4, rtol=1e-4)
    assert not any("running" in name for name in folded(network).state_dict())
    assert any("running" in name for name in network.state_dict())


def test_every_weight_is_kept_once_in_8_bits_or_float16(small):
    folder, _, _ = small
    card = Predictor(folder).card.values
    weights = inside.weights(folder)
    assert {name for name in weights if "convs" in name and name.endswith("weight")} <= set(card["shared_weights"])
    assert not set(load_file(folder / "weights.safetensors")) & set(card["shared_weights"])
    values = sum(value.size for value in weights.values())
    assert (folder / "graph.bin").stat().st_size < 1.05 * values
    assert sum(value.nbytes for value in load_file(folder / "weights.safetensors").values()) < 20_000
    for value in weights.values():
        if (parts := inside.in_8_bits(value)) is None:
            assert (value == value.astype(np.float16)).all()
        else:
            assert (value == parts[0] * parts[1].astype(np.float32)).all()
    kept = [place for place in card["shared_weights"].values() if len(place) == 3]
    assert len(kept) == sum(name.endswith("weight") and "convs" in name for name in weights)
    validation = small[2].validation
    said = Predictor(folder).judge(validation)
    for row in card["label_sets"]:  # of the rounded network, not of the run's
        assert row["n"] == len(validation)
        assert row["threshold"] == pytest.approx(fit_threshold(said, row["promised"]), abs=2e-2)
    assert (card["purpose"], card["views"]) == ("a test", 2)
    assert card["sure_from"] == stated_threshold(said.probabilities, validation.labels)


@pytest.mark.parametrize("scale", [1e-9, 0.02, 300.0])
def test_8_bits_are_within_half_a_step_and_stay_as_they_are(scale):
    value = scale * np.random.default_rng(0).standard_normal((64, 32, 3, 3)).astype(np.float32)
    value[3] = 0
    whole, scales = inside.in_8_bits(value)
    assert (whole.dtype, scales.dtype, scales.shape) == (np.int8, np.float16, (64, 1, 1, 1))
    kept = whole * scales.astype(np.float32)
    # the scale is rounded to float16 too: by up to a 2,048th, which is 0.06 of a step at the end of the range
    assert (np.abs(kept - value) <= 0.57 * scales.astype(np.float32)).all()
    again = inside.in_8_bits(kept)
    np.testing.assert_array_equal(again[0] * again[1].astype(np.float32), kept)
    assert inside.in_8_bits(value[:2]) is None
    assert inside.in_8_bits(value.reshape(64, -1)) is None


def test_it_answers_alike_without_openvino(small):
    folder, _, splits = small
    graph = Predictor(folder, "f32")
    other = OnnxRunner(folder / "graph.onnx", 32)
    np.testing.assert_allclose(other.probabilities(splits.test.pixels), graph.judge(splits.test).probabilities, atol=1e-4)


def test_torch_and_the_graph_are_one_network(shipped):
    folder, _, splits = shipped
    predictor = Predictor(folder, "f32")
    pixels = splits.test.pixels
    (features,) = predictor.features([pixels])
    network, preprocess, _, origin = backbone()
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    x = (x - torch.tensor(preprocess.mean)[:, None, None]) / torch.tensor(preprocess.std)[:, None, None]
    with torch.inference_mode():
        found = network(x)[0].numpy()
    np.testing.assert_allclose(features[:, 0], found, atol=1e-4)
    assert "inside" in origin


def test_it_is_not_judged_on_what_it_has_seen(shipped):
    _, data, splits = shipped
    predictions, scores = frostline.evaluate("inside", data, "test")
    assert (scores["seen_in_training"], predictions.ids.tolist()) == (0, splits.test.ids.tolist())
    for split in ("train", "validation"):
        with pytest.raises(UserError, match="cannot be judged"):
            frostline.evaluate("inside", data, split)


def test_its_copies_are_known_and_it_is_not_quantised_by_what_it_has_seen(shipped, tmp_path):
    folder, data, _ = shipped
    card = read_card(folder)
    made = replace(card, digest="other", values={**card.values, "made_from": card.digest})
    stranger = replace(card, digest="other", values={**card.values, "made_from": "another"})
    assert [inside.is_it(each) for each in (card, made, stranger)] == [True, True, False]
    with pytest.raises(UserError, match="cannot be quantised by images that it was trained on"):
        export("inside", "int8", tmp_path / "int8", data=data)
    assert not (tmp_path / "int8").exists()


def test_it_does_not_teach_where_it_has_seen_what_a_student_is_chosen_by(shipped, tmp_path):
    _, data, _ = shipped
    with pytest.raises(UserError, match="cannot teach here"):
        train(data, SETTINGS.with_values(teacher="inside"), tmp_path / "run")


def test_nor_is_anything_judged_by_test_images_that_the_backbone_has_seen(shipped, tmp_path):
    _, _, splits = shipped
    other = load_data(tinted_folders(tmp_path / "other", ["x", "y"], 30, start=500), SETTINGS)
    with pytest.raises(UserError, match="test images were seen when cifar-fast was trained"):
        train(
            replace(other, test=replace(splits.train, name="test", classes=other.classes, labels=splits.train.labels % 2)),
            Settings(backbone="cifar-fast", device="cpu"),
            tmp_path / "run",
        )


@pytest.mark.slow
def test_as_a_backbone_it_needs_no_download(shipped, tmp_path):
    other = tinted_folders(tmp_path / "other", ["x", "y"], 30, start=500)
    assert at_hand("cifar-fast")
    settings = Settings(backbone="cifar-fast", device="cpu", precision="f32")
    run = train(other, settings, tmp_path / "run")
    assert run.record["test_accuracy"] > 0.6
    seen = Predictor(run.folder).seen()
    assert inside.seen_by("cifar-fast") < seen


def test_nothing_is_chosen_by_images_that_the_backbone_has_seen(shipped, tmp_path):
    with pytest.raises(UserError, match="were seen when cifar-fast was trained"):
        train(shipped[1], Settings(backbone="cifar-fast", device="cpu"), tmp_path / "run")


def test_nor_by_the_same_images_among_others_of_another_size(shipped, tmp_path):
    data = shutil.copytree(shipped[1], tmp_path / "data")
    put(data / "a" / "odd.png", encoded(drawn(5, 40, 50), "PNG"))
    settings = Settings(backbone="cifar-fast", device="cpu")
    assert load_data(data, settings).train.files is not None
    with pytest.raises(UserError, match="were seen when cifar-fast was trained"):
        train(data, settings, tmp_path / "run")
    with pytest.raises(UserError, match="cannot be judged"):
        frostline.evaluate("inside", data, "train")


def test_labels_that_it_has_learned_are_not_judged_by_it(shipped):
    with pytest.raises(UserError, match="images were seen when cifar-fast was trained"):
        features.inspect(load_source(shipped[1]), Settings(backbone="cifar-fast", device="cpu"))


def test_what_it_is_not_for(shipped, tmp_path):
    with pytest.raises(UserError, match="gives features"):
        train(shipped[1], Settings(backbone="cifar-fast", train_from="all", device="cpu"), tmp_path / "run")
    with pytest.raises(UserError, match="comes with its weights"):
        load("cifar-fast", (32, 32), "somewhere")


def test_a_copy_without_it_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(inside, "place", lambda: tmp_path)
    with pytest.raises(UserError, match="no classifier inside"):
        Predictor("inside")


def test_the_one_in_the_package_answers_at_once_and_is_small(capsys):
    predictor = Predictor("inside")
    card = predictor.card.values
    assert predictor.classes == ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    assert (predictor.folder / "graph.bin").stat().st_size <= 4 * 2**20
    assert len(predictor.seen()) == 50_000
    assert card["scores"]["test"]["n"] == 5000
    assert "--seed 0" in card["command"]
    assert card["not_for"]
    probabilities = predictor.predict(np.zeros((2, 300, 400, 3), np.uint8))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-4)


def test_the_one_in_the_package_answers_the_same_without_openvino():
    from frostline.artifact import make_runner, read_model
    from frostline.drawn import drawn_images
    from frostline.onnx_engine import OnnxRunner

    card, graph = read_model(inside.place())
    images = drawn_images(20, 32, 32, seed=5)
    found = OnnxRunner(inside.place() / "graph.onnx", 16).probabilities(images)
    np.testing.assert_allclose(found, make_runner(graph, inside.place(), card.values, "f32").probabilities(images), atol=1e-4)
    assert card.licences["weights"].startswith("Apache-2.0")
    assert "CIFAR-10" in card.licences["data"]
