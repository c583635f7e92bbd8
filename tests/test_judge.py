"""Judging a saved model: the right rows, classes by name, what training has seen, the split that was cut."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from drawing import encoded, put
from PIL import Image
from toymodel import CLASSES, probabilities, write_toy

import frostline
from frostline.conformal import judge_sets
from frostline.data.sources import load_source
from frostline.data.splits import split
from frostline.errors import UserError
from frostline.feature_cache import raw
from frostline.runs import Run
from frostline.serve.predictor import Predictor

COLOURS = {"red": (200, 20, 30), "green": (20, 210, 40), "blue": (10, 30, 190)}


def folders(root, per_class=4, classes=CLASSES, start=0):
    """Folders of 8x8 images, each of its class's colour, all different."""
    for name in classes:
        for number in range(start, start + per_class):
            pixels = np.full((8, 8, 3), COLOURS.get(name, (90, 200, 90)), np.uint8)
            pixels[0, 0] = (number, len(name), 0)
            put(root / name / f"{number}.png", encoded(Image.fromarray(pixels), "PNG"))
    return root


@pytest.fixture
def toy(tmp_path):
    return write_toy(tmp_path / "model")


def test_foreign_data_is_judged_whole_and_classes_go_by_name(tmp_path, toy, capsys):
    data = folders(tmp_path / "data", classes=("blue", "red"))  # another order than the model's, and one class less
    predictions, scores = frostline.evaluate(toy, data)
    assert (scores["accuracy"], scores["n"], scores["split"], scores["seen_in_training"]) == (1.0, 8, "all", 0)
    assert predictions.classes == CLASSES
    assert predictions.labels.tolist() == [2] * 4 + [0] * 4
    assert [row["support"] for row in scores["per_class"]] == [4, 0, 4]
    images = load_source(data).sets["train"].pixels
    assert predictions.probabilities == pytest.approx(probabilities(images), abs=1e-5)
    assert "has no test split: all of its 8 images are judged" in capsys.readouterr().err


def test_declared_splits_are_judged_as_they_are(tmp_path, toy):
    for number, name in enumerate(("train", "val", "test")):
        folders(tmp_path / "data" / name, per_class=2 + number, start=10 * number)
    sizes = {name: frostline.evaluate(toy, tmp_path / "data", name)[1]["n"] for name in ("train", "validation", "test")}
    assert sizes == {"train": 6, "validation": 9, "test": 12}


def test_a_split_that_the_data_lacks_is_an_error(tmp_path, toy):
    for number, name in enumerate(("train", "val")):
        folders(tmp_path / "data" / name, start=10 * number)
    # another cut than training's would be another test set, so none is made
    with pytest.raises(UserError, match="has no test split"):
        frostline.evaluate(toy, tmp_path / "data")


def test_no_such_split(tmp_path, toy):
    with pytest.raises(UserError, match="no such split"):
        frostline.evaluate(toy, tmp_path, "holdout")


def test_the_split_that_training_cut_is_cut_again(tmp_path):
    data = folders(tmp_path / "data", per_class=20)
    splits = split(load_source(data), seed=3, validation_fraction=0.2)
    fingerprints = {"train": splits.train.fingerprint, "validation": splits.validation.fingerprint}
    seen = [raw(digest) for images in (splits.train, splits.validation) for digest in images.digests]
    model = write_toy(tmp_path / "model", seen=seen, data=fingerprints, seed=3, validation_fraction=0.2)
    for name in ("train", "validation", "test"):
        predictions, scores = frostline.evaluate(model, data, name)
        wanted = getattr(splits, name)
        assert predictions.ids.tolist() == wanted.ids.tolist()
        assert scores["split"] == name
        assert scores["seen_in_training"] == (0 if name == "test" else len(wanted))


def test_a_cut_without_a_test_split_is_cut_again(tmp_path):
    data = folders(tmp_path / "data", per_class=20)
    splits = split(load_source(data), cut_test=False)
    model = write_toy(tmp_path / "model", data={name: getattr(splits, name).fingerprint for name in ("train", "validation")})
    assert frostline.evaluate(model, data, "validation")[0].ids.tolist() == splits.validation.ids.tolist()
    assert frostline.evaluate(model, data, "test")[1]["split"] == "all"  # and said: see above


