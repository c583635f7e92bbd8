"""Neighbours by features: what is unlike all others, and copies that thumbnails do not show."""

import numpy as np
from PIL import Image

from frostline.auditing.duplicates import Pair, merged, near_duplicates
from frostline.auditing.neighbours import ENOUGH, neighbours
from frostline.drawn import drawn_images
from frostline.preprocess import resize_uint8


def test_an_image_far_from_all_others():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(200, 3)) * 0.1 + [3, 0, 0], [[-3.0, 0.0, 0.0]]]).astype(np.float32)
    values = neighbours(x).far()
    assert values.argmax() == 200
    assert abs(float(np.median(values))) < 1e-5


def test_too_few_say_nothing():
    found = neighbours(np.random.default_rng(0).normal(size=(ENOUGH - 1, 3)).astype(np.float32))
    assert (found.far() == 0).all()
    assert found.pairs(drawn_images(ENOUGH - 1, 32, 32)) == []


def test_no_image_is_its_own_neighbour():
    x = np.repeat(np.random.default_rng(0).normal(size=(2, 4)), 40, axis=0).astype(np.float32)
    rows = neighbours(x).rows
    assert rows.shape == (80, 20)
    assert not (rows == np.arange(80)[:, None]).any()


def test_a_copy_moved_further_than_pixels_bear_is_found_by_features():
    images = np.stack([resize_uint8(image, 32, 32, "bicubic") for image in drawn_images(80, 9, 9, seed=5)])
    # a zoom by a fifth, and other colours: thumbnails differ
    changed = np.asarray(Image.fromarray(images[3]).crop((2, 1, 31, 32)).resize((32, 32), Image.Resampling.BICUBIC))
    changed = np.clip(changed.astype(float) * [1.3, 0.8, 1.0], 0, 255).astype(np.uint8)
    looked = np.concatenate([images, changed[None]])
    features = np.random.default_rng(0).normal(size=(81, 30)).astype(np.float32)
    features[80] = features[3] + 0.05 * features[80]
    found = neighbours(features).pairs(looked)
    assert [(pair.first, pair.second, pair.mirrored) for pair in found] == [(3, 80, False)]
    assert (3, 80) not in {(pair.first, pair.second) for pair in near_duplicates(looked)}
    # features alone are not enough
    features[40] = features[7] * 1.01
    assert (7, 40) not in {(pair.first, pair.second) for pair in neighbours(features).pairs(looked)}


def test_pairs_of_two_searches_are_merged():
    a, b, better = Pair(0, 1, False, 0.8), Pair(2, 3, True, 0.9), Pair(0, 1, True, 0.95)
    assert merged([a, b], [better]) == [better, b]
    assert merged([better], [a]) == [better]
