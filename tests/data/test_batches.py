import numpy as np
import pytest
import torch

from frostline.config import Settings
from frostline.data.augment import Mirror, Shift
from frostline.data.batches import ArrayBatches, FeatureBatches, crops, growing
from frostline.data.views import served

MEAN, STD = (0.5, 0.25, 0.0), (0.5, 0.25, 1.0)


def images(n=10, size=(4, 4), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *size, 3), dtype=np.uint8)


def arrays(n=10, batch_size=4, **options):
    return ArrayBatches(images(n), np.arange(n), batch_size, mean=MEAN, std=STD, **options)


def test_in_order_every_row_normalised_the_last_batch_kept():
    batches = arrays()
    found = list(batches.epoch(0))
    assert [len(y) for _, y in found] == [4, 4, 2]
    assert (len(batches), batches.rows) == (3, 10)
    assert torch.cat([y for _, y in found]).tolist() == list(range(10))
    expected = (images().transpose(0, 3, 1, 2) / 255 - np.reshape(MEAN, (3, 1, 1))) / np.reshape(STD, (3, 1, 1))
    x = torch.cat([x for x, _ in found])
    assert x.dtype == torch.float32
    assert np.allclose(x.numpy(), expected, atol=1e-6)
    assert found[0][0].is_contiguous(memory_format=torch.channels_last)


def test_images_are_reduced_in_the_first_epochs():
    batches = arrays(sizes=[(2, 2), (3, 3), (4, 4)])
    assert [next(batches.epoch(number))[0].shape[2:] for number in range(5)] == [(2, 2), (3, 3), (4, 4), (4, 4), (4, 4)]
    half, whole = (next(batches.epoch(number))[0] for number in (0, 2))
    weights = torch.tensor([3.0, 3.0, 1.0]) / 7  # a triangle as wide as the reduction, cut off at the border
    expected = torch.einsum("i,bcij,j->bc", weights, whole[:, :, :3, :3], weights)
    torch.testing.assert_close(half[:, :, 0, 0], expected)


def test_images_grow_in_time_where_the_clock_is_ahead_of_the_epochs():
    done = iter([0.0, 0.9, 1.0, 2.7, 9.0])
    batches = arrays(sizes=[(2, 2), (3, 3), (4, 4)])
    batches.due = lambda: next(done)
    found = [next(batches.epoch(number))[0].shape[2] for number in (0, 0, 0, 1, 1)]
    assert found == [2, 2, 3, 4, 4]


def test_sizes_grow_in_equal_steps_and_keep_the_shape():
    assert growing((32, 32), 20, 3) == ((20, 20), (24, 24), (28, 28), (32, 32))
    assert growing((24, 48), 12, 2) == ((12, 24), (18, 36), (24, 48))
    assert growing((32, 32), 32, 3) == growing((32, 32), 20, 0) == ((32, 32),)


def test_two_views_are_the_image_and_its_mirror_image():
    (one, y), (two, same) = (next(arrays(views=views).epoch(0)) for views in (1, 2))
    assert two.shape == (4, 2, 3, 4, 4)
    assert torch.equal(two[:, 0], one)
    assert torch.equal(two[:, 1], one.flip(-1))
    assert torch.equal(y, same)


def test_six_views_are_those_that_are_served():
    x = next(arrays(views=6).epoch(0))[0]
    assert x.shape == (4, 6, 3, 4, 4)
    for number in range(6):
        rows, columns = served(number, (4, 4))
        assert torch.equal(x[:, number], x[:, 0][:, :, rows][:, :, :, columns])


def test_alternating_shows_every_image_both_ways_in_two_epochs():
    plain = next(iter(arrays(40, 40).epoch(0)))[0]
    batches = arrays(40, 40, alternate=True)
    first, second, third = (next(batches.epoch(number))[0] for number in range(3))
    mirrored = [torch.equal(x, image.flip(-1)) for x, image in zip(first, plain, strict=True)]
    assert 8 <= sum(mirrored) <= 32
    assert torch.equal(second, first.flip(-1))
    assert torch.equal(third, first)
    other = next(arrays(40, 40, alternate=True, seed=1).epoch(0))[0]
    assert not torch.equal(other, first)


def test_a_sample_is_from_all_over_the_data():
    batches = arrays(10)
    found = batches.sample(4 * 16)
    assert torch.equal(found, torch.cat([x for x, _ in batches.epoch(0)])[[0, 3, 6, 9]])
    assert (len(batches.sample(100 * 16)), len(batches.sample(1))) == (10, 1)


def test_training_visits_every_row_once_an_epoch_in_a_new_order():
    batches = arrays(shuffle=True, seed=3)
    first, second = (torch.cat([y for _, y in batches.epoch(e)]).tolist() for e in (0, 1))
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second


def test_an_epoch_depends_on_seed_and_number_alone():
    options = {"shuffle": True, "augmentations": (Mirror(), Shift(1))}
    torch.manual_seed(1)
    once = [x for x, _ in arrays(seed=5, **options).epoch(7)]
    torch.manual_seed(2)
    batches = arrays(seed=5, **options)
    list(batches.epoch(0))
    state = torch.get_rng_state()
    again = [x for x, _ in batches.epoch(7)]
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
    assert torch.equal(state, torch.get_rng_state())
    other = [x for x, _ in arrays(seed=6, **options).epoch(7)]
    assert not all(torch.equal(a, b) for a, b in zip(once, other, strict=True))


