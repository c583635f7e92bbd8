"""Images left out and relabelled by files: what changes, what does not, and every mistake in such a file."""

import json
from dataclasses import replace

import numpy as np
import pytest
from drawing import class_folders, tinted_folders

from frostline.config import Settings
from frostline.data.edits import described, edited
from frostline.data.imageset import ImageSet, Splits
from frostline.errors import UserError
from frostline.experiment import load_data, train
from frostline.feature_cache import raw
from frostline.judge import evaluate
from frostline.model_card import read_card, seen_digests
from frostline.runs import Run
from frostline.verified import verified

CLASSES = ("ant", "bee", "cat")


def images(name, labels, first=0):
    """A set of one-pixel images whose ids say where they are."""
    n = len(labels)
    pixels = (np.arange(first, first + n, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 1, 3), np.uint8)).astype(np.uint8)
    digests = np.array([b"%016d" % (first + i) for i in range(n)], "S16")
    return ImageSet(name, CLASSES, np.array(labels, np.int64), np.array([f"{name}/{i}" for i in range(n)]), digests, pixels=pixels)


@pytest.fixture
def splits():
    sets = (images("train", [0, 0, 1, 1, 2, 2]), images("validation", [0, 1, 2], 10), images("test", [0, 1, 2], 20))
    fingerprints = {each.name: each.fingerprint for each in sets}
    dropped = {"test, identical to images in train": {"images": 1, "ids": ["test/9"]}}
    return Splits(*sets, {"source": "drawn", "fingerprints": fingerprints, "counts": {}, "notes": ["as cut"], "dropped": dropped})


@pytest.fixture
def file(tmp_path):
    def write(text, name="edits.csv"):
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write


def test_nothing_asked_changes_nothing(splits):
    assert edited(splits, "", "") is splits
    assert described(splits) == {"fingerprints": {name: getattr(splits, name).fingerprint for name in ("train", "validation")}}


def test_images_are_left_out_of_train_and_validation_and_not_of_test(splits, file):
    found = edited(splits, file("id\ntrain/1\nvalidation/0\ntest/2\ntrain/1\ntest/9\n"), "")
    assert found.train.ids.tolist() == ["train/0", "train/2", "train/3", "train/4", "train/5"]
    assert found.validation.ids.tolist() == ["validation/1", "validation/2"]
    assert found.test is splits.test
    about = found.record["edits"]["exclude"]
    assert {key: about[key] for key in ("file", "rows", "train", "validation", "left_in_test", "not_there")} == {
        "file": "edits.csv",
        "rows": 5,
        "train": 1,
        "validation": 1,
        "left_in_test": 1,
        "not_there": 1,  # the split had left it out already
    }
    assert len(about["digest"]) == 32
    assert found.record["counts"]["train"] == {"images": 5, "classes": {"ant": 1, "bee": 2, "cat": 2}}
    assert found.record["fingerprints"] == splits.record["fingerprints"]  # those of the cut
    assert found.record["edits"]["fingerprints"]["train"] == found.train.fingerprint
    assert found.record["notes"] == [
        "as cut",
        "1 images of train and 1 of validation were left out, as edits.csv says.",
        "1 images of test stand in edits.csv and stay as they are: a test split is not mended by what a model says of it.",
    ]


def test_images_get_another_class(splits, file):
    text = "id,split,class,suggested,score\ntrain/1,train,ant, bee ,0.9\ntrain/2,train,bee,bee,0.8\ntest/0,test,ant,cat,0.7\n"
    found = edited(splits, "", file(text))
    assert found.train.labels.tolist() == [0, 1, 1, 1, 2, 2]
    assert splits.train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert found.test.labels.tolist() == [0, 1, 2]
    about = found.record["edits"]["relabel"]
    assert (about["rows"], about["train"], about["validation"], about["left_in_test"]) == (3, 1, 0, 1)  # the second was a bee