def test_a_cut_by_groups_is_cut_again(tmp_path):
    folders(tmp_path / "images", per_class=20)
    paths = sorted((tmp_path / "images").rglob("*.png"))
    lines = [f"images/{path.parent.name}/{path.name},{path.parent.name},{int(path.stem) // 2}-{path.parent.name}" for path in paths]
    table = tmp_path / "table.csv"
    table.write_text("\n".join(["path,label,patient", *lines]))
    splits = split(load_source(table, group="patient"))
    fingerprints = {"train": splits.train.fingerprint, "validation": splits.validation.fingerprint}
    model = write_toy(tmp_path / "model", data=fingerprints, group="patient")
    assert frostline.evaluate(model, table)[0].ids.tolist() == splits.test.ids.tolist()
    # other data need not have the column, or be a table
    assert frostline.evaluate(model, tmp_path / "images")[1]["n"] == 60


def test_images_seen_in_training_are_counted_and_said(tmp_path, capsys):
    data = folders(tmp_path / "data")
    digests = load_source(data).sets["train"].digests
    model = write_toy(tmp_path / "model", seen=[raw(digest) for digest in digests[:5]])
    _, scores = frostline.evaluate(model, data)
    assert scores["seen_in_training"] == 5
    assert "5 of these 12 images were seen in training: these scores flatter the model." in capsys.readouterr().err


def test_a_class_that_the_model_does_not_know(tmp_path, toy):
    data = folders(tmp_path / "data", classes=("red", "teal"))
    with pytest.raises(UserError, match="classes that the model does not know: teal"):
        frostline.evaluate(toy, data)
    predictions, scores = frostline.evaluate(toy, data, unknown_as_wrong=True)
    assert (scores["accuracy"], scores["n"], scores["unknown"]) == (0.5, 8, 4)
    assert predictions.labels.tolist() == [0] * 4 + [-1] * 4


def test_an_empty_class_is_no_strange_class(tmp_path, toy):
    data = folders(tmp_path / "data", classes=("red", "blue"))
    (data / "teal").mkdir()
    assert frostline.evaluate(toy, data)[1]["n"] == 8


def test_unusable_images_are_counted_or_an_error(tmp_path, toy):
    data = folders(tmp_path / "data")
    put(data / "red" / "broken.png", b"\x89PNG\r\n\x1a\n")
    _, scores = frostline.evaluate(toy, data)
    assert (scores["n"], scores["rejected"]) == (12, 1)
    with pytest.raises(UserError, match="--strict was given"):
        frostline.evaluate(toy, data, strict=True)


def test_too_few_images_to_cut_can_be_judged(tmp_path, toy):
    assert frostline.evaluate(toy, folders(tmp_path / "data", per_class=1))[1]["n"] == 3


def test_the_record_names_the_model(tmp_path, toy):
    _, scores = frostline.evaluate(toy, folders(tmp_path / "data"), precision="f32")
    assert scores["model_digest"] == frostline.load_model(toy).card.digest
    assert scores["precision"] == "f32"


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(UserError, match="There is no model at"):
        frostline.evaluate(tmp_path, "digits")


# thresholds that validation gives


@pytest.fixture
def run_of(tmp_path):
    """A run of the toy, and its data, of which some images are grey: of these the toy is not sure, and seldom right."""
    data = folders(tmp_path / "data", per_class=20)
    for name in CLASSES:
        for number in range(20, 40):
            pixels = np.full((8, 8, 3), 100, np.uint8)
            pixels[0, 0] = (number, len(name), 0)
            put(data / name / f"{number}.png", encoded(Image.fromarray(pixels), "PNG"))
    splits = split(load_source(data), seed=1, validation_fraction=0.3)
    with Run.create(tmp_path / "run") as run:
        fingerprints = {"train": splits.train.fingerprint, "validation": splits.validation.fingerprint}
        seen = [raw(digest) for images in (splits.train, splits.validation) for digest in images.digests]
        cut = {"seed": 1, "validation_fraction": 0.3}
        write_toy(run.model_folder, seen=seen, data=fingerprints, label_sets={0.9: 0.1, 0.99: 0.0}, **cut)
        told = frostline.load_model(run.model_folder).judge(matched(splits.validation))
        run.write_predictions("validation", told)
        run.finish({})
    return run.folder, data


