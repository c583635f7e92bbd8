"""Whether an inspection is of a run's data, and which of its pairs the run has cut into two splits."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawing import class_folders, encoded, put
from PIL import Image

from frostline.auditing.audit import inspect
from frostline.data.edits import edited
from frostline.data.imageset import ImageSet, Splits
from frostline.data.sources import load_source
from frostline.data.splits import split
from frostline.drawn import drawn_images
from frostline.errors import UserError
from frostline.predictions import Predictions
from frostline.reporting.inspected import Across, across, read

Record = dict[str, Any]


def said(images: ImageSet, n: int | None = None) -> Predictions:
    """Predictions of the first n images of a split."""
    n = len(images) if n is None else n
    p = np.full((n, len(images.classes)), 1 / len(images.classes))
    return Predictions(images.ids[:n], images.labels[:n], p, images.classes, images.digests[:n])


def predictions(splits: Splits) -> dict[str, Predictions]:
    assert splits.test is not None
    return {"validation": said(splits.validation), "test": said(splits.test)}


def saved(record: Record, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "audit.json").write_text(json.dumps(record))
    return folder


def data_of(splits: Splits) -> Record:
    """As a run keeps it."""
    kept: Record = json.loads(json.dumps(splits.record))
    return kept


@pytest.fixture(scope="module")
def bursts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of twelve photos, each there a second time as another file: one folder without declared splits."""
    root = tmp_path_factory.mktemp("bursts")
    for number, image in enumerate(drawn_images(24, 60, 80, seed=2)):
        put(root / "ab"[number % 2] / f"{number}.png", encoded(Image.fromarray(image), "PNG"))
        put(root / "ab"[number % 2] / f"{number} again.jpg", encoded(Image.fromarray(image), "JPEG", quality=60))
    return root


def test_bursts_that_a_run_cut_apart_are_counted_though_the_data_declare_one_split(bursts: Path) -> None:
    record = inspect(load_source(bursts, training=False))
    splits = split(load_source(bursts), validation_fraction=0.25)
    found = across(record, data_of(splits), predictions(splits))
    assert splits.test is not None
    where = {name: part.name for part in (splits.train, splits.validation, splits.test) for name in part.ids.tolist()}
    twins = [(name, name.replace(" again.jpg", ".png")) for name in where if " again" in name]
    apart = [pair for pair in twins if where[pair[0]] != where[pair[1]]]
    assert record["across"] == 0
    assert len(apart) > 3
    assert found is not None
    assert found.pairs == len(apart) + sum(
        where[pair["a"]] != where[pair["b"]] for pair in record["duplicates"] if {pair["a"], pair["b"]} not in map(set, twins)
    )
    assert found.test >= {name for pair in apart for name in pair if where[name] == "test"}
    assert found.untold == ()


CLASSES = {"a": 3, "b": 3}


def pairs(*ends: tuple[str, str]) -> Record:
    """An inspection of pairs, each end as "split:id"."""
    rows = []
    for a, b in ends:
        (split_a, name_a), (split_b, name_b) = a.split(":"), b.split(":")
        rows.append({"a": name_a, "split_a": split_a, "class_a": name_a[0], "b": name_b, "split_b": split_b, "class_b": name_b[0]})
    return {"source": "drawn", "splits": {}, "duplicates": rows, "across": 0}


def rows(*names: str) -> Predictions:
    n = len(names)
    digests = np.array([name.encode() for name in names], "S16")
    return Predictions(np.array(names), np.zeros(n, np.int64), np.full((n, 2), 0.5), ("a", "b"), digests)


def told(**cut: int) -> Record:
    """A run's record of its data."""
    counts = {name: {"images": 2, "classes": dict(CLASSES)} for name in ("train", "validation", "test")}
    return {"counts": counts, "cut": {name: {"from": "train", "images": images} for name, images in cut.items()}, "dropped": {}}


BOTH = {"validation": rows("a2", "b2"), "test": rows("a3", "b3")}


def test_pairs_are_placed_by_the_ids_of_what_was_cut() -> None:
    inspection = pairs(("train:a1", "train:a2"), ("train:a2", "train:b2"), ("train:a3", "train:b2"), ("train:b1", "train:a1"))
    assert across(inspection, told(validation=2, test=2), BOTH) == Across(2, frozenset({"a3"}), ())


def test_an_id_of_a_declared_split_is_not_looked_for_among_those_that_were_cut_from_train() -> None:
    inspection = pairs(("train:a3", "train:a1"), ("test:a3", "train:a3"), ("test:a3", "test:a2"), ("test:a2", "train:a2"))
    assert across(inspection, told(validation=2), BOTH) == Across(2, frozenset({"a3", "a2"}), ())
    declared = pairs(("validation:a2", "train:a2"), ("validation:c1", "train:a1"), ("validation:a2", "validation:b2"))
    assert across(declared, told(), BOTH) == Across(1, frozenset(), ())  # no class c: that image is in no split of the run


