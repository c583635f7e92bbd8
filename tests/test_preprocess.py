"""The one preprocessing: against Pillow's own float arithmetic, against hand-worked numbers, and at its edges."""

import numpy as np
import pytest
from PIL import Image

from frostline.drawn import drawn_images
from frostline.preprocess import Preprocess, enlarge, enlargement, resize_uint8, stored_image

KERNELS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def resized_by_pillow(plane, height, width, kernel):
    """Pillow in float32, which neither rounds nor clamps."""
    return np.asarray(Image.fromarray(plane.astype(np.float32), "F").resize((width, height), KERNELS[kernel]))


@pytest.mark.filterwarnings("ignore:'mode' parameter")
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("size", [(64, 64), (65, 50), (33, 32), (160, 100), (12, 20), (8, 64), (32, 9)])
def test_resampling_is_pillows_away_from_the_borders(kernel, size):
    """At the borders the two differ by design: the edge sample is repeated here, while Pillow leaves taps outside out."""
    plane = drawn_images(1, 32, 32, seed=3)[0, :, :, 1].astype(np.float64)
    mine = enlarge(plane[:, :, None], *size, kernel)[:, :, 0]
    pillows = resized_by_pillow(plane, *size, kernel)
    reach = [int(np.ceil(2 * max(1, 32 / n) * n / 32)) + 1 for n in size]
    inside = (slice(reach[0], -reach[0]), slice(reach[1], -reach[1]))
    assert mine[inside].size
    np.testing.assert_allclose(mine[inside], pillows[inside], atol=2e-3)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("n", "out"), [(32, 160), (32, 224), (1, 7), (2, 3), (28, 28), (5, 4), (100, 3), (7, 1), (1, 1)])
def test_rows_sum_to_one(kernel, n, out):
    matrix = enlargement(n, out, kernel)
    assert matrix.shape == (out, n)
    np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-12)
    np.testing.assert_allclose(matrix, matrix[::-1, ::-1], atol=1e-12)  # left and right are treated alike


def test_bilinear_by_hand():
    # centres of 4 outputs over 2 inputs lie at -0.25, 0.25, 0.75 and 1.25
    np.testing.assert_allclose(enlargement(2, 4, "bilinear"), [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]], atol=1e-12)
    np.testing.assert_allclose(enlargement(4, 2, "bilinear")[0] * 8, [4, 3, 1, 0], atol=1e-12)


def test_bicubic_by_hand():
    # half way between two samples Keys' kernel with a = -0.5 gives -1/16, 9/16, 9/16, -1/16
    centre = enlargement(4, 8, "bicubic")[3:5].mean(0)
    np.testing.assert_allclose(centre, centre[::-1], atol=1e-12)
    row = enlargement(4, 1, "bilinear")[0]
    np.testing.assert_allclose(row, row[::-1], atol=1e-12)
    # an output a quarter of the way from sample 1 to 2: |x| = 1.25, 0.25, 0.75, 1.75
    np.testing.assert_allclose(enlargement(4, 8, "bicubic")[3] * 128, [-9, 111, 29, -3], atol=1e-9)


@pytest.mark.parametrize("kernel", KERNELS)
def test_straight_lines_stay_straight(kernel):
    line = np.arange(20.0)
    found = enlargement(20, 60, kernel) @ line
    np.testing.assert_allclose(found[9:-9], ((np.arange(60) + 0.5) / 3 - 0.5)[9:-9], atol=1e-12)


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_same_size_is_the_identity(kernel):
    np.testing.assert_array_equal(enlargement(9, 9, kernel), np.eye(9))


def test_a_batch_is_enlarged_image_by_image():
    images = drawn_images(3, 5, 7).astype(np.float64)
    found = enlarge(images, 11, 8, "bicubic")
    assert found.shape == (3, 11, 8, 3)
    for image, one in zip(images, found, strict=True):
        np.testing.assert_allclose(one, enlarge(image, 11, 8, "bicubic"), atol=1e-10)


def test_enlarging_overshoots_and_is_neither_clamped_nor_rounded():
    step = np.zeros((8, 8, 1))
    step[:, 4:] = 255
    found = enlarge(step, 32, 32, "bicubic")
    assert found.min() < -5
    assert found.max() > 260


# photos


def preprocess(fit="squash", stored=(10, 20), **others):
    return Preprocess(size=stored, stored=stored, fit=fit, **others)


@pytest.mark.parametrize("fit", ["squash", "pad", "crop"])
@pytest.mark.parametrize(
    "shape", [(10, 20), (40, 80), (5, 10), (1, 1), (1, 3000), (3000, 1), (2000, 3), (7, 90), (300, 10), (11, 21)]
)
def test_every_shape_comes_out_at_the_stored_size(fit, shape):
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    found = stored_image(pixels, preprocess(fit))
    assert (found.shape, found.dtype) == ((10, 20, 3), np.uint8)


@pytest.mark.parametrize("fit", ["squash", "pad", "crop"])
def test_an_image_of_the_stored_size_is_left_as_it_is(fit):
    pixels = drawn_images(1, 10, 20)[0]
    np.testing.assert_array_equal(stored_image(pixels, preprocess(fit, crop=0.5)), pixels)
    np.testing.assert_array_equal(stored_image(Image.fromarray(pixels), preprocess(fit)), pixels)


