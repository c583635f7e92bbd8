"""What a network says of folders with planted label errors, and that training takes it."""

import csv
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drawing import drawn, encoded, put, tinted_folders
from PIL import Image
from typer.testing import CliRunner

from frostline.auditing import features
from frostline.auditing.features import features_of, label_errors, settings_for
from frostline.cli import app
from frostline.config import Settings
from frostline.data.edits import edited
from frostline.data.imageset import ImageSet
from frostline.data.sources import load_source
from frostline.data.units import with_common_digests
from frostline.errors import UserError
from frostline.experiment import load_data

CLASSES = ["ant", "bee", "cat"]
#: What is moved to a wrong class folder: three training images and one of test.
WRONG = {
    "train/ant/3.png": "train/bee/moved3.png",
    "train/bee/5.png": "train/cat/moved5.png",
    "train/cat/7.png": "train/ant/moved7.png",
}
WRONG_TEST = {"test/ant/2.png": "test/cat/moved2.png"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three classes of 30 training and 8 test images that a colour tells apart; four lie in a wrong folder, one is noise."""
    root = tmp_path_factory.mktemp("planted")
    tinted_folders(root / "train", CLASSES, 30)
    tinted_folders(root / "test", CLASSES, 8, start=500)
    for old, new in (WRONG | WRONG_TEST).items():
        shutil.move(root / old, root / new)
    noise = np.random.default_rng(0).integers(0, 2, (24, 24, 3)).astype(np.uint8) * 255
    put(root / "train" / "ant" / "noise.png", encoded(Image.fromarray(noise), "PNG"))
    return root


@pytest.fixture(scope="module")
def inspected(folder, tiny_weights, tmp_path_factory):
    """The record, the folder that the command wrote, and what it said."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FROSTLINE_HOME", str(tmp_path_factory.mktemp("home")))
        out = tmp_path_factory.mktemp("inspection")
        arguments = ["inspect", str(folder), "--weights", str(tiny_weights), "--device", "cpu", "--out", str(out)]
        shown = CliRunner().invoke(app, arguments)
    assert shown.exit_code == 0, shown.output
    return json.loads((out / "audit.json").read_text()), out, " ".join(shown.output.split())


def test_planted_errors_are_called_likely(inspected):
    found = inspected[0]["label_errors"]
    assert (found["learned_from"], found["judged"], found["not_judged"]) == (["train"], 115, {})
    assert found["backbone"] == "timm:test_resnet"
    likely = {row["id"]: row for row in found["rows"] if row["likely"]}
    assert found["estimated"] == len(likely) <= 8
    wanted = {new: old.split("/")[1] for old, new in (WRONG | WRONG_TEST).items()}
    assert set(wanted) <= set(likely)
    for name, truth in wanted.items():
        row = likely[name]
        assert (row["split"], row["class"]) == tuple(name.split("/")[:2])
        assert row["suggested"] == truth or name in WRONG_TEST.values()  # a random network may mean another colour
        assert row["p_given"] < 0.5 < row["p_suggested"]
        assert row["score"] == pytest.approx(-np.log(row["p_given"]), abs=0.05)
    scores = [row["score"] for row in found["rows"]]
    assert scores == sorted(scores, reverse=True)


def test_an_image_and_its_mirror_have_the_same_features(folder, tiny_weights, tmp_path, monkeypatch):
    monkeypatch.setenv("FROSTLINE_HOME", str(tmp_path))
    mirrored = tmp_path / "mirrored"
    for place in sorted((folder / "test").rglob("*.png")):
        with Image.open(place) as image:
            put(mirrored / place.relative_to(folder / "test"), encoded(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), "PNG"))
    here, there = (load_source(str(place), training=False) for place in (folder / "test", mirrored))
    settings = Settings(backbone="timm:test_resnet", weights=str(tiny_weights), device="cpu", precision="f32")
    one, other = (features_of(list(source.sets.values()), settings) for source in (here, there))
    assert one.shape == other.shape == (24, one.shape[1])
    assert one.dtype == np.float32
    np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
    assert np.ptp(one, axis=0).max() > 0.01  # they do tell images apart


