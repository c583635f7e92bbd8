import numpy as np
import pytest

from frostline.data.rows import pixel_digests
from frostline.data.views import seen_as, view_name
from frostline.drawn import drawn_images

IMAGES = drawn_images(40, 32, 48)
DIGESTS = pixel_digests(IMAGES)


def test_the_first_two_are_the_image_and_its_mirror_image():
    np.testing.assert_array_equal(seen_as(IMAGES, DIGESTS, 0), IMAGES)
    np.testing.assert_array_equal(seen_as(IMAGES, DIGESTS, 1), IMAGES[:, :, ::-1])
    assert [view_name(number) for number in range(4)] == ["image", "mirror", "shift-2", "shift-3"]


@pytest.mark.parametrize("number", [2, 3])
def test_a_drawn_view_is_the_image_moved(number):
    seen, mirrored = seen_as(IMAGES, DIGESTS, number), 0
    for image, found in zip(IMAGES, seen, strict=True):
        assert found.shape == image.shape
        moves = [_moved(image[:, ::step], y, x) for step in (1, -1) for y in range(-2, 3) for x in range(-3, 4)]
        equal = [np.array_equal(found, candidate) for candidate in moves]
        assert any(equal)
        mirrored += equal.index(True) >= len(moves) // 2
    assert 8 <= mirrored <= 32


def _moved(image, y, x):
    padded = np.pad(image, ((2, 2), (3, 3), (0, 0)), mode="reflect")
    return padded[2 + y : 34 + y, 3 + x : 51 + x]


def test_a_view_depends_on_the_image_and_the_number_alone():
    alone = np.concatenate([seen_as(IMAGES[i : i + 1], DIGESTS[i : i + 1], 2) for i in range(40)])
    np.testing.assert_array_equal(alone, seen_as(IMAGES, DIGESTS, 2))
    assert not np.array_equal(seen_as(IMAGES, DIGESTS, 2), seen_as(IMAGES, DIGESTS, 3))


def test_an_image_of_one_pixel():
    dot = np.full((1, 1, 1, 3), 7, np.uint8)
    np.testing.assert_array_equal(seen_as(dot, pixel_digests(dot), 2), dot)
