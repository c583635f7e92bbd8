"""timm rebuilds what can be rebuilt of a model, and torch the whole of it; what cannot be is refused with the reason."""

import json

import numpy as np
import pytest
import timm
import torch
from drawing import tinted_folders

from frostline.drawn import drawn_images
from frostline.errors import UserError
from frostline.experiment import train
from frostline.exports.exporting import export
from frostline.models.exporting import whole
from frostline.serve.predictor import Predictor


@pytest.fixture(scope="module")
def runs(place, tiny):
    """A run with a plain linear head on one view, and one with a power and two views."""
    data = tinted_folders(place / "data", ["a", "b", "c"], 40)
    train(data, tiny.with_values(power=1.0), place / "plain")
    train(data, tiny.with_values(power=0.75, views=2), place / "power")
    return place


def test_a_folder_that_timm_loads(runs, tmp_path):
    place, record = export(runs / "plain", "timm", tmp_path / "timm")
    assert record["parity"]["worst"] < 1e-4
    config = json.loads((place / "config.json").read_text())
    assert (config["architecture"], config["num_classes"], config["label_names"]) == ("test_resnet", 3, ["a", "b", "c"])
    network = timm.create_model(f"local-dir:{place}", pretrained=True).eval()
    given = timm.data.resolve_model_data_config(network)
    predictor = Predictor(runs / "plain", "f32")
    preprocess = predictor.card.preprocess
    assert (tuple(given["mean"]), tuple(given["std"])) == (preprocess.mean, preprocess.std)
    images = drawn_images(4, *preprocess.size)
    x = (torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - torch.tensor(preprocess.mean)[:, None, None]) / torch.tensor(
        preprocess.std
    )[:, None, None]
    with torch.no_grad():
        found = network(x).softmax(-1).numpy()
    np.testing.assert_allclose(found, predictor.predict(images), atol=1e-4)


def test_a_head_that_timm_does_not_have(runs, tmp_path):
    with pytest.raises(UserError, match="end in one linear layer") as caught:
        export(runs / "power", "timm", tmp_path / "timm")
    assert "power 0.75" in caught.value.received
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["plain", "power"])
def test_the_whole_model_as_torch_has_it(name, runs):
    predictor = Predictor(runs / name, "f32")
    module = whole(predictor.folder, predictor.card.values)
    images = drawn_images(5, *predictor.card.preprocess.stored)
    np.testing.assert_allclose(module(torch.from_numpy(images)).numpy(), predictor.predict(images), atol=1e-4)


@pytest.mark.parametrize("to", ["onnx", "torch", "openvino"])
def test_a_trained_model_in_every_form_with_its_views(to, runs, tmp_path):
    _, record = export(runs / "power", to, tmp_path / "out", data=runs / "data")
    assert record["parity"]["worst"] < 1e-4
    assert record["parity"]["images"].endswith(f"validation images of {runs / 'data'}")


def test_litert(runs, tmp_path):
    """Needs litert-torch, which wants an older torch than the newest."""
    pytest.importorskip("litert_torch")
    _, record = export(runs / "power", "litert", tmp_path / "out.tflite")
    assert record["parity"]["worst"] < 1e-4


def test_litert_where_its_converter_is_missing(runs, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "litert_torch", None)
    with pytest.raises(UserError, match="converter is not installed") as caught:
        export(runs / "plain", "litert", tmp_path / "out.tflite")
    assert "environment of its own" in caught.value.hint
