"""Mixtures of training images, of which a teacher is asked."""

import numpy as np
import pytest
import torch

from frostline.data.batches import ArrayBatches
from frostline.data.imageset import ImageSet
from frostline.data.mixtures import mixtures_alone, with_mixtures
from frostline.data.rows import pixel_digests

PIXELS = np.random.default_rng(0).integers(0, 256, (30, 5, 4, 3), dtype=np.uint8)


def batches(pixels, versions, **options):
    """Batches of unchanged images, in one part, whose labels are the row numbers."""
    rows = len(pixels) // versions
    values = {"mean": (0, 0, 0), "std": (1 / 255,) * 3, "shuffle": True, "versions": versions}
    return ArrayBatches(pixels, np.arange(rows), rows, **(values | options))


def numbered(rows, versions):
    """Images of 1×2 pixels: the first says which row it is of, the second which version."""
    pixels = np.zeros((rows * versions, 1, 2, 3), np.uint8)
    pixels[:, 0, 0], pixels[:, 0, 1] = (np.arange(len(pixels)) % rows)[:, None], (250 + np.arange(len(pixels)) // rows)[:, None]
    return pixels


def shown(made, number):
    """For each row of an epoch, in the order of rows: the version that is shown, and whether it is mirrored."""
    x, y = next(made.epoch(number))
    x = x[y.argsort(), 0, 0].int()
    mirrored = x[:, 0] != torch.arange(len(x))
    assert torch.equal(torch.where(mirrored, x[:, 1], x[:, 0]), torch.arange(len(x), dtype=torch.int32))
    return (torch.where(mirrored, x[:, 0], x[:, 1]) - 250).tolist(), mirrored.tolist()


def test_no_mixtures_are_the_images_themselves():
    assert with_mixtures(PIXELS, 0, seed=0) is PIXELS


def test_a_mixture_lies_between_its_image_and_another_nearer_to_its_own():
    mixed = with_mixtures(PIXELS, 2, seed=0)
    assert (mixed.shape, mixed.dtype) == ((90, 5, 4, 3), np.uint8)
    np.testing.assert_array_equal(mixed[:30], PIXELS)
    values = PIXELS.astype(float)
    for row, found in enumerate(mixed[30:].astype(float)):
        own = values[row % 30]
        shares = []
        for other in values:
            away = other - own
            part = float((away * (found - own)).sum() / max((away**2).sum(), 1))  # the other's share that explains most
            if np.abs(own + part * away - found).max() <= 1.01:  # rounding, and the share's own error
                shares.append(part)
        assert shares
        assert all(-0.02 <= share <= 0.52 for share in shares)


def test_shares_are_of_all_sizes_and_partners_differ():
    black_and_white = np.zeros((400, 1, 1, 3), np.uint8)
    black_and_white[200:] = 255
    mixed = with_mixtures(black_and_white, 2, seed=0)[400:, 0, 0, 0].reshape(2, 400).astype(float)
    of_black = mixed[:, :200][mixed[:, :200] > 0] / 255
    assert 150 < len(of_black) < 250
    assert np.histogram(of_black, bins=4, range=(0, 0.5))[0].min() > 25
    assert of_black.max() <= 0.5 + 1 / 255
    assert not np.array_equal(mixed[0], mixed[1])


def test_the_seed_decides_and_many_images_are_mixed_in_parts(monkeypatch):
    whole = with_mixtures(PIXELS, 2, seed=3)
    monkeypatch.setattr("frostline.data.mixtures._AT_ONCE", 7 * PIXELS[0].size)
    np.testing.assert_array_equal(with_mixtures(PIXELS, 2, seed=3), whole)
    assert not np.array_equal(with_mixtures(PIXELS, 2, seed=4), whole)


def test_one_image_is_mixed_with_itself():
    np.testing.assert_array_equal(with_mixtures(PIXELS[:1], 1, seed=0), np.repeat(PIXELS[:1], 2, axis=0))


def test_mixtures_are_a_set_of_their_own():
    labels = np.arange(30) % 3
    images = ImageSet(
        "train", ("a", "b", "c"), labels, np.array([f"train/{i}" for i in range(30)]), pixel_digests(PIXELS), pixels=PIXELS
    )
    mixed = with_mixtures(PIXELS, 2, seed=0)
    found = mixtures_alone(images, mixed)
    assert (len(found), found.name, found.ids[30]) == (60, "mixtures of train", "mixture 2 of train/0")
    np.testing.assert_array_equal(found.pixels, mixed[30:])
    np.testing.assert_array_equal(found.labels, np.tile(labels, 2))
    np.testing.assert_array_equal(found.digests, pixel_digests(mixed[30:]))


def test_an_epoch_shows_every_image_once_and_its_versions_in_turn():
    made = batches(numbered(200, 3), 3)
    epochs = [shown(made, number)[0] for number in range(6)]
    assert epochs[0] == shown(made, 0)[0]
    for row in range(200):
        turns = [versions[row] for versions in epochs]
        assert sorted(turns[:3]) == [0, 1, 2]
        assert turns[3:] == turns[:3]
    for versions in epochs:
        assert np.bincount(versions).min() > 40


def test_answers_are_of_the_version_that_is_shown():
    answers = np.stack([np.arange(60) % 20, 250 + np.arange(60) // 20], axis=1).astype(np.float32)
    made = batches(numbered(20, 3), 3).learn_from(answers)
    for number in range(3):
        x, y = next(made.epoch(number))
        torch.testing.assert_close(y, x[:, 0, 0])
    with pytest.raises(ValueError, match="answers for 60 rows, not 20"):
        made.learn_from(answers[:20])


def test_every_version_is_shown_both_ways():
    made = batches(numbered(200, 2), 2, alternate=True)
    epochs = [set(zip(range(200), *shown(made, number), strict=True)) for number in range(4)]
    assert len(set.union(*epochs)) == 200 * 2 * 2


def test_what_training_begins_from_are_the_images_alone():
    pixels = np.concatenate([np.zeros((10, 2, 2, 3), np.uint8), np.full((20, 2, 2, 3), 200, np.uint8)])
    assert batches(pixels, 3).sample(2**20).shape == (10, 3, 2, 2)
    assert not batches(pixels, 3).sample(2**20).any()
    with pytest.raises(ValueError, match="expected 3 ×"):
        ArrayBatches(pixels, np.zeros(11, np.int64), 4, mean=(0, 0, 0), std=(1, 1, 1), versions=3)