def test_the_table_the_picture_and_the_words(inspected):
    pytest.importorskip("matplotlib")
    record, out, said = inspected
    with open(out / "label_errors.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["id"] for row in rows] == [row["id"] for row in record["label_errors"]["rows"] if row["likely"]]
    assert {"id", "split", "class", "suggested", "score"} < set(rows[0])
    with Image.open(out / "label_errors.png") as image:
        assert image.size[0] > 300
    assert f"{len(rows)} of 115 labels may be wrong: heads trained on other images of train say another class." in said


def test_what_is_unlike_all_others_is_far(inspected):
    far = [row for row in inspected[0]["odd"] if row["what"] == "far"]
    assert "train/ant/noise.png" in {row["id"] for row in far}
    assert len(far) <= 3


def test_training_takes_the_table(folder, inspected):
    cut = load_data(folder)
    mended = edited(cut, "", str(inspected[1] / "label_errors.csv"))
    labels = dict(zip(mended.train.ids, mended.train.labels, strict=True)) | dict(
        zip(mended.validation.ids, mended.validation.labels, strict=True)
    )
    for old, new in WRONG.items():
        assert cut.classes[labels[new]] == old.split("/")[1]
    assert mended.test is cut.test
    assert mended.record["edits"]["relabel"]["left_in_test"] >= 1
    left = edited(cut, str(inspected[1] / "label_errors.csv"), "")
    assert not set(WRONG.values()) & {*left.train.ids, *left.validation.ids}


def images(name, labels, first=0, classes=("a", "b", "c")):
    n = len(labels)
    names = np.array([f"{name}/{i}" for i in range(n)])
    content = np.array([b"%016d" % (first + i) for i in range(n)], "S16")
    return ImageSet(name, classes, np.array(labels), names, content, pixels=np.zeros((n, 1, 1, 3), np.uint8))


def points(labels, seed=0):
    rng = np.random.default_rng(seed)
    return (np.eye(4)[np.array(labels)] * 4 + rng.normal(size=(len(labels), 4))).astype(np.float32)


def test_validation_is_learned_from_and_rare_classes_are_not_judged():
    train, validation, test = ([0, 1] * 20 + [2] * 2, [0, 1] * 5 + [2], [0, 1, 2])
    sets = [images("train", train), images("validation", validation, 100), images("test", test, 200)]
    found = label_errors(sets, [points(each, seed) for seed, each in enumerate((train, validation, test))])
    assert found["learned_from"] == ["train", "validation"]
    assert found["not_judged"] == {"c": 3}
    assert found["judged"] == 40 + 10 + 2
    assert found["accuracy"] > 0.9
    assert {row["class"] for row in found["rows"]} <= {"a", "b"}


def test_a_test_split_alone_is_judged_by_its_own_folds():
    labels = [0, 1] * 20
    found = label_errors([images("test", labels)], [points(labels)])
    assert (found["learned_from"], found["judged"]) == (["test"], 40)


def test_one_class_cannot_be_judged():
    found = label_errors([images("train", [0] * 20)], [points([0] * 20)])
    assert (found["judged"], found["estimated"], found["rows"]) == (0, 0, [])


def test_a_network_or_its_weights_are_named(tiny_weights):
    assert settings_for(None, None, None) is None
    assert settings_for("mobilenetv2", None, "cpu") == Settings(backbone="mobilenetv2", device="cpu")
    assert settings_for(None, str(tiny_weights), None).backbone == "timm:test_resnet"
    with pytest.raises(UserError, match="A device is for a network"):
        settings_for(None, None, "cpu")


def test_without_cleanlab_it_is_said_before_anything_is_extracted(monkeypatch):
    monkeypatch.setitem(sys.modules, "cleanlab.count", None)
    monkeypatch.setattr(features, "freeze", lambda *_: pytest.fail("extracted all the same"))
    with pytest.raises(UserError, match="cleanlab"):
        features.inspect(None, Settings())


def test_copies_in_other_bytes_do_not_vouch_for_each_other():
    train = images("train", [0] * 20 + [1] * 20)
    files = tuple(Path(f"{number}.png") for number in range(40))
    pixels = np.array([b"%015d" % (number // 2) + b"x" for number in range(40)], "S16")
    copies = replace(train, pixels=None, files=files, otherwise=pixels)
    (found,) = with_common_digests([copies])
    assert len(set(found.digests.tolist())) == 20
    assert (found.digests[::2] == found.digests[1::2]).all()
    (same,) = with_common_digests([train])
    assert same.digests.tolist() == train.digests.tolist()


def test_copies_in_a_split_of_images_of_several_sizes_are_known(tmp_path):
    """Training images of one size become arrays, known by their pixels; test images beside them are files, some of other sizes."""
    for name in ("a", "b"):
        for number in range(4):
            data = encoded(drawn(number + 10 * (name == "b"), 32, 32), "PNG")
            put(tmp_path / "train" / name / f"{number}.png", data)
            put(tmp_path / "test" / name / f"{number}.png", data)
    put(tmp_path / "test" / "a" / "large.png", encoded(drawn(99, 40, 40), "PNG"))
    sets = load_source(tmp_path).sets
    train, test = with_common_digests([sets["train"], sets["test"]])
    assert (sets["train"].pixels is not None, sets["test"].files is not None) == (True, True)
    assert np.isin(test.digests, train.digests).tolist() == [not str(name).endswith("large.png") for name in test.ids]
