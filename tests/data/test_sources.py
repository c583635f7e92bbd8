"""Folders, tables and the digits: what is found, what is left out, and in which order the classes stand."""

from pathlib import Path

import numpy as np
import pytest
from drawing import class_folders, drawn, encoded, put
from PIL import Image

from frostline.data.imageset import UNKNOWN, Source
from frostline.data.rows import natural_order, pixel_digests, shown
from frostline.data.sources import load_source
from frostline.data.splits import split
from frostline.errors import UserError
from frostline.files import digest_file


def adds_up(source: Source) -> bool:
    return source.found == sum(map(len, source.sets.values())) + len(source.rejects)


def test_digits() -> None:
    pytest.importorskip("sklearn")
    source = load_source("digits")
    train = source.sets["train"]
    assert list(source.sets) == ["train"]
    assert train.classes == tuple("0123456789")
    assert train.pixels is not None
    assert train.pixels.shape == (1797, 8, 8, 3)
    assert train.pixels[0, 0, :, 0].tolist() == [0, 0, 80, 207, 143, 16, 0, 0]  # 0 0 5 13 9 1 0 0 of 16
    assert train.labels[:5].tolist() == [0, 1, 2, 3, 4]
    assert adds_up(source)
    assert not source.official


def test_sizes_of_photos_come_from_the_one_check_of_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frostline.data.statindex._SETTLED_NS", 0)  # files that are new are looked at again otherwise
    for number, (height, width) in enumerate([(80, 120), (300, 90), (80, 100)]):
        put(tmp_path / "ab"[number % 2] / f"{number}.png", encoded(drawn(number, height, width), "PNG"))
    train = load_source(tmp_path).sets["train"]
    sides = {"a/0.png": [80, 120], "a/2.png": [80, 100], "b/1.png": [300, 90]}
    assert train.sides is not None
    assert train.lengths is not None
    assert dict(zip(train.ids.tolist(), train.sides.tolist(), strict=True)) == sides
    lengths = [(tmp_path / name).stat().st_size for name in train.ids]
    assert train.lengths.tolist() == lengths
    assert train.take([2, 0]).sides.tolist() == [sides["b/1.png"], sides["a/0.png"]]  # type: ignore[union-attr]
    assert train.take([2, 0]).lengths.tolist() == [lengths[2], lengths[0]]  # type: ignore[union-attr]
    monkeypatch.setattr("frostline.data.statindex.read_file", lambda path: pytest.fail(f"{path} was opened again"))
    again = load_source(tmp_path).sets["train"]
    assert np.array_equal(again.sides, train.sides)  # type: ignore[arg-type]
    assert np.array_equal(again.lengths, train.lengths)  # type: ignore[arg-type]


def test_small_images_of_one_size_know_their_files(tmp_path: Path) -> None:
    class_folders(tmp_path, {"a": 2, "b": 1}, height=20, width=30)
    train = load_source(tmp_path).sets["train"]
    assert (train.size, train.sides) == ((20, 30), None)
    assert train.lengths is not None
    assert train.lengths.tolist() == [(tmp_path / name).stat().st_size for name in train.ids]


def test_natural_order() -> None:
    assert natural_order(["10", "2", "img10", "img9", "B", "a", "007", "7", "é"]) == (
        "2",
        "007",
        "7",
        "10",
        "a",
        "B",
        "img9",
        "img10",
        "é",
    )


def test_shown_is_printable_and_tells_paths_apart() -> None:
    assert shown("a b/ä.jpg") == "a b/ä.jpg"
    assert shown("a\nb") == r"a\nb"
    assert shown("a\\nb") == r"a\\nb"
    assert shown("\udcff") == r"\udcff"


def test_class_folders(tmp_path: Path) -> None:
    class_folders(tmp_path, {"10": 2, "2": 3, "dogs": 1})
    put(tmp_path / "2" / "deeper" / "x.png", encoded(drawn(50), "PNG"))
    source = load_source(tmp_path)
    train = source.sets["train"]
    assert train.classes == ("2", "10", "dogs")
    assert train.ids.tolist() == ["10/0.jpg", "10/1.jpg", "2/0.jpg", "2/1.jpg", "2/2.jpg", "2/deeper/x.png", "dogs/0.jpg"]
    assert train.labels.tolist() == [1, 1, 0, 0, 0, 0, 2]
    assert train.files is not None
    assert train.files[0] == tmp_path / "10" / "0.jpg"
    assert train.digests[0] == bytes.fromhex(digest_file(tmp_path / "10" / "0.jpg"))
    assert train.pixels is None
    assert adds_up(source)


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Train", "valid", "TEST"), ("training", "validation", "testing")])
def test_split_folders(tmp_path: Path, names: tuple[str, str, str]) -> None:
    for number, name in enumerate(names):
        class_folders(tmp_path / name, {"a": 2, "b": 1}, start=10 * number)
    source = load_source(tmp_path)
    assert {name: images.labels.tolist() for name, images in source.sets.items()} == {
        "train": [0, 0, 1],
        "validation": [0, 0, 1],
        "test": [0, 0, 1],
    }
    assert source.sets["test"].ids[0] == f"{names[2]}/a/0.jpg"


