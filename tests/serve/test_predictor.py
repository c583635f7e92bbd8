"""The one door: whatever a person hands over as an image, and nothing that is not one."""

import io
import shutil
from typing import ClassVar

import numpy as np
import pytest
from drawing import drawn, encoded, put
from PIL import Image
from toymodel import CLASSES, probabilities, write_toy

from frostline.data.imageset import ImageSet
from frostline.data.rows import digest_bytes16, pixel_digests
from frostline.decode import BadImage
from frostline.drawn import drawn_images
from frostline.errors import UserError
from frostline.metrics import score
from frostline.serve import predictor as module
from frostline.serve.predictor import Predictor, load_model, model_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_toy(tmp_path_factory.mktemp("toy") / "model", seen=[b"x" * 16])


@pytest.fixture(scope="module")
def predictor(folder):
    return Predictor(folder)


def picture(seed=0, height=8, width=8):
    return drawn_images(1, height, width, seed)[0]


def png(pixels):
    return encoded(Image.fromarray(pixels), "PNG")


# what is accepted


@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(lambda pixels, _: pixels, id="array"),
        pytest.param(lambda pixels, _: pixels[None], id="array of one"),
        pytest.param(lambda pixels, _: [pixels], id="list"),
        pytest.param(lambda pixels, _: (pixels,), id="tuple"),
        pytest.param(lambda pixels, _: Image.fromarray(pixels), id="Pillow"),
        pytest.param(lambda pixels, _: [Image.fromarray(pixels).convert("RGBA")], id="RGBA"),
        pytest.param(lambda pixels, _: png(pixels), id="bytes"),
        pytest.param(lambda pixels, path: put(path / "a.png", png(pixels)), id="path"),
        pytest.param(lambda pixels, path: str(put(path / "a.png", png(pixels))), id="text"),
        pytest.param(lambda pixels, _: np.asfortranarray(pixels), id="another memory order"),
        pytest.param(lambda pixels, _: iter([pixels]), id="iterator"),
    ],
)
def test_one_image(predictor, tmp_path, wrap):
    pixels = picture()
    found = predictor.predict(wrap(pixels, tmp_path))
    assert (found.shape, found.dtype) == ((1, 3), np.float32)
    np.testing.assert_allclose(found, probabilities(pixels[None]), atol=1e-5)


def test_many_images_of_all_kinds_in_order(predictor, tmp_path):
    pixels = drawn_images(45, 8, 8)
    kinds = [
        lambda one, _: one,
        lambda one, _: Image.fromarray(one),
        lambda one, _: png(one),
        lambda one, i: put(tmp_path / f"{i}.png", png(one)),
    ]
    found = predictor.predict([kinds[i % 4](one, i) for i, one in enumerate(pixels)])
    np.testing.assert_allclose(found, probabilities(pixels), atol=1e-5)
    np.testing.assert_array_equal(found, predictor.predict(pixels))
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)


def test_no_images(predictor):
    assert predictor.predict([]).shape == (0, 3)
    assert predictor.predict(np.empty((0, 8, 8, 3), np.uint8)).shape == (0, 3)


def test_other_sizes_are_brought_to_the_models(predictor):
    red = np.zeros((300, 100, 3), np.uint8)
    red[..., 0] = 255
    for pixels in (red, red[:1], red[:, :1], red[:1, :1], red[:8, :8]):
        np.testing.assert_allclose(predictor.predict(pixels), probabilities(red[None, :8, :8]), atol=1e-5)


def test_a_stream_is_read_as_it_is_needed(predictor):
    read = []

    def images():
        for number in range(1000):
            read.append(number)
            yield picture(number)

    blocks = predictor.stream(images())
    assert next(blocks).shape == (predictor.batch, 3)
    assert len(read) <= 10 * predictor.batch
    blocks.close()


# what is refused


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (np.zeros((8, 8, 3), np.float32), "astype(np.uint8)"),
        (np.zeros((2, 8, 8, 3), np.float32), "astype(np.uint8)"),
        (np.zeros((8, 8), np.uint8), "grey"),
        (np.zeros((8, 8, 1), np.uint8), "grey"),
        (np.zeros((8, 8, 4), np.uint8), "transparency"),
        (np.zeros((3, 8, 8), np.uint8), "transpose"),
        (np.zeros((8, 8, 3), np.int64), ""),
        (np.zeros((0, 8, 3), np.uint8), ""),
        ([np.zeros((2, 8, 8, 3), np.uint8)], "list(batch)"),
        ([None], ""),
        ([3], ""),
    ],
)
def test_what_is_no_image_is_refused_with_a_hint(predictor, value, hint):
    with pytest.raises(UserError, match="not an image") as caught:
        predictor.predict(value)
    assert hint in caught.value.hint
    assert "uint8 array of shape (H, W, 3)" in caught.value.expected


@pytest.mark.parametrize("data", [b"", b"text", b"\xff\xd8\xff cut", encoded(drawn(1), "PNG")[:100]])
def test_bytes_that_cannot_be_decoded(predictor, data):
    with pytest.raises(BadImage):
        predictor.predict(data)


# the model


