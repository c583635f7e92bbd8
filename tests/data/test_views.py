import numpy as np
import pytest

from frostline.data.rows import pixel_digests
from frostline.data.views import SERVED, cached_numbers, seen_as, served, view_name
from frostline.drawn import drawn_images

IMAGES = drawn_images(40, 32, 48)
DIGESTS = pixel_digests(IMAGES)


def test_the_first_two_are_the_image_and_its_mirror_image():
    np.testing.assert_array_equal(seen_as(IMAGES, DIGESTS, 0), IMAGES)
    np.testing.assert_array_equal(seen_as(IMAGES, DIGESTS, 1), IMAGES[:, :, ::-1])
    assert [view_name(number) for number in range(4)] == ["image", "mirror", "shifted-2", "cropped-3"]


def test_served_views_by_hand():
    image = np.arange(12).reshape(3, 4)
    seen = [image[rows][:, columns].tolist() for rows, columns in (served(number, (3, 4)) for number in range(len(SERVED)))]
    assert seen[0] == image.tolist()
    assert seen[1] == image[:, ::-1].tolist()
    # looking a pixel down and right: the rows 1, 2, 1 and the columns 1, 2, 3, 2, the border reflected
    assert seen[2] == [[5, 6, 7, 6], [9, 10, 11, 10], [5, 6, 7, 6]]
    assert seen[3] == [[5, 4, 5, 6], [1, 0, 1, 2], [5, 4, 5, 6]]
    assert seen[4] == [row[::-1] for row in seen[2]]
    assert seen[5] == [row[::-1] for row in seen[3]]


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (2, 1)])
def test_served_views_of_the_smallest_images_stay_inside(size):
    for number in range(len(SERVED)):
        for places, side in zip(served(number, size), size, strict=True):
            assert len(places) == side
            assert set(places.tolist()) <= set(range(side))


@pytest.mark.parametrize("number", [2, 5])
def test_a_shifted_view_is_the_image_moved(number):
    seen, mirrored = seen_as(IMAGES, DIGESTS, number), 0
    for image, found in zip(IMAGES, seen, strict=True):
        assert found.shape == image.shape
        moves = [_moved(image[:, ::step], y, x) for step in (1, -1) for y in range(-2, 3) for x in range(-3, 4)]
        equal = [np.array_equal(found, candidate) for candidate in moves]
        assert any(equal)
        mirrored += equal.index(True) >= len(moves) // 2
    assert 8 <= mirrored <= 32


def test_below_zero_nothing_is_mirrored():
    upright = cached_numbers(4, mirrored=False)
    assert [view_name(number) for number in upright] == ["image", "shifted-1-upright", "cropped-2-upright", "recoloured-3-upright"]
    assert cached_numbers(3, mirrored=True) == [0, 1, 2]
    for image, found in zip(IMAGES, seen_as(IMAGES, DIGESTS, -1), strict=True):
        assert any(np.array_equal(found, _moved(image, y, x)) for y in range(-2, 3) for x in range(-3, 4))
    for number in upright[2:]:
        seen = seen_as(IMAGES, DIGESTS, number).reshape(40, -1)
        for i in range(40):
            own, mirrored = (np.corrcoef(seen[i], each[i].ravel())[0, 1] for each in (IMAGES, IMAGES[:, :, ::-1]))
            assert own >= mirrored


def _moved(image, y, x):
    padded = np.pad(image, ((2, 2), (3, 3), (0, 0)), mode="reflect")
    return padded[2 + y : 34 + y, 3 + x : 51 + x]


def test_a_view_depends_on_the_image_and_the_number_alone():
    alone = np.concatenate([seen_as(IMAGES[i : i + 1], DIGESTS[i : i + 1], 2) for i in range(40)])
    np.testing.assert_array_equal(alone, seen_as(IMAGES, DIGESTS, 2))
    for one, other in ((2, 3), (2, 5), (3, 6), (4, 7)):
        assert not np.array_equal(seen_as(IMAGES, DIGESTS, one), seen_as(IMAGES, DIGESTS, other))


@pytest.mark.parametrize(("number", "name"), [(3, "cropped-3"), (4, "recoloured-4")])
def test_other_drawn_views_are_like_the_image_and_not_the_same(number, name):
    assert view_name(number) == name
    seen = seen_as(IMAGES, DIGESTS, number)
    assert (seen.shape, seen.dtype) == (IMAGES.shape, np.uint8)
    nearest = np.minimum(*(np.abs(seen.astype(int) - other).mean((1, 2, 3)) for other in (IMAGES, IMAGES[:, :, ::-1])))
    assert (nearest > 0).all()
    flat = [images.reshape(40, -1).astype(float) for images in (seen, IMAGES, IMAGES[:, :, ::-1])]
    alike = [max(np.corrcoef(flat[0][i], flat[k][i])[0, 1] for k in (1, 2)) for i in range(40)]
    assert np.median(alike) > 0.5


def test_a_recoloured_view_moves_nothing():
    grey = np.full((5, 4, 4, 3), 100, np.uint8)
    grey[:, 1, 2] = 200
    seen = seen_as(grey, np.array([bytes([i]) * 16 for i in range(1, 6)]), 4)
    for image in seen:
        bright = image.sum(2) > image.sum(2).min()
        assert bright.sum() == 1
        assert bright[1].any()


def test_an_image_of_one_pixel():
    dot = np.full((1, 1, 1, 3), 7, np.uint8)
    np.testing.assert_array_equal(seen_as(dot, pixel_digests(dot), 2), dot)
