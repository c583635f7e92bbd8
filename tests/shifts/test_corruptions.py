"""The fifteen corruptions: the same for the same image always, of any size, and as strong as they say."""

import numpy as np
import pytest

from frostline.data.rows import pixel_digests
from frostline.drawn import drawn_images
from frostline.errors import UserError
from frostline.shifts.corruptions import CORRUPTIONS, SEVERITIES, corrupt

IMAGES = drawn_images(6, 32, 32)
DIGESTS = pixel_digests(IMAGES)


LARGE = drawn_images(2, 224, 224)


def distance(name, severity, images=IMAGES):
    return np.abs(corrupt(images, pixel_digests(images), name, severity).astype(float) - images).mean()


def test_there_are_fifteen_of_five():
    assert len(CORRUPTIONS) == 15
    assert all(len(strengths) == len(SEVERITIES) == 5 for _, strengths in CORRUPTIONS.values())


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("severity", [1, 5])
def test_an_image_is_corrupted_the_same_way_whatever_is_beside_it(name, severity):
    found = corrupt(IMAGES, DIGESTS, name, severity)
    assert (found.shape, found.dtype) == (IMAGES.shape, np.uint8)
    np.testing.assert_array_equal(found, corrupt(IMAGES, DIGESTS, name, severity))
    some = [4, 1]
    np.testing.assert_allclose(found[some].astype(int), corrupt(IMAGES[some], DIGESTS[some], name, severity), atol=1)
    assert 0.1 < distance(name, severity) < 110


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("size", [(64, 48), (9, 20), (1, 1), (3, 40)])
def test_any_size(name, size):
    images = drawn_images(2, *size)
    for severity in (1, 5):
        assert corrupt(images, pixel_digests(images), name, severity).shape == images.shape


#: Of the others the severities are not ordered by how far pixels move: elastic and glass trade one kind of change for another.
ORDERED = [name for name in CORRUPTIONS if name not in ("elastic", "glass blur", "snow", "frost", "fog")]


@pytest.mark.parametrize("name", ORDERED)
def test_a_higher_severity_changes_more(name):
    assert distance(name, 5) > 1.2 * distance(name, 1)
    assert distance(name, 5, LARGE) > 1.05 * distance(name, 1, LARGE)  # of grain JPEG takes nearly all at once


@pytest.mark.parametrize(("side", "severity", "left"), [(32, 5, 20), (224, 1, 134), (224, 5, 56), (448, 5, 112), (85, 5, 38)])
def test_pixelate_leaves_as_many_blocks_as_published_for_either_size(side, severity, left):
    ramp = np.broadcast_to(np.arange(side, dtype=np.uint8)[:, None], (1, side, side))[..., None].repeat(3, -1).copy()
    found = corrupt(ramp, pixel_digests(ramp), "pixelate", severity)[0, :, 0, 0].astype(int)
    blocks = 1 + (np.diff(found) != 0).sum()
    assert abs(blocks - left) <= 2


def test_noise_is_as_strong_as_it_says():
    grey = np.full((1, 200, 200, 3), 128, np.uint8)
    digests = pixel_digests(grey)
    assert corrupt(grey, digests, "gaussian noise", 5).std() / 255 == pytest.approx(0.10, abs=0.003)
    # of a brightness of 128 / 255 with 50 photons for full brightness: the deviation is that of Poisson
    assert corrupt(grey, digests, "shot noise", 5).std() / 255 == pytest.approx((128 / 255 / 50) ** 0.5, abs=0.003)
    struck = corrupt(grey, digests, "impulse noise", 3)
    assert (struck != 128).mean() == pytest.approx(0.03, abs=0.003)
    assert set(np.unique(struck)) == {0, 128, 255}


def test_brightness_raises_the_value_and_keeps_the_hue():
    pixels = np.array([100, 50, 0], np.uint8).reshape(1, 1, 1, 3)
    raised = corrupt(pixels, pixel_digests(pixels), "brightness", 5)[0, 0, 0]
    value = 100 + 0.3 * 255
    np.testing.assert_allclose(raised, [value, value / 2, 0], atol=0.51)
    black = np.zeros((1, 1, 1, 3), np.uint8)
    np.testing.assert_allclose(corrupt(black, pixel_digests(black), "brightness", 5)[0, 0, 0], 0.3 * 255, atol=0.51)


def test_contrast_shrinks_towards_the_mean():
    found = corrupt(IMAGES[:1], DIGESTS[:1], "contrast", 4).astype(float)
    mean = IMAGES[:1].mean(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(found, mean + 0.3 * (IMAGES[:1] - mean), atol=0.51)


def test_one_colour_shows_no_blur():
    flat = np.full((1, 32, 32, 3), 90, np.uint8)
    for name in ("defocus blur", "glass blur", "motion blur", "zoom blur", "elastic", "pixelate"):
        np.testing.assert_allclose(corrupt(flat, pixel_digests(flat), name, 5).astype(int), 90, atol=1)


@pytest.mark.parametrize(("name", "severity", "said"), [("gausian noise", 1, "gaussian noise"), ("fog", 6, "1, 2, 3, 4 or 5")])
def test_what_is_not_there(name, severity, said):
    with pytest.raises(UserError, match=said):
        corrupt(IMAGES, DIGESTS, name, severity)
