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


@pytest.mark.parametrize("trained_on", ["arrays", "photos"])
def test_images_are_known_however_they_are_loaded(tmp_path, trained_on, capsys):
    data = folders(tmp_path / "data")
    mixed = folders(tmp_path / "mixed")
    put(mixed / "red" / "odd.png", encoded(Image.new("RGB", (9, 8), COLOURS["red"]), "PNG"))
    known, other = (data, mixed) if trained_on == "arrays" else (mixed, data)
    digests = load_source(known).sets["train"].digests
    model = write_toy(tmp_path / "model", seen=[raw(digest) for digest in digests])
    _, scores = frostline.evaluate(model, other)
    assert (scores["seen_in_training"], scores["n"]) == (12, 13 if trained_on == "arrays" else 12)
    assert "were seen in training" in capsys.readouterr().err


@pytest.fixture
def strange(tmp_path):
    """Data with a class that train lacks in validation and in test, and a test image that is one of train's; its splits."""
    root = tmp_path / "data"
    folders(root / "train", per_class=10)
    for number, name in enumerate(("val", "test")):
        folders(root / name, per_class=2, classes=(*CLASSES, "teal"), start=20 + 10 * number)
    put(root / "test" / "red" / "copy.png", (root / "train" / "red" / "0.png").read_bytes())
    return root, split(load_source(root, unknown_as_wrong=True))


def test_the_data_of_a_run_with_unknown_classes_is_recognised(tmp_path, strange):
    root, splits = strange
    fingerprints = {name: getattr(splits, name).fingerprint for name in ("train", "validation")}
    model = write_toy(tmp_path / "model", data=fingerprints)
    for name, unknown in (("train", 0), ("validation", 0), ("test", 2)):
        predictions, scores = frostline.evaluate(model, root, name, unknown_as_wrong=True)
        wanted = getattr(splits, name)
        assert predictions.ids.tolist() == wanted.ids.tolist()
        assert [(*CLASSES, "")[label] for label in predictions.labels] == [(*wanted.classes, "")[label] for label in wanted.labels]
        rejected = 2 if name == "validation" else 0  # as in training
        assert (scores["unknown"], scores["rejected"]) == (unknown, rejected)
    for name in ("train", "validation"):
        assert frostline.evaluate(model, root, name)[1]["n"] == len(getattr(splits, name))
    with pytest.raises(UserError, match=r"classes that the model does not know: teal\.") as caught:
        frostline.evaluate(model, root)
    assert "--unknown-as-wrong" in caught.value.hint


def test_a_validation_split_that_was_cut_beside_unknown_classes_is_cut_again(tmp_path):
    root = tmp_path / "data"
    folders(root / "train", per_class=20)
    folders(root / "test", per_class=2, classes=("red", "teal"), start=30)
    splits = split(load_source(root, unknown_as_wrong=True), seed=2)
    fingerprints = {name: getattr(splits, name).fingerprint for name in ("train", "validation")}
    model = write_toy(tmp_path / "model", data=fingerprints, seed=2)
    assert frostline.evaluate(model, root, "validation")[0].ids.tolist() == splits.validation.ids.tolist()
    assert frostline.evaluate(model, root, "train")[1]["n"] == len(splits.train) == 54


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


def declared(root, broken=2):
    """train/ and test/ of 12 images each, with broken files in both."""
    for number, name in enumerate(("train", "test")):
        folders(root / name, start=10 * number)
    put(root / "train" / "red" / "bad.png", b"text")
    for number in range(broken):
        put(root / "test" / "blue" / f"bad{number:02}.png", b"")
    return root


