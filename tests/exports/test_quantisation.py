"""int8: a quantised model is a model like any other, chosen on validation alone, and written only where it is worth it."""

import json
import shutil
from types import SimpleNamespace

import pytest
from drawing import tinted_folders
from toymodel import write_toy

from frostline import abstaining
from frostline.abstaining import NEVER
from frostline.drawn import drawn_images
from frostline.engine import read_graph
from frostline.errors import UserError
from frostline.experiment import train
from frostline.exports import int8_form
from frostline.exports.exporting import export
from frostline.exports.quantisation import quantised, with_full_weights
from frostline.inside import folder
from frostline.judge import evaluate
from frostline.model_card import read_card
from frostline.serve.predictor import Predictor

nncf = pytest.importorskip("nncf")


@pytest.fixture(scope="module")
def trained(place, tiny):
    """A run on drawn folders, with enough validation images to quantise on."""
    data = tinted_folders(place / "data", ["a", "b", "c"], 100)
    train(data, tiny.with_values(views=2, validation_fraction=0.3), place / "run")
    return place


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(int8_form, "ROUNDS", 1)
    monkeypatch.setattr(int8_form, "BLOCKS", 1)
    monkeypatch.setattr(int8_form, "LEAST_JUDGED", 10)


def exported(trained, out, **options):
    given = {"max_loss": 100, "min_gain": 0, "calibration": 20, "data": trained / "data"}
    return export(trained / "run", "int8", out, **{**given, **options})