def test_what_is_in_no_split_counts_for_none() -> None:
    inspection = pairs(("train:a1", "test:a3"), ("train:b1", "test:b3"), ("train:b2", "test:b3"))
    data = told(validation=2)
    data["dropped"] = {"test, identical to images in train": {"images": 1, "ids": ["a3"]}}
    assert across(inspection, data, BOTH) == Across(2, frozenset({"b3"}), ())
    data |= {"edits": {"exclude": {"train": 1}}, "excluded": {"train": ["b1"], "validation": []}}
    assert across(inspection, data, BOTH) == Across(1, frozenset({"b3"}), ())
    assert across(pairs(("train:b2", "test:b3")), data | {"excluded": {"validation": ["b2"]}}, BOTH) == Across(0, frozenset(), ())


def test_where_a_run_does_not_tell_nothing_is_said() -> None:
    inspection, data = pairs(("train:a1", "train:a3")), told(validation=2, test=2)
    assert across({}, data, BOTH) is None
    assert across(inspection, {key: data[key] for key in ("counts", "dropped")}, BOTH) is None
    assert across(inspection, data, {"validation": BOTH["validation"]}) is None
    assert across(inspection, data | {"edits": {"exclude": {"train": 1}}}, BOTH) is None  # which ones is not known


def test_where_validation_was_looked_at_in_part_only_pairs_with_test_are_sure() -> None:
    inspection = pairs(("train:a1", "train:a2"), ("train:a1", "train:a3"), ("train:b2", "train:a3"), ("train:a2", "train:b3"))
    found = across(inspection, told(validation=2, test=2), {**BOTH, "validation": rows("a2")})
    assert found is not None
    assert (found.pairs, found.test, found.least) == (3, frozenset({"a3", "b3"}), "at least ")
    assert found.untold[0].startswith("The run looked at a part of validation")


def test_pairs_that_an_inspection_does_not_list_may_be_across() -> None:
    found = across(pairs() | {"left_out": 1200}, told(validation=2, test=2), BOTH)
    assert found is not None
    assert (found.pairs, found.least) == (0, "at least ")
    assert found.untold == ("In which splits of the run the pairs that are not listed stand is not known.",)
    assert Across(1, frozenset(), ()).least == ""


