"""Nearest neighbours are those that a full sort finds."""

import numpy as np
import pytest

from frostline.feature_neighbours import Directions, nearest


def directions(n, width=8, seed=0):
    x = np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.mark.parametrize(("n", "m", "k"), [(7, 5, 5), (1300, 300, 3), (40, 3001, 4)])
def test_the_nearest_are_those_of_a_full_sort(n, m, k):
    queries, others = directions(n), directions(m, seed=1)
    rows, cosines = nearest(queries, others, k)
    alike = queries.astype(np.float64) @ others.T.astype(np.float64)
    wanted = np.argsort(-alike, axis=1)[:, :k]
    assert (rows == wanted).mean() > 0.999  # two may be equally near in float32
    np.testing.assert_allclose(cosines, np.take_along_axis(alike, wanted, 1), atol=1e-6)


def test_equals_are_taken_in_their_order():
    others = np.repeat(np.array([[1, 0], [0, 1]], np.float32), 3, axis=0)
    rows, cosines = nearest(np.array([[0, 1]], np.float32), others, 4)
    assert rows.tolist() == [[3, 4, 5, 0]]
    assert cosines.tolist() == [[1, 1, 1, 0]]


def test_nobody_asks():
    assert nearest(np.zeros((0, 8), np.float32), directions(3), 2)[0].shape == (0, 2)


def test_directions_keep_what_varies_and_no_size():
    rng = np.random.default_rng(0)
    told = rng.normal(size=(500, 2))
    x = (told @ rng.normal(size=(2, 6)) * 10.0 ** (np.arange(6) / 2) + 3).astype(np.float32)
    found = Directions.of(x, width=2)(x)
    assert found.shape == (500, 2)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    # with as many directions as the features vary in, cosines are those of the scaled features
    scaled = (x - x.mean(0, dtype=np.float64)) / x.std(0, dtype=np.float64)
    scaled /= np.linalg.norm(scaled, axis=1, keepdims=True)
    np.testing.assert_allclose(found @ found.T, scaled @ scaled.T, atol=2e-3)