def matched(images):
    """Labels in the model's order of classes."""
    table = np.array([CLASSES.index(name) for name in images.classes])
    return replace(images, classes=CLASSES, labels=table[images.labels])


def test_what_the_threshold_for_a_wanted_accuracy_does(run_of):
    folder, data = run_of
    validation = Run.open(folder).predictions("validation")
    predictions, scores = frostline.evaluate(folder, data, wanted=0.9)
    (row,) = scores["abstaining"]
    threshold = row["threshold"]
    assert (row["wanted"], row["n"]) == (0.9, len(predictions))
    sure = validation.probabilities.max(axis=1)
    assert validation.correct.mean() < 0.9 <= validation.correct[sure >= threshold].mean()
    assert all(validation.correct[sure >= lower].mean() < 0.9 for lower in sure[sure < threshold])
    here = predictions.probabilities.max(axis=1) >= threshold
    assert 0 < here.sum() < len(predictions)
    assert (row["answered"], row["accuracy"]) == (here.sum(), predictions.correct[here].mean())
    assert row["accuracy"] > scores["accuracy"]
    assert "label_sets" not in scores


def test_how_often_label_sets_hold_the_truth(run_of):
    folder, data = run_of
    for model in (folder, folder / "model"):  # the card has the threshold: the run is not needed
        predictions, scores = frostline.evaluate(model, data, sets=0.9)
        assert scores["label_sets"] == [{"promised": 0.9, **judge_sets(predictions, 0.1)}]
        assert "abstaining" not in scores
    assert frostline.evaluate(folder, data, sets=0.99)[1]["label_sets"][0]["size"] == 3
    with pytest.raises(UserError, match="no threshold for that coverage"):
        frostline.evaluate(folder, data, sets=0.95)


@pytest.mark.parametrize("asked", [{"wanted": 0.97}, {"sets": 0.9}])
def test_the_images_that_chose_do_not_judge(run_of, asked):
    folder, data = run_of
    with pytest.raises(UserError, match="images have chosen the threshold") as caught:
        frostline.evaluate(folder, data, "validation", **asked)
    assert caught.value.received == "the validation split"
    frostline.evaluate(folder, data, "validation")
    if "sets" in asked:
        with pytest.raises(UserError, match="images have chosen the threshold"):
            frostline.evaluate(folder / "model", data, "validation", **asked)


def test_a_threshold_for_a_wanted_accuracy_needs_the_run(run_of, tmp_path, monkeypatch):
    folder, data = run_of
    monkeypatch.setattr(Predictor, "judge", lambda *_: pytest.fail("predicted before it was known that nothing comes of it"))
    with pytest.raises(UserError, match="chosen on validation predictions, and there are none") as caught:
        frostline.evaluate(folder / "model", data, wanted=0.97)
    assert "predictions/validation.npz" in caught.value.expected
    assert (caught.value.received, caught.value.hint) == ("a model without its run", f"the run {folder}")
    alone = shutil.copytree(folder / "model", tmp_path / "alone")
    with pytest.raises(UserError, match="there are none") as caught:
        frostline.evaluate(alone, data, wanted=0.97)
    assert caught.value.hint == ""
    with Run.create(tmp_path / "without") as run:
        shutil.copytree(alone, run.model_folder)
        run.finish({})
    with pytest.raises(UserError, match="there are none") as caught:
        frostline.evaluate(tmp_path / "without", data, wanted=0.97)
    assert caught.value.received == "a run that keeps none"
    with pytest.raises(UserError, match="lies between 0 and 1"):
        frostline.evaluate(folder, data, wanted=97)


def test_another_model_in_the_run_is_not_what_its_validation_chose_for(run_of):
    folder, data = run_of
    shutil.rmtree(folder / "model")
    write_toy(folder / "model", seed=2)
    with pytest.raises(UserError, match="was changed or damaged"):
        frostline.evaluate(folder, data, wanted=0.9)