def test_predictions_of_a_set_are_what_predict_says(predictor):
    pixels = drawn_images(37, 8, 8)
    labels = np.arange(37) % 3
    images = ImageSet("test", CLASSES, labels, np.array([f"{i}" for i in range(37)]), pixel_digests(pixels), pixels=pixels)
    judged = predictor.judge(images)
    np.testing.assert_array_equal(judged.probabilities, predictor.predict(pixels))
    assert (judged.classes, judged.labels.tolist()) == (CLASSES, labels.tolist())
    accuracy = (predictor.predict(pixels).argmax(1) == labels).mean()
    assert score(judged)["accuracy"] == pytest.approx(accuracy)
    assert predictor.judge(images, np.full(37, -1)).labels.tolist() == [-1] * 37


def test_photos_of_a_set(predictor, tmp_path):
    files = tuple(put(tmp_path / f"{i}.png", encoded(drawn(i, 30, 20 + i), "PNG")) for i in range(5))
    digests = np.array([digest_bytes16(path.read_bytes()) for path in files], "S16")
    images = ImageSet("test", CLASSES, np.zeros(5, np.int64), np.array([path.name for path in files]), digests, files=files)
    np.testing.assert_array_equal(predictor.judge(images).probabilities, predictor.predict(list(files)))


@pytest.mark.parametrize("options", [{"batch": 1}, {"batch": 7}, {"threads": 1}])
def test_batches_and_threads_change_nothing(folder, predictor, options):
    images = drawn_images(20, 8, 8)
    np.testing.assert_allclose(load_model(folder, **options).predict(images), predictor.predict(images), atol=1e-6)


def test_a_runs_model_is_found(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "run" / "model")
    assert load_model(str(tmp_path / "run")).folder == tmp_path / "run" / "model"
    assert model_folder(folder) == folder
    assert model_folder(tmp_path) == tmp_path
    with pytest.raises(UserError, match="no model"):
        load_model(tmp_path)


def test_classes_and_seen(predictor):
    assert predictor.classes == CLASSES
    assert predictor.seen() == {b"x" * 16}


def test_a_model_that_computes_otherwise_here_is_refused(folder, monkeypatch):
    class Wrong:
        how: ClassVar = {"precision": "f32"}

        def probabilities(self, images):
            return np.full((len(images), 3), 1 / 3, np.float32)

    monkeypatch.setattr(module, "make_runner", lambda *_: Wrong())
    with pytest.raises(UserError, match="self-test"):
        Predictor(folder)


def test_where_bf16_is_lacking_f32_is_used_and_said(folder, monkeypatch, capsys):
    monkeypatch.setattr(module, "has_bf16", lambda: False)
    assert Predictor(folder, precision="bf16").precision == "f32"
    assert "f32 is used" in capsys.readouterr().err
    assert Predictor(folder).precision == "f32"
    assert capsys.readouterr().err == ""


def test_encoded_and_decoded_images_get_the_same_answer(predictor):
    pixels = np.asarray(Image.open(io.BytesIO(encoded(drawn(3, 8, 8), "JPEG"))))
    np.testing.assert_array_equal(predictor.predict(encoded(drawn(3, 8, 8), "JPEG")), predictor.predict(pixels))


# label sets


def test_label_sets_of_probabilities(tmp_path):
    model = load_model(write_toy(tmp_path / "model", label_sets={0.95: 0.05, 0.9: 0.3}))
    assert model.coverages == (0.9, 0.95)
    pixels = np.array([[[[200, 20, 30]]], [[[120, 110, 20]]], [[[100, 100, 100]]]], np.uint8).repeat(8, 1).repeat(8, 2)
    found = model.predict(pixels)
    np.testing.assert_allclose(found, probabilities(pixels), atol=1e-5)
    assert model.label_sets(found, 0.9) == [("red",), ("red", "green"), ("red", "green", "blue")]
    for coverage, threshold in model.card.label_sets.items():
        for p, held in zip(found, model.label_sets(found, coverage), strict=True):
            assert held == tuple(sorted((name for name, each in zip(CLASSES, p, strict=True) if each >= threshold), key=held.index))
    for small, large in zip(model.label_sets(found, 0.9), model.label_sets(found, 0.95), strict=True):
        assert set(small) <= set(large)
    with pytest.raises(UserError, match="no threshold for that coverage"):
        model.label_sets(found, 0.99)


def test_a_model_whose_card_keeps_no_thresholds_says_so(predictor):
    assert predictor.coverages == ()
    with pytest.raises(UserError, match="keeps no thresholds for label sets"):
        predictor.promise(0.95)


def test_the_classifier_inside_keeps_thresholds():
    assert load_model("inside").coverages == (0.9, 0.95, 0.99)


@pytest.mark.parametrize("precision", ["int8", "f16", "banana"])
def test_a_precision_that_the_model_does_not_have(folder, precision):
    with pytest.raises(UserError, match="does not compute like that") as caught:
        Predictor(folder, precision=precision)
    assert caught.value.expected == "precision auto, bf16, f32"


def test_answers_that_are_no_numbers_are_not_judged(folder, monkeypatch):
    pixels = drawn_images(3, 8, 8)
    ids, digests = np.array(["a", "b", "c"]), pixel_digests(pixels)
    images = ImageSet("test", tuple(CLASSES), np.zeros(3, np.int64), ids, digests, pixels=pixels)
    predictor = Predictor(folder)
    answers = np.array([[1, 0, 0], [np.nan] * 3, [0, 1, 0]], np.float32)
    monkeypatch.setattr(predictor, "stored", lambda blocks: iter([answers]))
    with pytest.raises(UserError, match="no answer for 1 of 3 images") as caught:
        predictor.judge(images)
    assert caught.value.received.endswith("for b")
