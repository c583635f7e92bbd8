"""What images are blurred and moved by, against SciPy and by hand."""

import numpy as np
import pytest
from scipy.ndimage import convolve, gaussian_filter

from frostline.drawn import drawn_images
from frostline.shifts.warping import convolved, fractal_noise, gaussian_matrix, sampled, smeared, smoothed, zoomed

IMAGES = drawn_images(3, 20, 14).astype(np.float32) / 255


@pytest.mark.parametrize("deviation", [0.4, 1.0, 3.0])
def test_smoothing_is_scipys(deviation):
    wanted = np.stack([gaussian_filter(image, (deviation, deviation, 0), mode="reflect", truncate=6) for image in IMAGES])
    np.testing.assert_allclose(smoothed(IMAGES, deviation), wanted, atol=1e-3)


def test_no_smoothing_is_the_image():
    np.testing.assert_allclose(smoothed(IMAGES, 0.0), IMAGES, atol=1e-6)


def test_a_kernel_is_scipys():
    kernel = np.array([[0, 1, 0], [1, 4, 2], [0, 1, 0]], np.float32)
    turned = (kernel / kernel.sum())[::-1, ::-1, None]  # a convolution looks the other way
    wanted = np.stack([convolve(image, turned, mode="mirror") for image in IMAGES])
    np.testing.assert_allclose(convolved(IMAGES, kernel), wanted, atol=1e-6)


def test_one_colour_stays_that_colour():
    flat = np.full((2, 9, 11, 3), 0.3, np.float32)
    y, x = np.mgrid[0:9, 0:11]
    found = [
        smoothed(flat, 2.0),
        convolved(flat, np.ones((5, 5), np.float32)),
        smeared(flat, [10.0, -80.0], 4, 2.0),
        zoomed(flat, 1.3),
        np.stack([sampled(flat[0], np.stack([y + 3.7, x - 20.2], axis=-1))]),
    ]
    for each in found:
        np.testing.assert_allclose(each, 0.3, atol=1e-6)


def test_a_smear_to_the_right_looks_right():
    line = np.zeros((1, 1, 6, 1), np.float32)
    line[0, 0, 3] = 1
    found = smeared(line, [0.0], 1, 1e9)[0, 0, :, 0]  # three equal weights: here, and one and two to the right
    np.testing.assert_allclose(found, [0, 1 / 3, 1 / 3, 1 / 3, 0, 0], atol=1e-6)


def test_zooming_by_one_is_the_image_and_by_two_the_middle():
    np.testing.assert_allclose(zoomed(IMAGES, 1.0), IMAGES, atol=1e-6)
    ramp = np.broadcast_to(np.arange(9, dtype=np.float32)[None, :, None, None], (1, 9, 9, 1))
    np.testing.assert_allclose(zoomed(ramp, 2.0)[0, :, 0, 0], np.linspace(2, 6, 9), atol=1e-5)


def test_sampling_between_pixels_and_beyond_the_border():
    ramp = np.broadcast_to(np.arange(5, dtype=np.float32)[:, None, None], (5, 1, 1)).copy()
    places = np.array([[[0.5, 0.0]], [[4.0, 0.0]], [[5.0, 0.0]], [[-1.5, 0.0]]])
    np.testing.assert_allclose(sampled(ramp, places)[:, 0, 0], [0.5, 4, 3, 1.5])


def test_a_bump_sums_to_one():
    np.testing.assert_allclose(gaussian_matrix(7, 1.5).sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (32, 32), (7, 50)])
def test_fractal_noise_fills_its_range_and_is_the_generators(size):
    made, again = (fractal_noise([np.random.default_rng(seed) for seed in (1, 2)], size, 2.0) for _ in range(2))
    np.testing.assert_array_equal(made, again)
    assert made.shape == (2, *size)
    if size != (1, 1):
        assert (made.min(), made.max()) == (0, 1)
        assert not np.array_equal(made[0], made[1])