@pytest.fixture(scope="module")
def strange(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Declared train and test, with classes in test and validation that training lacks."""
    root = tmp_path_factory.mktemp("strange")
    class_folders(root / "train", {"a": 5, "c": 4})
    class_folders(root / "val", {"b": 1, "c": 2}, start=20)
    class_folders(root / "test", {"a": 1, "b": 2, "c": 1}, start=40)
    return root


def test_an_inspection_of_data_with_classes_that_training_lacks_is_of_them(strange: Path, tmp_path: Path) -> None:
    record = inspect(load_source(strange, training=False))
    data = data_of(split(load_source(strange, unknown_as_wrong=True)))
    assert set(record["splits"]["test"]["classes"]) == {"a", "b", "c"}
    assert set(data["counts"]["test"]["classes"]) == {"a", "c"}
    found, pictures, notes = read(saved(record, tmp_path), {"run": data})
    assert (found["source"], pictures, notes) == (str(strange), {}, ())
    older = {key: value for key, value in record.items() if key != "fingerprints"}
    assert read(saved(older, tmp_path / "older"), {"run": data})[2] == (
        "Contents could not be compared with run's data, for one of the two keeps no fingerprint; classes and counts fit.",
    )
    del data["source_fingerprints"]
    assert read(tmp_path, {"run": data})[2] == (
        "The contents of train, validation and test are those of run's data; of the rest of the inspection only classes and "
        "counts could be compared with them, and fit.",
    )


def test_other_images_of_the_same_classes_are_other_data(tmp_path: Path) -> None:
    ours, theirs = (class_folders(tmp_path / name, {"a": 9, "b": 9}, start=start) for name, start in (("ours", 0), ("theirs", 50)))
    data = data_of(split(load_source(ours)))
    assert read(saved(inspect(load_source(ours, training=False)), tmp_path / "good"), {"run": data})[2] == ()
    other = saved(inspect(load_source(theirs, training=False)), tmp_path / "other")
    with pytest.raises(UserError, match="is of other data than the runs: ") as refused:
        read(other, {"run": data})
    assert refused.value.expected.startswith("the fingerprint of train of run: ")
    moved = class_folders(tmp_path / "moved", {"a": 9, "b": 9})
    (moved / "a" / "0.jpg").rename(moved / "b" / "10.jpg")  # the same images, one of another class
    with pytest.raises(UserError, match="is of other data"):
        read(saved(inspect(load_source(moved, training=False)), tmp_path / "relabelled"), {"run": data})


def test_a_part_of_the_data_is_other_data(strange: Path, tmp_path: Path) -> None:
    data = data_of(split(load_source(strange, unknown_as_wrong=True)))
    record = inspect(load_source(strange, training=False))
    part = record | {"splits": {"train": record["splits"]["train"]}, "fingerprints": {"train": record["fingerprints"]["train"]}}
    with pytest.raises(UserError, match="is of other data") as refused:
        read(saved(part, tmp_path), {"run": data})
    assert (refused.value.expected, refused.value.received) == (
        "the images of run: 4 in test, 9 in train, 2 in validation",
        "9 in train",
    )


def test_counts_fit_after_images_were_cut_left_out_and_relabelled(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "data" / "train", {"a": 20, "b": 20}).parent
    class_folders(folder / "test", {"a": 3, "b": 3}, start=50)
    put(folder / "test" / "a" / "copy.jpg", (folder / "train" / "a" / "0.jpg").read_bytes())
    splits = split(load_source(folder))
    (tmp_path / "out.csv").write_text(f"id\n{splits.train.ids[0]}\n{splits.validation.ids[0]}\n")
    (tmp_path / "new.csv").write_text(f"id,suggested\n{splits.train.ids[1]},b\n")
    record = inspect(load_source(folder, training=False))
    del record["fingerprints"]
    for exclude, relabel in (("", ""), ("out.csv", ""), ("out.csv", "new.csv")):
        names = [str(tmp_path / name) if name else "" for name in (exclude, relabel)]
        data = data_of(edited(splits, *names))
        assert len(read(saved(record, tmp_path / "good"), {"run": data})[2]) == 1
    assert data["excluded"] == {"train": [str(splits.train.ids[0])], "validation": [str(splits.validation.ids[0])]}
    other = json.loads(json.dumps(record))
    other["splits"]["test"]["classes"]["a"] -= 1
    with pytest.raises(UserError, match="is of other data"):
        read(saved(other, tmp_path / "other"), {"run": data})
    moved = json.loads(json.dumps(record))
    moved["splits"]["train"]["classes"] = {"a": 4, "b": 36}
    with pytest.raises(UserError, match="is of other data") as refused:
        read(saved(moved, tmp_path / "moved"), {"run": data_of(splits)})
    assert "of class a" in refused.value.expected


def test_an_imported_model_is_compared_by_what_it_was_judged_on(strange: Path, tmp_path: Path) -> None:
    record = inspect(load_source(strange, training=False))
    data = {"counts": {"test": {"images": 4, "classes": {"a": 1, "b": 2, "c": 1, "never seen": 0}}}, "fingerprints": {"test": "?"}}
    assert len(read(saved(record, tmp_path), {"imported": data})[2]) == 1
    data["counts"]["test"]["classes"]["b"] = 4  # type: ignore[index]
    with pytest.raises(UserError, match="is of other data"):
        read(tmp_path, {"imported": data})
    assert "whether the inspection is of the same is not known" in read(tmp_path, {"bare": {}})[2][0]


def test_damaged_records_and_pictures_of_another_inspection(tmp_path: Path) -> None:
    for text in ("", "[]", '{"source": "a"}', '{"source": 1, "splits": {}}', '{"source": "a", "splits": {"train": {}}}'):
        (tmp_path / "audit.json").write_text(text)
        with pytest.raises(UserError, match="There is no inspection of data in"):
            read(tmp_path, {})
    for name in ("samples.png", "duplicates.png", "label_errors.png"):
        (tmp_path / name).write_bytes(b"png")
    record: Record = {"source": "a", "splits": {"train": {"classes": {"a": 1}}}, "duplicates": [], "label_errors": None}
    assert set(read(saved(record, tmp_path), {})[1]) == {"samples.png"}
    record |= {"duplicates": [{}], "label_errors": {"rows": [{}]}}
    assert len(read(saved(record, tmp_path), {})[1]) == 3


def test_fingerprints_of_a_source_are_of_contents_and_classes(strange: Path) -> None:
    source = load_source(strange, training=False)
    found = source.fingerprints
    assert found == load_source(strange, unknown_as_wrong=True).fingerprints
    assert found["train"] != source.sets["train"].fingerprint  # which counts the classes of test alone
    test = source.sets["test"]
    other = replace(source, sets={**source.sets, "test": replace(test, labels=test.labels[::-1].copy())})
    assert {name for name in found if other.fingerprints[name] != found[name]} == {"test"}
    alone = replace(source, sets={"test": test})
    assert alone.fingerprints == {"test": test.fingerprint}