def test_what_was_left_out_of_the_judged_split_is_listed_and_said(tmp_path, toy, capsys):
    _, scores = frostline.evaluate(toy, declared(tmp_path / "data"))
    assert (scores["n"], scores["rejected"]) == (12, 2)
    assert scores["rejects"] == [{"path": f"test/blue/bad0{i}.png", "reason": "empty: zero bytes"} for i in range(2)]
    told = capsys.readouterr().err
    assert "Left out of test: 2 unusable files, beside 12 images that are judged." in told
    assert "  test/blue/bad01.png: empty: zero bytes" in told
    assert "train/red" not in told


def test_files_of_no_known_split_count_as_left_out(tmp_path, toy):
    put(declared(tmp_path / "data") / "loose.png", b"text")
    assert frostline.evaluate(toy, tmp_path / "data")[1]["rejected"] == 3


def test_the_screen_lists_the_first_and_the_record_all(tmp_path, toy, capsys):
    _, scores = frostline.evaluate(toy, declared(tmp_path / "data", broken=15))
    assert len(scores["rejects"]) == scores["rejected"] == 15
    told = capsys.readouterr().err
    assert told.count("zero bytes") == 10
    assert "  and 5 more, which --json lists." in told


def test_nothing_left_out_is_not_said(tmp_path, toy, capsys):
    _, scores = frostline.evaluate(toy, folders(tmp_path / "data"))
    assert (scores["rejected"], scores["rejects"], scores["data_notes"]) == (0, [], [])
    assert "Left out" not in capsys.readouterr().err


def test_a_split_of_which_nothing_is_usable_is_not_another_one(tmp_path, toy):
    folders(tmp_path / "data" / "train")
    put(tmp_path / "data" / "test" / "red" / "0.png", b"")
    with pytest.raises(UserError, match="no usable image in test") as caught:
        frostline.evaluate(toy, tmp_path / "data")
    assert "test/red/0.png: empty" in caught.value.received


def test_a_split_that_was_cut_counts_what_it_was_cut_from(tmp_path, capsys):
    data = folders(tmp_path / "data", per_class=20)
    put(data / "red" / "bad.png", b"")
    splits = split(load_source(data))
    model = write_toy(tmp_path / "model", data={name: getattr(splits, name).fingerprint for name in ("train", "validation")})
    _, scores = frostline.evaluate(model, data)
    assert (scores["split"], scores["rejected"]) == ("test", 1)
    assert "Left out of the images that test was cut from: 1 unusable files" in capsys.readouterr().err


def test_images_that_the_cut_dropped_are_said(tmp_path, capsys):
    data = tmp_path / "data"
    folders(data / "train", per_class=20)
    folders(data / "test", per_class=4, start=18)  # two of each class are in train, too
    splits = split(load_source(data))
    model = write_toy(tmp_path / "model", data={name: getattr(splits, name).fingerprint for name in ("train", "validation")})
    _, scores = frostline.evaluate(model, data)
    assert scores["n"] == 6
    assert sum("left out" in note for note in scores["data_notes"]) >= 1
    assert scores["data_notes"][-1] in " ".join(capsys.readouterr().err.split()).replace("Note: ", "")


def test_what_there_is_to_say_of_the_data_is_said_and_recorded(tmp_path, toy, capsys):
    data = folders(tmp_path / "data")
    (data / ".hidden").mkdir()
    _, scores = frostline.evaluate(toy, data)
    assert scores["data_notes"] == ["1 hidden files or folders were not looked at."]
    assert "Note: 1 hidden files or folders were not looked at." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("row", "named"), [("gone.png,red,test", "test"), (",red,val", "validation"), ("https://x/y.png,red,test", "test")]
)
def test_rows_of_tables_know_their_split(tmp_path, row, named):
    folders(tmp_path / "images")
    lines = [f"images/{name}/{i}.png,{name},{('train', 'test')[i % 2]}" for name in CLASSES for i in range(4)]
    (tmp_path / "table.csv").write_text("\n".join(["path,label,split", *lines, row, "too,few"]))
    rejects = load_source(tmp_path / "table.csv").rejects
    assert sorted(reject.split for reject in rejects) == sorted(["", named])


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