def test_an_image_in_both_files_is_left_out(splits, file):
    found = edited(splits, file("id\ntrain/1\n", "out.csv"), file("id,suggested\ntrain/1,cat\nvalidation/2,bee\n", "new.csv"))
    assert (len(found.train), found.validation.labels.tolist()) == (5, [0, 1, 1])
    edits = found.record["edits"]
    assert (edits["exclude"]["train"], edits["relabel"]["train"], edits["relabel"]["validation"]) == (1, 0, 1)


def test_the_card_says_nothing_of_the_test_split(splits, file):
    path = file("id\ntrain/1\n")
    with_test, without = (described(edited(each, path, "")) for each in (splits, replace(splits, test=None)))
    assert with_test == without
    assert with_test["fingerprints"]["train"] == splits.train.fingerprint
    assert set(with_test["edits"]["exclude"]) == {"digest", "train", "validation"}


def test_edited_once_and_by_the_same_files(splits, file):
    path = file("id\ntrain/1\n")
    once = edited(splits, path, "")
    assert edited(once, path, "") is once
    with pytest.raises(UserError, match="edited by other files already"):
        edited(once, file("id\ntrain/2\n", "other.csv"), "")


def test_a_split_column_tells_images_of_one_name_apart(splits, file):
    same = replace(splits, validation=replace(splits.validation, ids=np.array(["train/0", "b", "c"])))
    with pytest.raises(UserError, match="could mean several images") as caught:
        edited(same, file("id\ntrain/0\n"), "")
    assert "a column split" in caught.value.hint
    found = edited(same, file("id,split\ntrain/0,val\n", "with split.csv"), "")
    assert (len(found.train), found.validation.ids.tolist()) == (6, ["b", "c"])


def test_photos_are_found_by_their_path_as_well(tmp_path, file, monkeypatch):
    root = class_folders(tmp_path / "photos", {"a": 12, "b": 12})
    found = load_data(root)
    name = str(found.train.files[3])
    assert len(edited(found, file(f"path\n{name}\n"), "").train) == len(found.train) - 1
    beside = found.train.files[4].relative_to(tmp_path)
    assert len(edited(found, file(f"path\n{beside}\n", "beside.csv"), "").train) == len(found.train) - 1


@pytest.mark.parametrize(
    ("kind", "text", "message", "told"),
    [
        ("exclude", "", "is empty", "a header with id"),
        ("exclude", "id\n", "names no image", "a header with id"),
        ("exclude", "name\ntrain/1\n", "no column 'id'", "name"),
        ("exclude", "id,id\na,b\n", "two columns of one name", "'id'"),
        ("exclude", "id\ntrain/77\n", "edits.csv:2 names an image that the data does not have", "'train/77'"),
        ("exclude", "id,split\ntrain/1,holdout\n", "unknown split", "holdout"),
        ("exclude", "id,split\ntrain/1\n", "not as long as its header", "1 fields in edits.csv:2"),
        ("exclude", 'id\n"train/1\n', "Cannot read", "every opened quote closed"),
        ("exclude", "id\ntrain/0\ntrain/1\n", "no training image of ant", "at least one image of each class"),
        ("exclude", "id\nvalidation/0\nvalidation/1\nvalidation/2\n", "no validation image", "fewer images"),
        ("relabel", "id\ntrain/1\n", "no column 'suggested'", "id and suggested"),
        ("relabel", "id,suggested\ntrain/1,\n", "names no new class", "fill it in"),
        ("relabel", "id,suggested\n,bee\n", "names no image", "fill it in"),
        ("relabel", "id,suggested\ntrain/1,beee\n", "a class that the data does not have", "did you mean bee"),
        ("relabel", "id,suggested\ntrain/1,bee\ntrain/1,cat\n", "gives one image two classes", "'bee' and 'cat'"),
        ("relabel", "id,suggested\ntrain/0,bee\ntrain/1,bee\n", "no training image of ant", "fewer images"),
    ],
)
def test_mistakes_are_said(splits, file, kind, text, message, told):
    paths = {"exclude": "", "relabel": "", kind: file(text)}
    with pytest.raises(UserError, match=message) as caught:
        edited(splits, **paths)
    assert told in str(caught.value)