def test_a_class_that_test_lacks_moves_no_label(tmp_path: Path) -> None:
    class_folders(tmp_path / "train", {"a": 1, "b": 1, "c": 1})
    class_folders(tmp_path / "test", {"b": 1, "c": 2}, start=10)
    source = load_source(tmp_path)
    assert source.sets["test"].classes == ("a", "b", "c")
    assert source.sets["test"].labels.tolist() == [1, 2, 2]


def test_a_class_that_train_lacks(tmp_path: Path) -> None:
    class_folders(tmp_path / "train", {"a": 1, "c": 1})
    class_folders(tmp_path / "val", {"b": 1, "c": 1}, start=10)
    class_folders(tmp_path / "test", {"b": 2, "c": 1}, start=20)
    with pytest.raises(UserError, match="'b'") as caught:
        load_source(tmp_path)
    assert "--unknown-as-wrong" in str(caught.value)
    source = load_source(tmp_path, unknown_as_wrong=True)
    assert source.sets["test"].labels.tolist() == [UNKNOWN, UNKNOWN, 1]
    assert source.sets["validation"].labels.tolist() == [1]
    assert [(reject.path, "unknown to training" in reject.reason) for reject in source.rejects] == [("val/b/0.jpg", True)]
    assert adds_up(source)


def test_small_images_of_one_size_become_arrays(tmp_path: Path) -> None:
    for name, count in (("a", 2), ("b", 1)):
        for number in range(count):
            put(tmp_path / name / f"{number}.png", encoded(drawn(number + count, 24, 32), "PNG"))
    train = load_source(tmp_path).sets["train"]
    assert train.pixels is not None
    assert train.size == (24, 32)
    assert np.array_equal(train.pixels[2], np.asarray(drawn(1, 24, 32)))
    assert np.array_equal(train.digests, pixel_digests(train.pixels))
    assert load_source(tmp_path, small=31).sets["train"].files is not None
    put(tmp_path / "b" / "9.png", encoded(drawn(9, 24, 33), "PNG"))
    assert load_source(tmp_path).sets["train"].files is not None


def test_test_images_do_not_decide_what_those_of_training_are(tmp_path: Path) -> None:
    class_folders(tmp_path / "data" / "train", {"a": 3, "b": 3}, height=20, width=16)
    alone = load_source(tmp_path / "data").sets["train"]
    same = Image.open(tmp_path / "data" / "train" / "a" / "0.jpg")
    put(tmp_path / "data" / "test" / "a" / "same.png", encoded(same, "PNG"))
    put(tmp_path / "data" / "test" / "b" / "other.png", encoded(drawn(50, 20, 16), "PNG"))
    put(tmp_path / "data" / "test" / "b" / "larger.png", encoded(drawn(51, 21, 16), "PNG"))
    for training in (True, False):
        source = load_source(tmp_path / "data", training=training)
        train, test = source.sets["train"], source.sets["test"]
        assert train.fingerprint == alone.fingerprint
        np.testing.assert_array_equal(train.pixels, alone.pixels)
        assert [path.name for path in test.files or ()] == ["same.png", "larger.png", "other.png"]
        assert "test: not all of its images are 16×20 pixels, as those of training are; they are brought to that." in source.notes
        # of the arrays' size they are told by their pixels, so that an image of train is not judged again
        assert test.digests[0] == train.digests[0]
        assert split(source, validation_fraction=0.3).test.ids.tolist() == test.ids[1:].tolist()  # type: ignore[union-attr]


def test_validation_decides_too_and_test_alone_may(tmp_path: Path) -> None:
    class_folders(tmp_path / "train", {"a": 2, "b": 2}, height=20, width=16)
    class_folders(tmp_path / "val", {"a": 1, "b": 1}, start=10, height=20, width=17)
    assert load_source(tmp_path).sets["train"].files is not None
    class_folders(tmp_path / "held" / "test", {"a": 2}, height=20, width=16)
    assert load_source(tmp_path / "held", training=False).sets["test"].pixels is not None


def test_small_images_are_known_in_both_ways(tmp_path: Path) -> None:
    class_folders(tmp_path / "data", {"a": 2, "b": 2}, height=20, width=16)
    arrays = load_source(tmp_path / "data").sets["train"]
    put(tmp_path / "data" / "b" / "large.png", encoded(drawn(50, 90, 90), "PNG"))
    put(tmp_path / "data" / "b" / "larger.png", encoded(drawn(51, 20, 17), "PNG"))
    photos = load_source(tmp_path / "data").sets["train"]
    assert photos.files is not None
    assert not set(photos.digests.tolist()) & set(arrays.digests.tolist())
    for one, other in ((arrays, photos), (photos, arrays)):
        both = [bytes(digest).ljust(16, b"\0") for digest in other.digests]
        known = one.among(both)
        assert known.tolist() == [True] * 4 + [False] * (len(one) - 4)
        assert one.take([3, 0]).among(both).all()
        assert not one.among(set()).any()


