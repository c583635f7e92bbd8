"""Drawn images: always the same pixels, different from one another, of any size."""

import numpy as np
import pytest

from frostline.drawn import drawn_images
from frostline.files import digest_bytes


def test_the_same_numbers_give_the_same_pixels():
    images = drawn_images(3, 24, 32, seed=5)
    assert (images.shape, images.dtype) == ((3, 24, 32, 3), np.uint8)
    assert np.array_equal(images, drawn_images(3, 24, 32, seed=5))
    # more images leave the first ones as they are
    assert np.array_equal(images, drawn_images(6, 24, 32, seed=5)[:3])


def test_images_and_seeds_differ():
    images = np.concatenate([drawn_images(8, 16, 16), drawn_images(8, 16, 16, seed=1)])
    assert len({digest_bytes(image.tobytes()) for image in images}) == 16


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (5, 200)])
def test_any_size(size):
    assert drawn_images(2, *size).shape == (2, *size, 3)


def test_a_picture_has_shades_edges_and_grain():
    image = drawn_images(1, 64, 64)[0].astype(float)
    steps = np.abs(np.diff(image, axis=1))
    assert image.std() > 20
    assert np.median(steps) > 1  # grain everywhere
    assert steps.max() > 40  # edges somewhere