def test_augmentation_is_drawn_anew_each_epoch_and_the_stored_images_stay():
    batches = arrays(augmentations=(Shift(2),))
    before = batches.images.clone()
    a, b = (torch.cat([x for x, _ in batches.epoch(e)]) for e in (0, 1))
    assert not torch.equal(a, b)
    assert torch.equal(batches.images, before)


def test_read_only_images_and_labels():
    pixels, labels = images(), np.arange(10)
    pixels.flags.writeable = labels.flags.writeable = False
    batches = ArrayBatches(pixels, labels, 4, mean=MEAN, std=STD)
    assert len(list(batches.epoch(0))) == 3


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="uint8"):
        ArrayBatches(images().astype(np.float32), np.arange(10), 4, mean=MEAN, std=STD)
    with pytest.raises(ValueError, match="N labels"):
        ArrayBatches(images(), np.arange(9), 4, mean=MEAN, std=STD)
    with pytest.raises(ValueError, match="no rows"):
        ArrayBatches(images(0), np.arange(0), 4, mean=MEAN, std=STD)
    with pytest.raises(ValueError, match="features"):
        FeatureBatches(np.zeros((3, 2)), np.arange(3), 4)


def test_features_in_training_are_a_random_view_of_each_row():
    # Row r, view v holds 10 r + v.
    features = (10 * np.arange(50)[:, None] + np.arange(2)[None])[:, :, None].astype(np.float16)
    batches = FeatureBatches(features, np.arange(50), 16, seed=0, shuffle=True)
    x, y = (torch.cat(parts) for parts in zip(*batches.epoch(0), strict=True))
    assert x.shape == (50, 1)
    assert x.dtype == torch.float32
    views = x[:, 0] - 10 * y
    assert set(views.tolist()) == {0.0, 1.0}
    assert 10 < views.sum() < 40
    other = torch.cat([x for x, _ in batches.epoch(1)])
    assert not torch.equal(other, x)


def test_features_in_evaluation_keep_all_views_in_order():
    features = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    x = torch.cat([x for x, _ in FeatureBatches(features, np.arange(3), 2).epoch(0)])
    assert torch.equal(x, torch.from_numpy(features))


def test_features_that_are_maps_come_in_their_shape():
    features = np.arange(2 * 3 * 8, dtype=np.float32).reshape(2, 3, 8)
    trained = FeatureBatches(features, np.array([0, 1]), 2, shape=(2, 2, 2), shuffle=True)
    judged = FeatureBatches(features, np.array([0, 1]), 2, shape=(2, 2, 2))
    assert next(trained.epoch(0))[0].shape == (2, 2, 2, 2)
    x, _ = next(judged.epoch(0))
    assert x.shape == (2, 3, 2, 2, 2)
    assert torch.equal(x.flatten(2), torch.from_numpy(features))


def test_the_first_epoch_has_the_first_view_alone_where_the_others_are_still_to_come():
    """Row r, view v holds 10 r + v; views 1 and 2 are there when the second epoch begins."""
    features = (10.0 * np.arange(60)[:, None] + np.arange(3)[None])[:, :, None].astype(np.float32)
    table, asked = torch.full((60, 3, 1), torch.nan), []
    table[:, 0] = torch.from_numpy(features[:, 0])

    def complete():
        asked.append(len(asked))
        return torch.from_numpy(features) if len(asked) > 1 else None

    batches = FeatureBatches(table, np.arange(60), 16, complete=complete, shuffle=True)

    def views(number):
        x, y = (torch.cat(parts) for parts in zip(*batches.epoch(number), strict=True))
        return (x[:, 0] - 10 * y).tolist()

    batches.prepare(0)
    assert (set(views(0)), asked) == ({0.0}, [])
    batches.prepare(1)  # cut short
    assert asked == [0]
    assert (set(views(1)), asked) == ({0.0}, [0])  # as the learning-rate finder does: no epoch computes them itself
    batches.prepare(1)
    assert asked == [0, 1]
    assert set(views(1)) == {0.0, 1.0, 2.0}
    batches.prepare(1)
    assert asked == [0, 1]
    assert set(views(0)) == {0.0}  # made again, the first epoch is what it was
    whole = FeatureBatches(features, np.arange(60), 16, shuffle=True)
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(batches.epoch(1), whole.epoch(1), strict=True))


def test_epochs_begin_with_parts_of_maps_and_end_with_whole_ones():
    maps = np.arange(2 * 3 * 4 * 4, dtype=np.float32).reshape(2, 1, -1)
    sizes = crops((3, 4, 4), Settings(epochs=4, crop_from=0.5, grow_share=0.5))
    assert sizes == ((2, 2), (3, 3), (4, 4))
    batches = FeatureBatches(maps, np.arange(2), 2, shape=(3, 4, 4), sizes=sizes, shuffle=True)
    assert batches.shapes == 3
    for number, side in enumerate((2, 3, 4, 4)):
        x, labels = next(batches.epoch(number))
        assert x.shape == (2, 3, side, side)
        for map_, label in zip(x, labels, strict=True):
            found = map_ - map_[0, 0, 0]
            assert torch.equal(found, torch.arange(48.0).view(3, 4, 4)[:, :side, :side])
            assert ((map_ >= 48 * label) & (map_ < 48 * (label + 1))).all()
    batches.due = lambda: 3.0  # by the clock of a budget the last epoch has come
    assert next(batches.epoch(0))[0].shape == (2, 3, 4, 4)
    assert crops((3, 4, 4), Settings(epochs=4)) == crops((48,), Settings(epochs=4, crop_from=0.5)) == ()
    assert crops((3, 4, 4), Settings(epochs=1, crop_from=0.5)) == ((4, 4),)
