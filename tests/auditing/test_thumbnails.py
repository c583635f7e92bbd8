"""The first look compares every image with every other; where too many are alike, each keeps its most alike."""

import numpy as np
import pytest

from frostline.auditing import thumbnails
from frostline.auditing.thumbnails import ALIKE, candidates
from frostline.drawn import drawn_images
from frostline.preprocess import resize_uint8

#: Less than single precision tells apart.
CLOSE = 1e-5


def correlations(images):
    """(N, N), in double precision."""
    small = images.reshape(-1, 8, 4, 8, 4, 3).mean(axis=(2, 4)).reshape(len(images), -1)
    return np.corrcoef(small)


def shaded(n, seed=0):
    """Images that are alike at this size: one slope of brightness, and noise."""
    slope = np.linspace(20, 220, 32)[None, None, :, None]
    return np.clip(slope + np.random.default_rng(seed).normal(0, 25, (n, 32, 32, 3)), 0, 255).astype(np.uint8)


def found(images, splits=None):
    splits = np.zeros(len(images), np.int64) if splits is None else splits
    return candidates(images, np.arange(len(images)), splits, lambda rows: None)


@pytest.mark.parametrize("block", [7, 2000])
def test_every_pair_is_compared_mirrored_or_not(monkeypatch, block):
    monkeypatch.setattr(thumbnails, "_BLOCK", block)
    smooth = np.stack([resize_uint8(image, 32, 32, "bicubic") for image in drawn_images(40, 4, 4, seed=3)])
    images = np.concatenate([smooth, smooth[:20, :, ::-1], np.roll(smooth[:20], 1, axis=1)])
    kept = found(images, np.arange(80) % 2)  # rows of two splits need not stand one after the other
    assert kept.each is None
    both = {False: correlations(images), True: correlations(np.concatenate([images, images[:, :, ::-1]]))[:80, 80:]}
    for mirrored, alike in both.items():
        pairs = {(int(a), int(b)) for a, b, m in zip(kept.first, kept.second, kept.mirrored, strict=True) if m == mirrored}
        upper = np.triu(np.ones((80, 80), bool), 1)
        assert pairs >= set(zip(*map(list, np.nonzero(upper & (alike >= ALIKE + CLOSE))), strict=True))
        assert pairs <= set(zip(*map(list, np.nonzero(upper & (alike >= ALIKE - CLOSE))), strict=True))
        assert len(pairs) >= 20


@pytest.mark.parametrize("block", [16, 50, 2000])
def test_of_too_many_each_image_keeps_the_most_alike_within_its_split_and_across(monkeypatch, block):
    for name, value in (("LOOKS", 300), ("LEAST", 3), ("_BLOCK", block)):
        monkeypatch.setattr(thumbnails, name, value)
    images, splits = shaded(130), np.repeat([0, 1], [90, 40])
    kept = found(images, splits)
    assert kept.each == 3
    assert len(kept) <= 2 * 3 * 130
    alike = correlations(images)
    np.fill_diagonal(alike, -1)
    assert (np.sort(alike, axis=1)[:, 10:] > ALIKE).mean() > 0.9  # nearly all pairs are candidates
    there = np.full((130, 130), -1.0)
    there[kept.first, kept.second] = there[kept.second, kept.first] = alike[kept.first, kept.second]
    for across in (False, True):
        of_kind = (splits[:, None] != splits) == across
        best, held = (np.sort(np.where(of_kind, values, -1), axis=1)[:, -3:] for values in (alike, there))
        assert np.abs(best - held).max() < CLOSE


def test_images_that_are_all_equally_alike_do_not_explode(monkeypatch):
    """Where all thumbnails are the very same, nothing tells which are the most alike."""
    for name, value in (("LOOKS", 200), ("LEAST", 2), ("_BLOCK", 20)):
        monkeypatch.setattr(thumbnails, name, value)
    images = np.repeat(shaded(1), 150, axis=0)
    most = []
    real = thumbnails._Kept._prune
    monkeypatch.setattr(thumbnails._Kept, "_prune", lambda kept: most.append(kept._count) or real(kept))
    kept = found(images)
    assert (kept.each, len(kept) <= 2 * 2 * 150) == (2, True)
    assert max(most) <= 2 * 2 * 2 * 150 + 2 * 2 * 20
    assert set(kept.first) | set(kept.second) == set(range(150))


def test_few_images_are_compared_with_more_than_the_least_number(monkeypatch):
    monkeypatch.setattr(thumbnails, "LOOKS", 1000)
    kept = found(shaded(100))
    assert kept.each == 10
    assert 500 <= len(kept) <= 1000