def test_equal_pixels_have_equal_digests_whatever_their_file(tmp_path: Path) -> None:
    put(tmp_path / "a" / "0.png", encoded(drawn(1, 8, 8), "PNG"))
    put(tmp_path / "b" / "0.bmp", encoded(drawn(1, 8, 8), "BMP"))
    digests = load_source(tmp_path).sets["train"].digests
    assert digests[0] == digests[1]
    turned = np.zeros((1, 2, 8, 3), dtype=np.uint8)
    assert pixel_digests(turned)[0] != pixel_digests(turned.reshape(1, 8, 2, 3))[0]


def test_empty_classes_and_other_files_are_said(tmp_path: Path) -> None:
    class_folders(tmp_path, {"a": 1, "b": 1})
    (tmp_path / "empty").mkdir()
    for name in ("a/notes.txt", "a/more.txt", "b/.DS_Store", "b/Thumbs.db", "labels.json"):
        put(tmp_path / name, b"hello")
    put(tmp_path / "a" / "no ending", encoded(drawn(30)))
    source = load_source(tmp_path)
    assert source.sets["train"].classes == ("a", "b")
    assert source.sets["train"].ids.tolist() == ["a/0.jpg", "a/no ending", "b/0.jpg"]
    assert source.notes == (
        "2 hidden files or folders were not looked at.",
        "3 files that are no images were left aside: .txt (2), .json (1).",
        "The class folder 'empty' holds no usable image; it is not a class.",
    )
    assert adds_up(source)


def test_a_class_called_train_is_a_class(tmp_path: Path) -> None:
    class_folders(tmp_path, {"bus": 1, "car": 1, "train": 1})
    assert load_source(tmp_path).sets["train"].classes == ("bus", "car", "train")


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (["cats", "dogs", "test"], "no train/ folder"),
        (["test/cats", "val/cats"], "no usable training image"),
        (["train/a", "val/a", "validation/a"], "two folders for one split"),
        (["only"], "single class"),
        (["images", "labels"], "YOLO"),
        (["train/images", "train/labels"], "YOLO"),
        (["JPEGImages", "Annotations"], "Pascal VOC"),
        (["images", "masks"], "segmentation"),
        (["train/a", "train/b", "train/_annotations.coco.json"], "COCO"),
    ],
)
def test_layouts_that_are_refused_by_name(tmp_path: Path, folders: list[str], message: str) -> None:
    for number, name in enumerate(folders):
        if name.endswith(".json"):
            put(tmp_path / name, b"{}")
        else:
            class_folders(tmp_path, {name: 1}, start=number)
    with pytest.raises(UserError, match=message):
        load_source(tmp_path)


def test_a_flat_folder_says_what_it_looks_like(tmp_path: Path) -> None:
    put(tmp_path / "0.jpg", encoded(drawn(0)))
    with pytest.raises(UserError, match="no class folders"):
        load_source(tmp_path)
    put(tmp_path / "0.txt", b"0 0.5 0.5 0.1 0.1")
    with pytest.raises(UserError, match="looks like object detection in YOLO"):
        load_source(tmp_path)


def test_folders_beside_train_are_said(tmp_path: Path) -> None:
    class_folders(tmp_path / "train", {"a": 1, "b": 1})
    class_folders(tmp_path / "extra", {"a": 1})
    assert "Not looked at, because train/ stands beside it: extra/." in load_source(tmp_path).notes


def test_strict_lists_all_that_would_be_left_out(tmp_path: Path) -> None:
    class_folders(tmp_path, {"a": 1, "b": 1})
    assert load_source(tmp_path, strict=True).rejects == ()
    for number in range(12):
        put(tmp_path / "a" / f"bad{number:02d}.jpg", b"")
    with pytest.raises(UserError, match="12 of 14 images") as caught:
        load_source(tmp_path, strict=True)
    assert [line.strip() for line in caught.value.message.splitlines()[1:]] == [
        f"a/bad{number:02d}.jpg: empty: zero bytes" for number in range(12)
    ]


@pytest.mark.parametrize(
    ("name", "message"), [("cifar11", "did you mean cifar10"), ("photos/none", "no such folder"), ("digit", "digits")]
)
def test_unknown_data(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_source(name)


def test_other_files_are_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'\.jpg'"):
        load_source(put(tmp_path / "a.jpg", encoded(drawn(0))))
    with pytest.raises(UserError, match="Groups need a table"):
        load_source(tmp_path, group="patient")


def test_a_second_load_is_the_same(tmp_path: Path) -> None:
    class_folders(tmp_path, {"a": 3, "b": 3})
    put(tmp_path / "a" / "bad.jpg", b"")
    first, second = load_source(tmp_path), load_source(tmp_path)
    assert first.sets["train"].fingerprint == second.sets["train"].fingerprint
    assert first.rejects == second.rejects


def test_a_folder_that_is_called_as_a_data_set_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_source("digits").notes == ()
    (tmp_path / "digits").mkdir()
    assert "./digits is for the folder" in load_source("digits").notes[-1]
