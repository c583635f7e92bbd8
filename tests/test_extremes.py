"""Data of unusual size or shape goes end to end: many classes, few images, large networks' inputs."""

import numpy as np
import pytest
from drawing import encoded, put, tinted_folders
from PIL import Image

from frostline.experiment import train
from frostline.serve.predictor import Predictor

pytestmark = pytest.mark.usefixtures("without_pictures")


@pytest.fixture(scope="module")
def settings(tiny):
    return tiny.with_values(image_size=32, l2=(1e-2, 1e-1), epochs=1, batch_size=16, lr=1e-3)


@pytest.fixture(scope="module")
def thousand(tmp_path_factory):
    """1,000 classes of three images of 16 pixels, each class with a pattern of its own."""
    root, rng = tmp_path_factory.mktemp("thousand"), np.random.default_rng(0)
    for number in range(1000):
        pattern = rng.integers(0, 256, (16, 16, 3))
        for image in range(3):
            pixels = np.clip(pattern + rng.integers(-9, 9, pattern.shape), 0, 255).astype(np.uint8)
            put(root / f"class {number}" / f"{image}.png", encoded(Image.fromarray(pixels), "PNG"))
    return root


@pytest.mark.slow
@pytest.mark.parametrize("values", [{}, {"train_from": "layer4"}, {"kind": "scratch", "network": "cnn-small"}], ids=str)
def test_a_thousand_classes_of_three_images(thousand, settings, tmp_path, values):
    run = train(thousand, settings.with_values(**values), tmp_path / "run")
    scores = run.scores("test")
    assert len(scores["per_class"]) == 1000
    assert Predictor(run.model_folder).predict(thousand / "class 7" / "0.png").shape == (1, 1000)


@pytest.mark.slow
@pytest.mark.parametrize("values", [{}, {"train_from": "layer4"}, {"kind": "scratch", "network": "cnn-small"}], ids=str)
def test_two_classes_of_five_images(settings, tmp_path, values):
    tinted_folders(tmp_path / "data", ["left", "right"], 5)
    run = train(tmp_path / "data", settings.with_values(**values), tmp_path / "run")
    assert run.scores("test")["n"] >= 1
    assert {"left", "right"} == {row["class"] for row in run.scores("test")["per_class"]}


@pytest.mark.slow
@pytest.mark.parametrize("side", [224, 288])
@pytest.mark.parametrize("values", [{}, {"train_from": "layer4"}, {"train_from": "layer4", "augment": ("mirror",)}], ids=str)
def test_large_inputs(settings, tmp_path, side, values):
    tinted_folders(tmp_path / "data", ["a", "b", "c"], 12, height=side + 30, width=side)
    run = train(tmp_path / "data", settings.with_values(image_size=side, **values), tmp_path / "run")
    assert run.scores("test")["n"] >= 3
    assert Predictor(run.model_folder).card.preprocess.size == (side, side)