@pytest.fixture(scope="module")
def smaller_model(trained):
    """The run, quantised once for several tests: its place, and what was found."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(int8_form, "ROUNDS", 1)
        patch.setattr(int8_form, "BLOCKS", 1)
        patch.setattr(int8_form, "LEAST_JUDGED", 10)
        patch.setattr(abstaining, "LEAST_SURE", 10)
        return exported(trained, trained / "int8")


def test_a_quantised_model_is_a_model(trained, smaller_model):
    place, about = smaller_model
    source, smaller = Predictor(trained / "run"), Predictor(place)
    card = smaller.card
    assert (card.precision, card.values["made_from"], card.views) == ("int8", source.card.digest, 2)
    assert card.values["int8"] == json.loads(json.dumps(about))
    kinds = [node.get_type_name() for node in smaller.graph.get_ops()]
    assert "FakeQuantize" in kinds
    assert about["parity"]["same_winner"] > 0.9
    assert about["accuracy"] == about["accuracy_before"] - about["loss"] / 100
    predictions, scores = evaluate(place, trained / "data", "test")
    assert scores["seen_in_training"] == 0
    assert len(predictions) == scores["n"]
    assert source.seen() <= smaller.seen()
    assert about["graph_bytes"]["int8"] < 0.5 * about["graph_bytes"]["source"]
    assert (about["calibration"], about["split"]) == (20, "validation")
    assert smaller.coverages == source.coverages == (0.9, 0.95, 0.99)
    assert {row["n"] for row in card.values["label_sets"]} == {about["n"]}  # its own, of the images that nothing was ranged on
    assert {row["n"] for row in source.card.values["label_sets"]} == {about["n"] + 20}
    judged = source.card.values["training"]["validation_accuracy"]
    assert judged > 0.9
    assert "validation_accuracy" not in card.values["training"]  # the source's own, as is its threshold
    assert source.card.sure_from is None  # too few images for one when it was trained
    assert 1 / len(card.classes) <= card.sure_from <= NEVER


def test_it_goes_on_as_onnx(trained, smaller_model, tmp_path):
    place, _ = smaller_model
    _, record = export(place, "onnx", tmp_path / "int8.onnx")
    assert record["parity"]["worst"] <= record["parity"]["tolerance"] == 5e-2
    with pytest.raises(UserError, match="cannot be quantised"):
        export(place, "int8", tmp_path / "again", data=trained / "data")


def test_what_costs_too_much_or_gains_too_little_is_not_written(trained, quick, tmp_path, monkeypatch):
    monkeypatch.setattr(int8_form, "quantised", lambda graph, *_: graph)  # not looked into here
    monkeypatch.setattr(int8_form, "_loss", lambda *_: {"loss": 0.6, "n": 10})
    with pytest.raises(UserError, match="costs this model too much") as caught:
        exported(trained, tmp_path / "int8", max_loss=0.5)
    assert caught.value.received.startswith("0.60 with 0 layers left as they are, 0.60 with 3 layers")
    assert caught.value.hint == "--max-loss"
    with pytest.raises(UserError, match="gains this model too little"):
        exported(trained, tmp_path / "int8", max_loss=0.7, min_gain=1000)
    assert not list(tmp_path.iterdir())


def test_layers_that_lose_too_much_stay_as_they_are(trained, quick, tmp_path, monkeypatch):
    found = iter([3.0, 0.7, 0.2, 0.0])
    original = int8_form._loss
    monkeypatch.setattr(int8_form, "_loss", lambda *given: {**original(*given), "loss": next(found)})
    asked = []
    monkeypatch.setattr(int8_form, "quantised", lambda graph, _, number: asked.append(number) or graph)
    _, about = exported(trained, tmp_path / "int8", max_loss=0.5)
    assert asked == [0, 3, 4]
    assert (about["float_layers"], [each["loss"] for each in about["tried"]]) == (4, [3.0, 0.7, 0.2])


def test_the_first_layers_are_left_alone():
    graph = read_graph(folder() / "graph.xml")
    images = drawn_images(4, 32, 32)
    weights = [_int8_weights(quantised(graph, images, number)) for number in (0, 2)]
    assert weights[0] == weights[1] + 2


def _int8_weights(graph):
    kinds = [node.get_element_type().get_type_name() for node in graph.get_ops() if node.get_type_name() == "Constant"]
    return kinds.count("i8")


def test_test_images_choose_nothing(trained, tmp_path):
    with pytest.raises(UserError, match="Test images choose nothing"):
        exported(trained, tmp_path / "int8", split="test")
    alone = shutil.copytree(trained / "run" / "model", tmp_path / "alone")
    (tmp_path / "data.json").write_text("[]")  # somebody else's
    with pytest.raises(UserError, match="takes ranges from images"):
        export(alone, "int8", tmp_path / "int8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(int8_form, "LEAST_JUDGED", 1000)
        with pytest.raises(UserError, match="too few validation images"):
            exported(trained, tmp_path / "int8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone", "data.json"]


def test_a_run_is_quantised_with_its_own_data_and_half_of_them_at_most_give_ranges(trained, quick, tmp_path, capsys):
    _, about = exported(trained, tmp_path / "int8", data=None, calibration=1000)
    assert about["calibration"] == (about["calibration"] + about["n"]) // 2 > 20
    assert "those that it was trained from" in capsys.readouterr().err
    with pytest.raises(UserError, match="one image at least"):
        exported(trained, tmp_path / "none", calibration=0)


def test_a_network_without_convolutions(tmp_path):
    graph = Predictor(write_toy(tmp_path / "toy")).graph
    with pytest.raises(UserError, match="nothing to quantise"):
        quantised(graph, drawn_images(3, 8, 8))


def test_the_classifier_inside_with_its_float16_weights():
    graph = read_graph(folder() / "graph.xml")
    full = with_full_weights(graph)
    kinds = {str(node.get_element_type()) for node in full.get_ops() if node.get_type_name() == "Constant"}
    assert not any("f16" in kind or "float16" in kind for kind in kinds)
    smaller = quantised(graph, drawn_images(8, 32, 32))
    behind = [node.get_type_name() for node in smaller.get_ordered_ops()]
    assert behind.count("FakeQuantize") >= 6
    assert {name for port in smaller.outputs for name in port.get_names()} >= {"probabilities", "features", "map"}
    assert read_card(folder()).precision != "int8"


def test_the_sources_scores_stay_with_it():
    values = {"name": "a", "precision": "bf16", "scores": {"test": {"accuracy": 0.9}}, "digest": "x"}
    card = int8_form._card(SimpleNamespace(card=SimpleNamespace(values=values, digest="x")), {"loss": 0.1})
    assert (card["name"], card["precision"], card["made_from"], card["int8"]) == ("a", "int8", "x", {"loss": 0.1})
    assert "scores" not in card
