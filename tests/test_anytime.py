"""Every prefix is a fair sample, validation comes first, and whoever stops has a model of what was seen."""

import itertools

import numpy as np
import pytest

from frostline import anytime, files
from frostline.anytime import CLOSELY, FIRST, GROWTH, NEAR, FeatureTable, Unseen, extract_splits, more_images, stratified_order
from frostline.data.imageset import ImageSet, Splits
from frostline.feature_cache import to_stored
from frostline.features import FeatureBlock, compressed
from frostline.linear import Moments
from frostline.metrics import wilson_interval
from frostline.stopping import StopRule

K, D, BLOCK = 4, 10, 20
CENTRES = np.random.default_rng(9).normal(size=(K, D))


def image_set(name, n, seed):
    labels = np.random.default_rng(seed).integers(0, K, n)
    ids = np.array([f"{name}/{i}" for i in range(n)])
    digests = np.array([f"{name}{i}".encode().ljust(16, b"x") for i in range(n)], "S16")
    return ImageSet(name, tuple("abcd"), labels, ids, digests, pixels=np.zeros((n, 1, 1, 3), np.uint8))


@pytest.fixture
def splits():
    return Splits(image_set("train", 400, 0), image_set("validation", 90, 1), None)


def features_of(images, rows, noise=1.5):
    """Features that tell the class, with noise of each image's own."""
    drawn = np.stack([np.random.default_rng([len(images), row]).normal(size=D) for row in rows])
    return (CENTRES[images.labels[rows]] + noise * drawn).astype(np.float32)


class Extraction:
    """Stands for the cache and the engine; remembers which rows were asked for, in order."""

    def __init__(self, noise=1.5, lowest=-np.inf):
        self.noise, self.lowest, self.given = noise, lowest, []

    def __call__(self, images, rows):
        for start in range(0, len(rows), BLOCK):
            block = rows[start : start + BLOCK]
            self.given += [(images.name, row) for row in block.tolist()]
            features = np.maximum(features_of(images, block, self.noise), self.lowest)
            yield FeatureBlock(block, to_stored(features, "float16")[:, None])


def run(splits, stop=None, extraction=None, points=None, seed=3, power=1.0):
    return extract_splits(
        splits,
        extraction or Extraction(),
        lambda rows: FeatureTable(rows, 1, D, "float16"),
        D,
        seed,
        stop or StopRule(),
        (points if points is not None else []).append,
        power,
    )


@pytest.mark.parametrize("lowest", [0.0, -1.0])
def test_features_that_can_be_negative_stay_as_they_are(splits, lowest):
    found = run(splits, extraction=Extraction(lowest=lowest), power=0.75)
    assert found.power == (0.75 if lowest == 0 else 1.0)
    rows = compressed(found.train.features, "float16", found.power)[:, 0]
    np.testing.assert_allclose(found.moments.mean, rows.mean(0), rtol=1e-3, atol=1e-3)


# order


@pytest.mark.parametrize("shares", [[0.25] * 4, [0.7, 0.2, 0.09, 0.01]])
def test_every_prefix_has_the_wholes_class_shares(shares):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(4), (1000 * np.array(shares)).astype(int)))
    order = stratified_order(labels, 5)
    assert sorted(order.tolist()) == list(range(len(labels)))
    counts = np.cumsum(np.eye(4)[labels[order]], axis=0)
    wanted = np.arange(1, len(labels) + 1)[:, None] * np.bincount(labels) / len(labels)
    assert np.abs(counts - wanted).max() <= 2.0


def test_small_classes_come_first_where_they_would_come_late():
    labels = np.concatenate([np.repeat(np.arange(20), 500), [20, 20]])
    for seed in range(5):
        order = stratified_order(labels, seed)
        assert sorted(order.tolist()) == list(range(len(labels)))
        assert set(labels[order[:512]]) == set(range(21))


def test_work_is_not_cut_short_before_every_class_was_seen():
    unseen = Unseen(np.array([0, 1, 1, 2]))
    assert unseen.see(np.array([0, 1]))
    assert unseen.see(np.array([2]))
    assert not unseen.see(np.array([3]))
    assert not unseen.see(np.array([0]))


def test_the_order_is_random_but_the_seeds():
    labels = np.arange(300) % 3
    order = stratified_order(labels, 1)
    np.testing.assert_array_equal(order, stratified_order(labels, 1))
    assert (order != stratified_order(labels, 2)).mean() > 0.9
    assert (np.diff(order) > 0).mean() < 0.7


