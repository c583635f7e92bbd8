"""Planted near duplicates are found, and images that only look alike from afar are not."""

import io

import numpy as np
import pytest
from PIL import Image

from frostline.auditing import duplicates, thumbnails
from frostline.auditing.duplicates import (
    MOST_EACH,
    Known,
    Pair,
    first_look,
    limited,
    limits,
    near_duplicates,
    same_edges,
    second_look,
)
from frostline.drawn import drawn_images
from frostline.preprocess import resize_uint8

#: As smooth as photographs are at this size.
IMAGES = np.stack([resize_uint8(image, 32, 32, "bicubic") for image in drawn_images(60, 9, 9, seed=5)])


DARK = IMAGES[:4] // 40


def known(splits, labels=None, digests=None):
    n = len(splits)
    digests = np.arange(n).astype("S16") if digests is None else np.array(digests, "S16")
    return Known(np.array(splits), np.zeros(n, np.int64) if labels is None else np.array(labels), digests)


def rows(pairs):
    return [pair.rows for pair in pairs]


def compressed(image):
    kept = io.BytesIO()
    Image.fromarray(image).save(kept, "JPEG", quality=50)
    return np.asarray(Image.open(kept).convert("RGB"))


def cropped(image):
    return np.asarray(Image.fromarray(image).crop((1, 0, 32, 31)).resize((32, 32), Image.Resampling.BICUBIC))