@pytest.mark.parametrize("fit", ["squash", "pad", "crop"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (3000, 1), (3, 5), (300, 301)])
def test_one_colour_stays_that_colour(fit, shape):
    colour = [0, 200, 255]
    found = stored_image(np.full((*shape, 3), colour, np.uint8), preprocess(fit, mean=(0.0, 200 / 255, 1.0)))
    assert (found == colour).all()


def striped(shape):
    """Red left quarter, green middle, blue right quarter."""
    pixels = np.zeros((*shape, 3), np.uint8)
    quarter = shape[1] // 4
    pixels[:, :quarter, 0] = pixels[:, quarter:-quarter, 1] = pixels[:, -quarter:, 2] = 255
    return pixels


def test_the_default_keeps_the_sides_of_wide_photos():
    made = Preprocess(size=(20, 20), stored=(20, 20))
    found = stored_image(striped((100, 400)), made)
    assert made.fit == "squash"
    assert found[:, :4, 0].min() > 250
    assert found[:, -4:, 2].min() > 250
    assert found[:, 7:13, 1].min() > 250


def test_crop_cuts_the_sides_and_keeps_the_proportions():
    found = stored_image(striped((100, 400)), preprocess("crop", (20, 20)))
    assert (found == [0, 255, 0]).all()
    wide = stored_image(striped((100, 400)), preprocess("crop", (10, 20)))  # 100 by 200 of it: the green half exactly
    assert (wide == [0, 255, 0]).all()


def test_crop_keeps_a_fraction_of_the_shorter_side():
    pixels = np.zeros((100, 100, 3), np.uint8)
    pixels[25:75, 25:75] = 255
    assert (stored_image(pixels, preprocess("crop", (10, 10), crop=0.5)) == 255).all()
    assert (stored_image(pixels, preprocess("crop", (10, 10), crop=0.6)) == 255).sum() < 300


@pytest.mark.parametrize(
    ("shape", "rows", "columns"), [((100, 400), (7, 12), (0, 20)), ((400, 100), (0, 20), (7, 12)), ((1, 3000), (9, 10), (0, 20))]
)
def test_pad_keeps_everything_between_bars_of_the_mean(shape, rows, columns):
    made = preprocess("pad", (20, 20), mean=(0.5, 0.25, 0.75))
    found = stored_image(np.full((*shape, 3), 255, np.uint8), made)
    (top, bottom), (left, right) = rows, columns
    image = found[top:bottom, left:right]
    assert (image == 255).all()
    assert ((found == [128, 64, 191]).all(axis=2)).sum() == 400 - image.shape[0] * image.shape[1]


def test_photos_are_reduced_as_pillow_reduces_them():
    pixels = drawn_images(1, 90, 130)[0]
    wanted = np.asarray(Image.fromarray(pixels).resize((20, 10), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(stored_image(pixels, preprocess()), wanted)


@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
@pytest.mark.parametrize("shape", [(90, 130), (7, 130), (9, 5), (21, 33)])
def test_a_pillow_image_and_its_array_become_the_same(fit, shape):
    pixels = drawn_images(1, *shape)[0]
    made = preprocess(fit, (21, 33), crop=0.8)
    np.testing.assert_array_equal(stored_image(Image.fromarray(pixels), made), stored_image(pixels, made))


def test_antialiased():
    checks = np.indices((200, 200)).sum(0) % 2 * 255
    found = stored_image(np.repeat(checks[:, :, None], 3, 2).astype(np.uint8), preprocess(stored=(20, 20)))
    assert np.abs(found.astype(int) - 127.5).max() < 2


def test_a_growing_side_is_the_kernels_product_rounded_once():
    pixels = drawn_images(1, 8, 8)[0]
    exact = enlarge(pixels.astype(np.float64), 30, 20, "bicubic")
    found = resize_uint8(pixels, 30, 20, "bicubic")
    np.testing.assert_array_equal(found, np.clip(np.rint(exact), 0, 255))


def test_one_side_shrinks_while_the_other_grows():
    column = np.linspace(0, 255, 8)[:, None, None]
    pixels = np.broadcast_to(np.rint(column), (8, 100, 3)).astype(np.uint8)
    found = resize_uint8(pixels, 24, 10, "bilinear")
    assert found.shape == (24, 10, 3)
    assert np.ptp(found.astype(int), axis=1).max() == 0
    np.testing.assert_allclose(found[:, 0, 0], enlargement(8, 24, "bilinear") @ np.rint(column[:, 0, 0]), atol=0.51)


# the value


def test_a_value_survives_json():
    made = preprocess("pad", mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 3.0), crop=0.9)
    values = {key: list(value) if isinstance(value, tuple) else value for key, value in made.as_dict().items()}
    assert Preprocess.from_dict(values) == made
    with pytest.raises(TypeError):
        Preprocess.from_dict({**values, "colour": "BGR"})


@pytest.mark.parametrize(
    "wrong",
    [
        {"fit": "stretch"},
        {"kernel": "lanczos"},
        {"crop": 0.0},
        {"crop": 1.1},
        {"std": (1.0, 0.0, 1.0)},
        {"mean": (0.5,)},
        {"size": (0, 4)},
        {"stored": (4, -1)},
    ],
)
def test_impossible_values(wrong):
    with pytest.raises(ValueError, match="not a preprocessing"):
        Preprocess(**{"size": (4, 4), "stored": (4, 4), **wrong})