def test_the_first_images_hold_every_class():
    labels = np.repeat(np.arange(10), 100)
    assert set(labels[stratified_order(labels, 0)[:20]]) == set(range(10))


def test_unknown_labels_and_empty_sets():
    assert stratified_order(np.empty(0, np.int64), 0).tolist() == []
    assert sorted(stratified_order(np.array([-1, 0, 1, -1]), 0).tolist()) == [0, 1, 2, 3]


# extraction


def test_validation_first_then_train_then_the_rest_of_validation(splits, monkeypatch):
    monkeypatch.setattr(anytime, "FIRST", 40)
    extraction = Extraction()
    found = run(splits, extraction=extraction)
    names = [name for name, _ in extraction.given]
    assert names == ["validation"] * 40 + ["train"] * 400 + ["validation"] * 50
    judges = [row for name, row in extraction.given if name == "validation"]
    assert judges == stratified_order(splits.validation.labels, 3).tolist() == found.validation.seen.tolist()
    assert found.train.seen.tolist() == stratified_order(splits.train.labels, 3).tolist()
    assert (found.train.count, found.validation.count, found.reason) == (400, 90, "")
    assert FIRST == 2000


def test_tables_and_moments_hold_what_was_extracted(splits):
    found = run(splits)
    for table, images in ((found.train, splits.train), (found.validation, splits.validation)):
        np.testing.assert_array_equal(table.features[:, 0], features_of(images, table.seen).astype(np.float16))
    exact = Moments(D, K)
    exact.add(found.train.compressed(1)[:, 0], splits.train.labels[found.train.seen])
    assert found.moments.n == 400
    np.testing.assert_allclose(found.moments.ridge(0.1).weight, exact.ridge(0.1).weight, rtol=1e-3, atol=1e-5)


def test_the_learning_curve(splits, monkeypatch):
    monkeypatch.setattr(anytime, "FIRST", 60)
    points = []
    found = run(splits, points=points)
    assert points == found.curve
    images = [point["images"] for point in points]
    assert images[0] == BLOCK
    assert images[-1] == 400
    assert all(later >= earlier * GROWTH for earlier, later in itertools.pairwise(images[:-1]))
    assert images[-1] > images[-2]
    assert all(point["validation_images"] == 60 for point in points)
    seconds = [point["seconds"] for point in points]
    assert seconds == sorted(seconds)
    for point in points:
        right = round(point["validation_accuracy"] * 60)
        assert point["validation_accuracy"] == pytest.approx(right / 60)
        assert point["interval"] == pytest.approx(list(wilson_interval(right, 60)))
    # the last point is the ridge head of everything, on the first validation images
    head, rows = found.moments.ridge(points[-1]["l2"]), found.validation.seen[:60]
    answers = head.logits(found.validation.compressed(1)[:60, 0]).argmax(1)
    assert points[-1]["validation_accuracy"] == pytest.approx((answers == splits.validation.labels[rows]).mean())


def test_an_accuracy_ends_it_at_the_first_block_that_reaches_it(splits):
    found = run(splits, StopRule(stop_at=0.7))
    gains = [later["images"] / point["images"] for point, later in itertools.pairwise(found.curve)]
    near = [point["validation_accuracy"] >= 0.7 - NEAR for point in found.curve[:-1]]
    assert all(gain >= (CLOSELY if close else GROWTH) for gain, close in zip(gains, near, strict=True))
    assert [point["validation_accuracy"] >= 0.7 for point in found.curve] == [False] * (len(found.curve) - 1) + [True]
    assert "reached --stop-at 0.7" in found.reason
    assert found.train.count < 400
    assert found.moments.n == found.train.count


def test_an_accuracy_that_is_never_reached(splits):
    found = run(splits, StopRule(stop_at=1.0), Extraction(noise=20))
    assert (found.train.count, found.validation.count, found.reason) == (400, 90, "")


def test_an_accuracy_reached_by_the_last_block_is_no_early_end(splits):
    extraction = Extraction(noise=0.01)
    small = Splits(splits.train.take(range(BLOCK)), splits.validation, None)
    found = run(small, StopRule(stop_at=0.1), extraction)
    assert (found.train.count, found.reason) == (BLOCK, "")


class Budget(StopRule):
    """A clock that is asked instead of read: each question takes a second."""

    asked = 0

    def elapsed(self):
        self.asked += 1
        return float(self.asked)