def test_a_file_that_is_not_there(splits, tmp_path):
    with pytest.raises(UserError, match="Cannot read"):
        edited(splits, str(tmp_path / "nothing.csv"), "")


# in a run


QUICK = Settings(recipe="tiny", kind="scratch", network="cnn-small", epochs=1, batch_size=20, device="cpu", precision="f32")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return tinted_folders(tmp_path_factory.mktemp("data"), list(CLASSES), 20)


@pytest.fixture
def edits(tmp_path, folders):
    """Of the split that seed 0 cuts: one training image to leave out, one to relabel, and one of test in each file."""
    cut = load_data(folders, QUICK)
    out, new, test = cut.train.ids[0], cut.train.ids[-1], cut.test.ids[0]
    (tmp_path / "out.csv").write_text(f"id\n{out}\n{test}\n")
    (tmp_path / "new.csv").write_text(f"id,suggested\n{new},ant\n{test},cat\n")
    return cut, QUICK.with_values(exclude=str(tmp_path / "out.csv"), relabel=str(tmp_path / "new.csv"))


def test_a_run_records_its_edits_and_can_be_judged_on_its_own_data(folders, edits, tmp_path, without_pictures, capsys):
    cut, settings = edits
    run = train(folders, settings, tmp_path / "run")
    data, card = run.read("data.json"), read_card(run.model_folder).values
    assert data["edits"]["exclude"]["train"] == card["data"]["edits"]["exclude"]["train"] == 1
    assert data["edits"]["relabel"]["digest"] == card["data"]["edits"]["relabel"]["digest"]
    assert str(tmp_path) not in json.dumps(card)
    assert run.read("settings.json")["exclude"] == settings.exclude
    assert run.predictions("test").labels.tolist() == cut.test.labels.tolist()
    capsys.readouterr()
    for name in ("train", "validation", "test"):
        predictions, scores = evaluate(run.folder, folders, name)
        assert predictions.ids.tolist() == getattr(cut, name).ids.tolist()
        assert scores["seen_in_training"] == {"train": len(cut.train) - 1, "validation": len(cut.validation), "test": 0}[name]
        assert ("judged as the data has them" in capsys.readouterr().err) == (name != "test")
    seen = seen_digests(run.model_folder)
    assert [raw(digest) in seen for digest in cut.train.digests[[0, -1]]] == [False, True]


def test_validation_that_was_edited_is_that_of_the_record(folders, tmp_path, without_pictures):
    cut = load_data(folders, QUICK).validation
    (tmp_path / "out.csv").write_text(f"id\n{cut.ids[0]}\n")
    (tmp_path / "new.csv").write_text(f"id,suggested\n{cut.ids[1]},{cut.classes[(cut.labels[1] + 1) % len(cut.classes)]}\n")
    settings = QUICK.with_values(exclude=str(tmp_path / "out.csv"), relabel=str(tmp_path / "new.csv"))
    run = train(folders, settings, tmp_path / "run")
    judged = verified(Run.open(run.folder), "validation")
    assert judged.ids.tolist() == cut.ids[1:].tolist()
    assert judged.labels[0] != cut.labels[1]


def test_a_run_goes_on_only_with_the_files_it_began_with(folders, edits, tmp_path, without_pictures):
    _, settings = edits
    run = Run(tmp_path / "run")
    run.folder.mkdir()
    with Run.create(run.folder) as begun:
        begun.write_settings(settings)
        begun.write_data(load_data(folders, settings).record)
    with open(settings.exclude, "a") as stream:
        stream.write("\n")  # nothing that matters, and yet another file
    with pytest.raises(UserError, match="files of --exclude and --relabel are not those that the run began with"):
        train(folders, settings, run.folder, resume=True)
