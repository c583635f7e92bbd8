"""Which rows an epoch shows, and in which order."""

import numpy as np
import pytest
import torch

from frostline.data.batches import FeatureBatches
from frostline.data.order import stream_seed


def numbers(n, batch_size=4, **options):
    """Batches whose labels are the row numbers."""
    return FeatureBatches(np.zeros((n, 1, 1), np.float32), np.arange(n), batch_size, **options)


def shown(batches, number):
    return torch.cat([y for _, y in batches.epoch(number)]).tolist()


def with_losses(batches, number, losses):
    """Give an epoch, telling each row's loss; its rows."""
    rows = []
    for _, y in batches.epoch(number):
        batches.learned(losses[y])
        rows += y.tolist()
    return rows


def test_streams_differ_by_every_part():
    assert len({stream_seed(0, 0), stream_seed(0, 1), stream_seed(1, 0), stream_seed(0, 0, 1)}) == 4


@pytest.mark.parametrize(("rows", "sizes"), [(9, [4, 5]), (10, [4, 4, 2]), (5, [5]), (1, [1])])
def test_no_batch_of_training_has_one_row(rows, sizes):
    features, labels = np.zeros((rows, 1, 3), np.float32), np.arange(rows)
    training = FeatureBatches(features, labels, 4, shuffle=True)
    found = [y for _, y in training.epoch(0)]
    assert ([len(y) for y in found], len(training)) == (sizes, len(sizes))
    assert sorted(torch.cat(found).tolist()) == list(range(rows))
    judging = FeatureBatches(features, labels, 4)
    assert [len(y) for _, y in judging.epoch(0)] == [4] * (rows // 4) + [rows % 4] * bool(rows % 4)


def test_balanced_order_draws_every_class_alike_and_as_many_rows():
    labels = np.array([0] * 900 + [1] * 90 + [2] * 10)
    made = FeatureBatches(np.arange(1000, dtype=np.float32)[:, None, None], labels, 100, shuffle=True, balanced=True)
    drawn = torch.cat([y for _, y in made.epoch(0)])
    assert len(drawn) == 1000
    assert torch.bincount(drawn).min() > 270
    assert not torch.equal(drawn, torch.cat([y for _, y in made.epoch(1)]))
    assert torch.equal(drawn, torch.cat([y for _, y in made.epoch(0)]))


def test_an_epoch_leaves_out_a_share_of_the_rows_any_of_them_at_first():
    batches = numbers(100, 8, shuffle=True).leave_out(0.25)
    first = shown(batches, 0)
    assert len(first) == len(set(first)) == batches.shown == 75
    assert len(batches) == 10
    assert batches.rows == 100
    assert first == shown(batches, 0)
    assert set(first) != set(shown(numbers(100, 8, shuffle=True, seed=1).leave_out(0.25), 0))


@pytest.mark.parametrize("share", [0.25, 0.3, 0.34, 0.4, 0.5])
def test_rows_that_were_not_seen_yet_are_not_left_out_again(share):
    batches = numbers(100, 8, shuffle=True).leave_out(share)
    first = with_losses(batches, 0, torch.ones(100))
    second = shown(batches, 1)
    assert set(range(100)) - set(first) <= set(second)
    assert len(second) == len(set(second)) == batches.shown == 100 - int(share * 100)


def test_a_loss_that_is_no_number_changes_no_lengths():
    batches = numbers(10, 4, shuffle=True).leave_out(0.5)
    with_losses(batches, 0, torch.full((10,), torch.nan))
    assert len(shown(batches, 1)) == 5


def test_a_random_half_of_the_easiest_is_left_out_and_comes_back():
    batches = numbers(100, 8, shuffle=True).leave_out(0.25)
    losses = torch.arange(100.0)
    for number in range(2):  # then every row was seen
        with_losses(batches, number, losses)
    missing = [set(range(100)) - set(with_losses(batches, number, losses)) for number in range(2, 12)]
    assert {len(rows) for rows in missing} == {25}
    assert all(rows <= set(range(50)) for rows in missing)
    assert set.union(*missing) == set(range(50))
    assert not set.intersection(*missing)


def test_a_batch_tells_the_losses_of_its_own_rows():
    batches = numbers(10, 4, shuffle=True).leave_out(0.2)
    rows = with_losses(batches, 0, torch.arange(10.0))
    left_out = sorted(set(range(10)) - set(rows))
    assert batches.losses[rows].tolist() == [float(row) for row in rows]
    assert batches.losses[left_out].isinf().all()


def test_no_share_leaves_everything_as_it_is():
    batches = numbers(10, 4, shuffle=True).leave_out(0.0)
    assert batches.losses is None
    assert sorted(shown(batches, 0)) == list(range(10))
    batches.learned(torch.zeros(4))
    assert batches.losses is None


def test_a_last_row_alone_joins_the_batch_before_it():
    batches = numbers(10, 4, shuffle=True).leave_out(0.1)
    assert [len(y) for _, y in batches.epoch(0)] == [4, 5]
    assert len(batches) == 2