CHANGES = {
    "the same": lambda image: image,
    "mirrored": lambda image: image[:, ::-1],
    "darker": lambda image: np.rint(image * 0.9).astype(np.uint8),
    "brighter": lambda image: np.clip(np.rint(image * 1.1), 0, 255).astype(np.uint8),
    "compressed": compressed,
    "cropped": cropped,
    "moved": lambda image: np.pad(image, ((1, 0), (0, 1), (0, 0)), mode="edge")[:32, 1:],
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_copy_is_found(name):
    copies = np.stack([CHANGES[name](image) for image in IMAGES[:20]])
    found = near_duplicates(np.concatenate([IMAGES, copies]))
    wanted = {(i, 60 + i) for i in range(20)}
    assert len(wanted & {(pair.first, pair.second) for pair in found}) >= 18  # drawn images are rougher than photographs
    mirrored = [pair.mirrored for pair in found if (pair.first, pair.second) in wanted]
    assert np.mean(mirrored) > 0.9 if name == "mirrored" else np.mean(mirrored) < 0.1


def test_different_images_are_not():
    assert near_duplicates(drawn_images(300, 32, 32, seed=6)) == []


def test_the_most_alike_come_first_and_a_pair_once():
    images = np.concatenate([IMAGES[:3], [compressed(IMAGES[1])], [IMAGES[0]]])
    found = near_duplicates(images)
    assert [(pair.first, pair.second) for pair in found] == [(0, 4), (1, 3)]
    assert found[0].likeness == pytest.approx(1.0)
    symmetric = np.concatenate([IMAGES[0][:, :16], IMAGES[0][:, :16][:, ::-1]], axis=1)
    assert len(near_duplicates(np.stack([symmetric, symmetric]))) == 1  # alike both ways


def test_identical_images_are_paired_with_the_first_of_them():
    images = np.concatenate([IMAGES[:2], [IMAGES[0]] * 3000, [compressed(IMAGES[0])]])
    found = {(pair.first, pair.second) for pair in near_duplicates(images)}
    assert found == {(0, row) for row in range(2, 3003)}


def test_different_images_of_one_colour_are_left_out():
    images = np.full((50, 32, 32, 3), 200, np.uint8)
    images[:, 0, 0, 0] = np.arange(50)
    assert near_duplicates(images) == []
    assert near_duplicates(np.zeros((0, 32, 32, 3), np.uint8)) == []


def test_copies_are_found_however_little_they_show():
    assert rows(near_duplicates(np.stack([DARK[0], DARK[1], DARK[0], DARK[0]]))) == [(0, 2), (0, 3)]
    blank = np.full((3, 32, 32, 3), 200, np.uint8)
    assert rows(near_duplicates(blank)) == [(0, 1), (0, 2)]


def test_blank_images_of_different_content_are_no_copies():
    """Two empty pages look the same at this size and are not; the second and the third are one file."""
    found = first_look(np.full((3, 32, 32, 3), 255, np.uint8), known([0, 0, 0], digests=[b"a", b"b", b"b"]))
    assert rows(found.copies) == [(1, 2)]
    assert len(found.candidates) == 0


def test_the_same_pixels_in_different_files_are_a_pair():
    images = np.stack([IMAGES[0]] * 3)
    assert rows(first_look(images, known([0, 0, 0], digests=[b"a", b"b", b"b"])).copies) == [(1, 2), (0, 1)]


def test_edges_tell_what_thumbnails_cannot():
    rng = np.random.default_rng(0)
    sea = np.repeat(np.linspace(200, 60, 32)[:, None, None], 32, 1).repeat(3, 2)
    one, other = (np.clip(sea + rng.normal(0, 12, sea.shape), 0, 255).astype(np.uint8) for _ in range(2))
    assert near_duplicates(np.stack([one, other])) == []
    assert same_edges(one[None], other[None])[0] < 0.5


def test_a_picture_that_is_there_many_times_is_reported_with_a_few():
    pairs = [Pair(i, j, False, 1.0) for i in range(60) for j in range(i + 1, 60)]
    kept = limited(pairs, known([0] * 60))
    assert max(np.bincount([row for pair in kept for row in (pair.first, pair.second)])) == MOST_EACH


def test_copies_are_listed_however_many_and_leave_room_for_what_is_nearly_the_same():
    copies = [Pair(0, row, False, 1.0) for row in range(1, 27)]
    near = [Pair(0, 27 + row, False, 0.9) for row in range(30)]
    kept = limited([*copies, *near], known([0] * 57), set(rows(copies)))
    assert kept == [*copies, *near[:MOST_EACH]]


def test_pairs_across_splits_and_classes_outlive_the_limit():
    near = [Pair(0, row, False, 0.95) for row in range(1, 26)]
    other_split, other_class, one_more = Pair(0, 26, False, 0.8), Pair(0, 27, True, 0.8), Pair(0, 28, False, 0.8)
    pairs = [*near, other_split, other_class, one_more]
    kept = limited(pairs, known([0] * 26 + [1, 0, 0], [0] * 27 + [1, 0]))
    assert kept == [*near[:MOST_EACH], other_split, other_class]


def test_every_image_keeps_its_most_alike_in_another_split():
    pairs = [Pair(i, 50 + j, False, 0.9 - 0.001 * (i + j)) for i in range(50) for j in range(50)]
    kept = limited(sorted(pairs, key=lambda pair: -pair.likeness), known([0] * 50 + [1] * 50))
    assert {row for pair in kept for row in pair.rows} == set(range(100))
    assert len(kept) < len(pairs)


def test_what_the_lists_leave_out_is_said():
    assert limits({}) == limits({"left_out": 0, "most_compared": None}) == []
    cut, bounded = limits({"left_out": 1234, "most_compared": 7})
    assert "1,234 of these pairs are counted but not listed" in cut
    assert "compared closely with the 7 most alike" in bounded


def framed(n, seed, strength=20):
    """Photos of one framing: the same shades from corner to corner, and a texture of their own."""
    shades = 40 + 5 * np.arange(32)[None, :, None, None] + np.zeros((1, 1, 32, 1))
    shades = shades - 3 * np.arange(32)[None, None, :, None] + 60
    return np.clip(shades + np.random.default_rng(seed).normal(0, strength, (n, 32, 32, 3)), 0, 255).astype(np.uint8)


def test_where_all_images_are_alike_at_a_glance_few_are_looked_at_again_and_copies_found(monkeypatch):
    monkeypatch.setattr(thumbnails, "LOOKS", 500)
    looks = []
    monkeypatch.setattr(duplicates, "same_edges", lambda a, b: looks.append(len(a)) or same_edges(a, b))
    train, test = framed(200, 1), framed(60, 2)
    test[:20] = np.rint(train[:20] * 0.9)
    test[20] = test[21]
    images, splits = np.concatenate([train, test]), known([0] * 200 + [1] * 60)
    found = first_look(images, splits)
    assert found.candidates.each == thumbnails.LEAST
    near = second_look(images, found.candidates)
    assert rows(found.copies) == [(220, 221)]
    assert sorted(rows(near)) == [(row, 200 + row) for row in range(20)]
    assert sum(looks) <= 2 * thumbnails.LEAST * len(images)
    assert len(images) ** 2 / 2 > 10 * sum(looks)  # all of them, before


def test_a_search_that_need_not_be_limited_is_not(monkeypatch):
    images = np.concatenate([framed(60, 3), IMAGES])
    found = first_look(images, known([0] * 60 + [1] * 60)).candidates
    assert found.each is None
    assert len(found) >= 60 * 59 / 2
    monkeypatch.setattr(thumbnails, "LOOKS", len(found))
    assert len(first_look(images, known([0] * 60 + [1] * 60)).candidates) == len(found)


def test_progress_is_told_of_every_row_that_is_compared():
    told = []
    near_duplicates(IMAGES, told.append)
    assert sum(told) == len(IMAGES)


def test_another_size_is_the_callers_mistake():
    with pytest.raises(ValueError, match="expected"):
        near_duplicates(np.zeros((2, 16, 16, 3), np.uint8))
