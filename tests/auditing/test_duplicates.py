"""Planted near duplicates are found, and images that only look alike from afar are not."""

import io

import numpy as np
import pytest
from PIL import Image

from frostline.auditing.duplicates import MOST_EACH, Pair, limited, near_duplicates, same_edges
from frostline.drawn import drawn_images
from frostline.preprocess import resize_uint8

#: As smooth as photographs are at this size.
IMAGES = np.stack([resize_uint8(image, 32, 32, "bicubic") for image in drawn_images(60, 9, 9, seed=5)])


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


def test_images_of_one_colour_are_left_out():
    assert near_duplicates(np.full((50, 32, 32, 3), 200, np.uint8)) == []
    assert near_duplicates(np.zeros((0, 32, 32, 3), np.uint8)) == []


def test_edges_tell_what_thumbnails_cannot():
    rng = np.random.default_rng(0)
    sea = np.repeat(np.linspace(200, 60, 32)[:, None, None], 32, 1).repeat(3, 2)
    one, other = (np.clip(sea + rng.normal(0, 12, sea.shape), 0, 255).astype(np.uint8) for _ in range(2))
    assert near_duplicates(np.stack([one, other])) == []
    assert same_edges(one[None], other[None])[0] < 0.5


def test_a_picture_that_is_there_many_times_is_reported_with_a_few():
    pairs = [Pair(i, j, False, 1.0) for i in range(60) for j in range(i + 1, 60)]
    kept = limited(pairs)
    assert max(np.bincount([row for pair in kept for row in (pair.first, pair.second)])) == MOST_EACH


def test_progress_is_told_of_every_row_that_is_compared():
    told = []
    near_duplicates(IMAGES, told.append)
    assert sum(told) == len(IMAGES)


def test_another_size_is_the_callers_mistake():
    with pytest.raises(ValueError, match="expected"):
        near_duplicates(np.zeros((2, 16, 16, 3), np.uint8))
