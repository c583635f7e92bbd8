"""Judging a model on data that holds nothing to train on: a test file alone, a test folder alone, images of one class."""

import numpy as np
import pytest
from drawing import encoded, put
from PIL import Image

from frostline.config import Settings
from frostline.errors import UserError
from frostline.experiment import train
from frostline.judge import evaluate


def write_records(path, count, seed):
    rng = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.uint8) % 10
    planes = rng.integers(0, 60, (count, 3, 32, 32)) + 15 * labels[:, None, None, None]
    path.parent.mkdir(parents=True, exist_ok=True)
    np.concatenate([labels[:, None], planes.reshape(count, -1).astype(np.uint8)], axis=1).astype(np.uint8).tofile(path)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    place = tmp_path_factory.mktemp("cifar")
    write_records(place / "data_batch_1.bin", 400, 1)
    settings = Settings(kind="scratch", network="cnn-small", epochs=3, batch_size=20, device="cpu", precision="f32")
    train(f"cifar10:{place}", settings, place / "run")
    return place / "run"


def test_a_test_file_alone(model, tmp_path):
    write_records(tmp_path / "held" / "test_batch.bin", 100, 2)
    predictions, scores = evaluate(model, f"cifar10:{tmp_path / 'held'}")
    assert len(predictions) == scores["n"] == 100
    assert scores["split"] == "test"
    assert scores["seen_in_training"] == 0
    with pytest.raises(UserError, match="No images of cifar10"):
        train(f"cifar10:{tmp_path / 'held'}", "cnn-small", tmp_path / "run")


@pytest.mark.parametrize("layout", ["test/frog", "frog"])
def test_a_folder_of_one_class(model, tmp_path, layout):
    for number in range(4):
        image = Image.fromarray(np.full((40, 50, 3), 10 * number, np.uint8))
        put(tmp_path / "photos" / layout / f"{number}.png", encoded(image, "PNG"))
    predictions, scores = evaluate(model, tmp_path / "photos")
    assert scores["n"] == 4
    assert (predictions.labels == predictions.classes.index("frog")).all()


def test_a_class_that_the_model_does_not_know(model, tmp_path):
    for name in ("frog", "unicorn"):
        put(
            tmp_path / "photos" / "test" / name / "1.png",
            encoded(Image.new("RGB", (40, 40), "green" if name == "frog" else "pink"), "PNG"),
        )
    with pytest.raises(UserError, match="unicorn"):
        evaluate(model, tmp_path / "photos")
    predictions, scores = evaluate(model, tmp_path / "photos", unknown_as_wrong=True)
    assert scores["n"] == 2
    assert sorted(predictions.labels.tolist()) == [-1, predictions.classes.index("frog")]
