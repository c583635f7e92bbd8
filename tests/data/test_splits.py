"""Splits that share nothing, cut the same way whatever the files are called."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frostline.data.imageset import UNKNOWN, ImageSet, Source, Splits
from frostline.data.splits import split
from frostline.errors import UserError
from frostline.files import digest_bytes


def images(
    labels: Sequence[int],
    contents: Sequence[object] | None = None,
    name: str = "train",
    classes: int = 0,
    groups: Sequence[str] | None = None,
) -> ImageSet:
    """A set of one-pixel images; equal contents have equal digests."""
    contents = list(range(len(labels))) if contents is None else contents
    count = classes or max(labels) + 1
    return ImageSet(
        name=name,
        classes=tuple(f"class {number}" for number in range(count)),
        labels=np.array(labels, dtype=np.int64),
        ids=np.array([f"{name}/{number}" for number in range(len(labels))]),
        digests=np.array([bytes.fromhex(digest_bytes(repr(content).encode())) for content in contents], dtype="S16"),
        pixels=np.zeros((len(labels), 1, 1, 3), dtype=np.uint8),
        groups=None if groups is None else np.array(groups),
    )


def source(*sets: ImageSet, official: bool = False) -> Source:
    return Source("drawn", {one.name: one for one in sets}, official=official, found=sum(map(len, sets)))


def contents(one: ImageSet | None) -> set[bytes]:
    return set() if one is None else set(one.digests.tolist())


def assert_disjoint(splits: Splits) -> None:
    parts = [contents(splits.train), contents(splits.validation), contents(splits.test)]
    assert sum(map(len, parts)) == len(set.union(*parts))


def per_class(one: ImageSet) -> list[int]:
    return np.bincount(one.labels, minlength=len(one.classes)).tolist()


def test_plain_cuts_are_exact_and_stratified() -> None:
    found = split(source(images([0] * 600 + [1] * 400)))
    assert found.test is not None
    assert per_class(found.test) == [60, 40]
    assert per_class(found.validation) == [54, 36]  # a tenth of the 900 that are left
    assert per_class(found.train) == [486, 324]
    assert_disjoint(found)
    assert found.record["cut"] == {
        "test": {"from": "train", "images": 100, "wanted": 100, "seed": 0},
        "validation": {"from": "train", "images": 90, "wanted": 90, "seed": 0},
    }
    assert found.record["notes"] == []


def test_the_largest_remainders_get_the_rest() -> None:
    found = split(source(images([0] * 34 + [1] * 33 + [2] * 33)), cut_test=False)
    assert per_class(found.validation) == [4, 3, 3]
    assert found.test is None


def test_validation_has_a_limit() -> None:
    assert len(split(source(images([0, 1] * 100)), validation_max=7, cut_test=False).validation) == 7


def test_published_sets_and_declared_splits_are_not_cut() -> None:
    official = split(source(images([0, 1] * 50), official=True))
    assert official.test is None
    assert len(official.validation) == 10
    declared = split(source(images([0, 1] * 5), images([0, 1], ["v", "w"], "validation"), images([0, 1], ["t", "u"], "test")))
    assert (len(declared.train), len(declared.validation), len(declared.test or [])) == (10, 2, 2)
    assert declared.record["cut"] == {}


def test_the_cut_depends_on_content_label_and_seed_only() -> None:
    given = images([0, 1, 2] * 40)
    turned = given.take(np.random.default_rng(0).permutation(120))
    renamed = replace(turned, ids=np.array([f"other {number}" for number in range(120)]))
    first, second = split(source(given)), split(source(renamed))
    assert contents(first.validation) == contents(second.validation)
    assert contents(first.test) == contents(second.test)
    assert contents(split(source(given), seed=1).validation) != contents(first.validation)


def test_rows_keep_their_order() -> None:
    found = split(source(images([0, 1] * 50)))
    for part in (found.train, found.validation, found.test):
        assert part is not None
        numbers = [int(name.partition("/")[2]) for name in part.ids]
        assert numbers == sorted(numbers)


def test_copies_stay_together() -> None:
    found = split(source(images([0, 1] * 100, [number // 4 for number in range(200)])))
    assert_disjoint(found)
    for part in (found.train, found.validation, found.test):
        assert part is not None
        assert set(np.unique(part.digests, return_counts=True)[1]) == {4}


def test_the_same_pixels_in_other_files_are_copies() -> None:
    """Small images of several sizes are known by their bytes, and by their pixels otherwise."""
    pixels = np.array([bytes([number // 2]) * 15 + b"x" for number in range(40)], dtype="S16")
    train = replace(images([0, 0, 1, 1] * 10), otherwise=pixels)
    theirs = np.array([pixels[0], pixels[4], b"new"], dtype="S16")
    test = replace(images([0, 1, 1], ["other", "another", "third"], "test", 2), otherwise=theirs)
    splits = split(source(train, test), validation_fraction=0.25)
    assert splits.test.otherwise.tolist() == [b"new"]
    left, right = (set(one.otherwise.tolist()) for one in (splits.train, splits.validation))
    assert not left & right
    assert len(splits.train) + len(splits.validation) == 40


def test_groups_stay_whole_and_classes_stay_balanced() -> None:
    labels, groups = [0, 1] * 200, [f"patient {number // 8}" for number in range(400)]
    found = split(source(images(labels, groups=groups)))
    parts = [
        set(part.groups.tolist())
        for part in (found.train, found.validation, found.test)
        if part is not None and part.groups is not None
    ]
    assert len(parts) == 3
    assert sum(map(len, parts)) == 50
    assert per_class(found.test or found.train) == [20, 20]


def test_groups_are_connected_through_copies() -> None:
    # Group b holds a copy of an image of a, and one of an image of c: the three are one.
    labels = [0, 1] * 15
    groups = ["a", "a", "b", "b", "c", "c", *[f"g{number}" for number in range(24)]]
    copies: list[object] = list(range(30))
    copies[2], copies[4] = copies[0], copies[3]
    for seed in range(20):
        found = split(source(images(labels, copies, groups=groups)), seed=seed)
        holders = [part for part in (found.train, found.validation, found.test) if part is not None and part.groups is not None]
        assert sum(bool({"a", "b", "c"} & set(part.groups.tolist())) for part in holders) == 1  # type: ignore[union-attr]
        assert_disjoint(found)


@pytest.mark.parametrize(
    ("labels", "groups"),
    [([0, 1] * 50, ["one"] * 100), ([0, 1] * 50, ["a"] * 50 + ["b"] * 50)],
)
def test_groups_too_coarse_to_cut(labels: list[int], groups: list[str]) -> None:
    with pytest.raises(UserError, match="must stay whole"):
        split(source(images(labels, groups=groups)))


def test_all_copies_of_one_image() -> None:
    with pytest.raises(UserError, match="1 sets that must stay whole"):
        split(source(images([0, 1] * 5, ["same"] * 10)))


def test_two_classes_of_five() -> None:
    found = split(source(images([0] * 5 + [1] * 5)))
    assert found.test is not None
    assert (per_class(found.train), per_class(found.validation), per_class(found.test)) == ([3, 3], [1, 1], [1, 1])
    assert "2 images were cut where 1 were wanted" in str(found.record["notes"])


def test_a_thousand_classes_of_three() -> None:
    found = split(source(images([number // 3 for number in range(3000)])))
    assert found.test is not None
    assert set(per_class(found.train)) == set(per_class(found.validation)) == set(per_class(found.test)) == {1}


def test_a_class_with_one_image_stays_in_train() -> None:
    found = split(source(images([0] * 50 + [1] * 50 + [2])))
    assert per_class(found.train)[2] == 1
    assert "validation: no image of 1 of 3 classes: 'class 2'." in found.record["notes"]  # type: ignore[operator]


def test_what_training_or_validation_holds_leaves_test() -> None:
    train = images([0, 1, 0, 1, 0, 1], ["a", "b", "c", "d", "e", "f"])
    validation = images([0, 1, 0], ["a", "x", "t"], "validation")
    test = images([1, 0, 1, 0], ["b", "t", "z", "a"], "test")
    found = split(source(train, validation, test))
    assert found.test is not None
    assert found.train.ids.tolist() == ["train/1", "train/2", "train/3", "train/4", "train/5"]
    assert found.validation.ids.tolist() == ["validation/0", "validation/1", "validation/2"]
    assert found.test.ids.tolist() == ["test/2"]
    assert found.record["dropped"] == {
        "train, identical to images in validation": {"images": 1, "ids": ["train/0"]},
        "test, identical to images in train": {"images": 1, "ids": ["test/0"]},
        "test, identical to images in validation": {"images": 2, "ids": ["test/1", "test/3"]},
    }
    assert "1 images of test are identical to images in train, and were left out of test: test/0." in found.record["notes"]  # type: ignore[operator]


def test_what_is_learned_from_does_not_depend_on_test() -> None:
    train = images([0, 1, 0, 1, 0, 1, 0, 1, 0, 1], list("abcdefghij"))
    test = images([1, 0, 1], ["b", "t", "z"], "test")
    with_test, without = split(source(train, test)), split(source(train), cut_test=False)
    assert with_test.train.fingerprint == without.train.fingerprint
    assert with_test.validation.fingerprint == without.validation.fingerprint


def test_groups_that_stand_in_train_leave_test() -> None:
    train = images([0, 1, 0, 1], groups=["p", "q", "r", "s"])
    test = images([0, 1], ["t", "u"], "test", groups=["q", "z"])
    validation = images([0, 1], ["v", "w"], "validation", groups=["m", "n"])
    found = split(source(train, validation, test))
    assert len(found.train) == 4
    assert found.test is not None
    assert found.test.ids.tolist() == ["test/1"]
    assert "test, of the same groups as images in train" in found.record["dropped"]  # type: ignore[operator]


def test_a_test_split_that_is_all_in_train() -> None:
    with pytest.raises(UserError, match="Nothing is left of test"):
        split(source(images([0, 1], ["a", "b"]), images([0, 1], ["a", "b"], "test")))


def test_contradictions_one_class_and_unknown_classes_are_said() -> None:
    train = images([0, 1, 0, 1, 0, 1], ["a", "a", "b", "c", "d", "e"])
    validation = images([0, 0], ["v", "w"], "validation", classes=2)
    test = images([UNKNOWN, 0, 1], ["t", "u", "x"], "test", classes=2)
    notes = split(source(train, validation, test)).record["notes"]
    assert "train: 1 images stand under several labels." in notes  # type: ignore[operator]
    assert "validation: all its images are of one class, 'class 0'." in notes  # type: ignore[operator]
    assert "test: 1 images of classes that training lacks; every answer to them is wrong." in notes  # type: ignore[operator]


def test_the_labels_of_test_do_not_touch_the_rest() -> None:
    train, test = images([0, 1] * 20), images([0, 1, 1], ["t", "u", "v"], "test")
    shuffled = replace(test, labels=np.array([1, 0, 1]))
    first, second, without = split(source(train, test)), split(source(train, shuffled)), split(source(train), cut_test=False)
    assert first.train.fingerprint == second.train.fingerprint == without.train.fingerprint
    assert first.validation.fingerprint == second.validation.fingerprint == without.validation.fingerprint


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40), st.integers(0, 12)), min_size=8, max_size=80),
    st.booleans(),
    st.integers(0, 5),
)
def test_whatever_the_data_nothing_is_shared_or_lost(rows: list[tuple[int, int, int]], grouped: bool, seed: int) -> None:
    labels = [label for label, _, _ in rows]
    groups = [f"g{group}" for _, _, group in rows] if grouped else None
    given_ = images(labels, [content for _, content, _ in rows], classes=4, groups=groups)
    try:
        found = split(source(given_), seed=seed)
    except UserError:
        return
    parts = [part for part in (found.train, found.validation, found.test) if part is not None]
    assert sorted(id_ for part in parts for id_ in part.ids.tolist()) == sorted(given_.ids.tolist())
    assert_disjoint(found)
    assert set(found.train.labels.tolist()) == set(labels)
    if grouped:
        kept = [set(part.groups.tolist()) for part in parts]  # type: ignore[union-attr]
        assert sum(map(len, kept)) == len(set.union(*kept))


def test_a_copy_of_an_image_of_a_shared_group_is_shared_too() -> None:
    train = images([0, 1] * 10, ["w", "w", *range(18)], groups=["g2", "g3", *[f"t{number}" for number in range(18)]])
    validation = images([0, 1], ["v", "u"], "validation", groups=["g2", "other"])
    found = split(source(train, validation))
    assert not contents(found.train) & {train.digests[0]}
    assert len(found.train) + len(found.test or ()) == 18
    assert [row["ids"] for row in found.record["dropped"].values()] == [["train/0"], ["train/1"]]


def test_the_group_of_a_copy_of_a_shared_image_is_shared_too() -> None:
    train = images([0, 1] * 10, ["v", *range(19)], groups=["g1", "g1", *[f"t{number}" for number in range(18)]])
    validation = images([0, 1], ["v", "u"], "validation", groups=["a", "b"])
    found = split(source(train, validation))
    assert "g1" not in set(found.train.groups.tolist())
    assert any("grouped with" in note for note in found.record["notes"])