def test_a_budget_ends_it(splits, monkeypatch):
    monkeypatch.setattr(anytime, "FIRST", 40)
    found = run(splits, Budget(budget_s=8.0))
    assert 0 < found.train.count < 400
    assert found.train.count % BLOCK == 0
    assert found.validation.count == 40
    assert "budget" in found.reason


def test_a_spent_budget_still_sees_validation_and_one_block(splits, monkeypatch):
    monkeypatch.setattr(anytime, "FIRST", 40)
    found = run(splits, Budget(budget_s=0.5))
    assert (found.validation.count, found.train.count) == (40, BLOCK)
    assert len(found.curve) == 1


def test_ctrl_c_while_validation_is_read_goes_on_to_one_block_of_training(splits, monkeypatch):
    monkeypatch.setattr(anytime, "FIRST", 80)
    stop, extraction = StopRule(), Extraction()

    def pressed(images, rows):
        for block in extraction(images, rows):
            stop.interrupted = True
            yield block

    found = run(splits, stop, pressed)
    assert (found.validation.count, found.train.count) == (BLOCK, BLOCK)
    assert found.reason == "interrupted by Ctrl-C"


def test_test_is_not_touched(splits):
    extraction = Extraction()
    run(Splits(splits.train, splits.validation, image_set("test", 50, 2)), extraction=extraction)
    assert {name for name, _ in extraction.given} == {"train", "validation"}


# the table


def test_a_large_table_is_in_a_file(monkeypatch):
    monkeypatch.setattr(files, "OF_THE_MEMORY", 1000 / files.MEMORY)
    table = FeatureTable(5000, 2, D, "float16")
    assert isinstance(table._features, np.memmap)
    values = np.random.default_rng(0).normal(size=(4500, 2, D)).astype(np.float16)
    for start in range(0, 4500, 500):
        table.add(FeatureBlock(np.arange(start, start + 500), values[start : start + 500]))
    assert (table.count, len(table.features)) == (4500, 4500)
    np.testing.assert_array_equal(table.features, values)
    wanted = compressed(values, "float16", 0.75)
    np.testing.assert_array_equal(table.compressed(0.75), wanted)
    out = np.empty((4500, 2, D), np.float32)
    assert table.compressed(0.75, out) is out
    np.testing.assert_array_equal(out, wanted)
    mean = np.empty((4500, D), np.float32)
    assert table.averaged(0.75, mean) is mean
    np.testing.assert_allclose(mean, (wanted[:, 0] + wanted[:, 1]) / 2, rtol=1e-6)
    np.testing.assert_array_equal(table.averaged(0.75), mean)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_table_of_another_type(dtype):
    table, values = FeatureTable(3, 1, 2, dtype), np.array([[[1.5, 2]], [[3, 4e5]]], np.float32)
    table.add(FeatureBlock(np.array([4, 2]), to_stored(values, dtype)))
    np.testing.assert_allclose(table.compressed(1), values, rtol=2**-8)
    assert table.seen.tolist() == [4, 2]


def test_views_that_are_filled_in_later():
    table = FeatureTable(3, 3, 2, "float32")
    values = np.arange(18, dtype=np.float32).reshape(3, 3, 2)
    table.add(FeatureBlock(np.array([4, 2]), values[:2, :1]))
    table.add(FeatureBlock(np.array([7]), values[2:, :1]))
    table.fill(0, 1, FeatureBlock(np.array([4]), values[:1, 1:]))
    table.fill(1, 1, FeatureBlock(np.array([2, 7]), values[1:, 1:]))
    np.testing.assert_array_equal(table.features, values)
    assert table.seen.tolist() == [4, 2, 7]


# would more images help?


def point(images, accuracy):
    return {"images": images, "validation_accuracy": accuracy, "interval": [accuracy - 0.01, accuracy + 0.01]}


def test_whether_more_images_would_help():
    assert more_images([]).startswith("Too few points")
    assert more_images([point(512, 0.5), point(700, 0.6)]).startswith("Too few points")
    rising = [point(512, 0.7), point(1000, 0.80), point(2000, 0.85)]
    assert more_images(rising) == (
        "From 1,000 to 2,000 images validation accuracy rose by 5.0 points: more images would probably help."
    )
    assert "change little" in more_images([*rising, point(4000, 0.852)])
    assert "From 2,000 to 4,000" in more_images([*rising, point(4000, 0.852)])
