"""What training can carry along: gradient clipping, mixing, a moving average, a soup; and all of it through a checkpoint."""

import math

import pytest
import torch
from torch import nn
from toyrows import points, settings

from frostline.checkpoints import Checkpoints
from frostline.loop import fit
from frostline.loop_state import Best, MovingAverage
from frostline.models.heads import make_head
from frostline.stopping import StopRule
from frostline.training import Training


def trained(network=None, checkpoints=None, on_epoch=lambda row: None, **values):
    network = network or make_head("dense-d", 3, 3)
    made = fit(
        network, points(), points(200, 1, shuffle=False), settings=settings(**values), checkpoints=checkpoints, on_epoch=on_epoch
    )
    return made, {name: value.clone() for name, value in network.state_dict().items()}


@pytest.mark.parametrize(
    "values",
    [
        {"clip": 0.01},
        {"mixup": 1.0},
        {"loss": "focal"},
        {"balance": "loss"},
        {"ema": 0.9},
        {"schedule": "cosine", "warmup_epochs": 1.0},
        {"optimizer": "sgd"},
    ],
)
def test_every_option_changes_what_is_learnt_and_is_repeatable(values):
    plain, (made, weights), (_, again) = trained()[1], trained(**values), trained(**values)
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    assert any(not torch.equal(weights[name], plain[name]) for name in weights)
    assert made.best["validation_accuracy"] > 0.4


def test_clipping_bounds_the_step():
    class Line(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.zeros(3, 3))

        def forward(self, x):
            return 1000 * x @ self.w

    network = Line()
    fit(network, points(16), points(20, 1, shuffle=False), settings=settings(clip=0.5, optimizer="sgd", momentum=0, epochs=1, lr=1))
    assert float(network.w.detach().norm()) == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize("values", [{}, {"mixup": 1.0}, {"label_smoothing": 0.2}])
def test_a_batch_in_parts_gives_the_same_step_as_a_whole_one(values):
    (whole, wanted), (parts, found) = (trained(accumulate=n, epochs=1, optimizer="sgd", **values) for n in (1, 4))
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value)
    assert parts.history[0]["train_loss"] == pytest.approx(whole.history[0]["train_loss"], rel=1e-4)
    assert parts.history[0]["train_accuracy"] == whole.history[0]["train_accuracy"]
    assert parts.history[0]["steps"] == whole.history[0]["steps"]


def test_a_penalty_counts_once_however_many_parts_there_are():
    heads = [make_head("dense-b", 3, 3) for _ in range(2)]
    made = [trained(head, accumulate=n, epochs=1, optimizer="sgd")[1] for head, n in zip(heads, (1, 5), strict=True)]
    for name, value in made[0].items():
        torch.testing.assert_close(made[1][name], value)


@pytest.mark.parametrize("rows", [2, 3, 5, 9])
def test_batchnorm_sees_a_part_at_a_time_and_no_part_of_one_row(rows):
    seen = []

    class Normed(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.head = nn.BatchNorm1d(3), nn.Linear(3, 3)

        def forward(self, x):
            if self.training:
                seen.append(len(x))
            return self.head(self.norm(x.reshape(-1, 3))).reshape(x.shape)

    made = Training(Normed(), points(), points(8, shuffle=False), settings(accumulate=4), None, StopRule())
    made.descend(torch.randn(rows, 3), torch.arange(rows) % 3)
    assert sum(seen) == rows
    assert min(seen) >= 2
    assert len(seen) == min(4, rows // 2)


def test_the_average_by_hand():
    network = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        network.weight.fill_(0.0)
    average = MovingAverage(network, 0.5)
    for step, value in enumerate((1.0, 3.0), start=1):
        with torch.no_grad():
            network.weight.fill_(value)
        average.update(step)
    first = 1 - 2 / 11  # after the first step the decay is (1 + 1) / (10 + 1)
    wanted = first + (3 - first) * (1 - 3 / 12)
    with average.in_place():
        assert float(network.weight.detach()) == pytest.approx(wanted)
    assert float(network.weight.detach()) == 3.0


def test_the_averaged_weights_are_judged_and_kept_while_training_goes_on_from_its_own():
    seen = []
    network = make_head("dense-d", 3, 3)
    made, kept = trained(network, lambda_free := None, lambda row: seen.append(network[0].weight.detach().clone()), ema=0.99)
    assert lambda_free is None
    plain = []
    other = make_head("dense-d", 3, 3)
    trained(other, None, lambda row: plain.append(other[0].weight.detach().clone()))
    assert all(torch.equal(a, b) for a, b in zip(seen, plain, strict=True))  # training itself is unmoved
    assert not torch.equal(kept["0.weight"], seen[made.best["epoch"] - 1])


def judged(accuracy, loss=1.0, epoch=1):
    return {"validation_accuracy": accuracy, "validation_loss": loss, "epoch": epoch}


def test_the_best_are_kept_in_order_and_averaged():
    network = nn.Linear(1, 1, bias=False)
    best = Best(network, "accuracy", 2)
    for epoch, (value, accuracy) in enumerate([(1.0, 0.5), (2.0, 0.9), (4.0, 0.7), (8.0, 0.9), (16.0, 0.1)], start=1):
        with torch.no_grad():
            network.weight.fill_(value)
        best.offer(judged(accuracy, epoch=epoch))
    assert best.row["epoch"] == 2  # of two that are alike, the older
    assert [row["epoch"] for row in best.average()] == [2, 4]
    assert float(network.weight.detach()) == 5.0
    best.restore()
    assert float(network.weight.detach()) == 2.0


def test_a_soup_is_kept_only_where_validation_improves():
    found = [trained(soup=3, lr=lr, epochs=6)[0] for lr in (0.5, 1.0, 2.0, 0.1)]
    for made in found:
        assert made.soup["epochs"] == [row["epoch"] for row in sorted(made.history, key=_rank)[:3]]
        better = (made.soup["validation_accuracy"], -made.soup["validation_loss"]) > max(_score(row) for row in made.history)
        assert made.soup["kept"] == ("soup" in made.best) == better
    assert {made.soup["kept"] for made in found} == {True, False}
    assert all(made.record()["soup"] == made.soup for made in found)


def _score(row):
    return row["validation_accuracy"], -row["validation_loss"]


def _rank(row):
    return -row["validation_accuracy"], row["validation_loss"], row["epoch"]


def test_no_soup_of_one_epoch():
    made, _ = trained(soup=3, epochs=1)
    assert made.soup == {}
    assert "soup" not in made.record()


EVERYTHING = {"ema": 0.9, "soup": 2, "mixup": 0.4, "clip": 1.0, "schedule": "one-cycle", "balance": "sampling", "epochs": 5}


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("after", [1, 3])
def test_cut_off_and_resumed_all_of_it_is_bit_identical(tmp_path, after, optimizer):
    class _Killed(BaseException):
        pass

    def dies(row):
        if row["epoch"] == after + 1:
            raise _Killed

    values = {**EVERYTHING, "optimizer": optimizer}
    whole, wanted = trained(**values)
    with pytest.raises(_Killed):
        trained(None, Checkpoints(tmp_path, "id", share=math.inf), dies, **values)
    resumed, weights = trained(None, Checkpoints(tmp_path, "id", share=math.inf), **values)
    assert all(torch.equal(weights[name], wanted[name]) for name in wanted)
    assert resumed.best["epoch"] == whole.best["epoch"]
    assert resumed.soup == whole.soup


def test_losses_by_which_easy_rows_are_left_out_are_resumed_too(tmp_path):
    class _Killed(BaseException):
        pass

    def dies(row):
        if row["epoch"] == 3:
            raise _Killed

    def made(checkpoints=None, on_epoch=lambda row: None):
        network = make_head("dense-d", 3, 3, seed=1)
        batches, judging = points().leave_out(0.3), points(200, 1, shuffle=False)
        options = {"settings": settings(epochs=5), "checkpoints": checkpoints, "on_epoch": on_epoch}
        return batches, fit(network, batches, judging, **options), [value.clone() for value in network.state_dict().values()]

    batches, whole, wanted = made()
    with pytest.raises(_Killed):
        made(Checkpoints(tmp_path, "id", share=math.inf), dies)
    again, resumed, weights = made(Checkpoints(tmp_path, "id", share=math.inf))
    assert all(torch.equal(a, b) for a, b in zip(weights, wanted, strict=True))
    assert torch.equal(again.losses, batches.losses)
    assert batches.losses.isfinite().all()
    assert [row["steps"] for row in resumed.history] == [row["steps"] for row in whole.history] == [4, 8, 12, 16, 20]


def test_kept_losses_are_those_of_the_labels_without_smoothing():
    network, batches = nn.Linear(3, 3), points().leave_out(0.2)
    with torch.no_grad():
        network.weight.zero_(), network.bias.copy_(torch.tensor([2.0, 0.0, 0.0]))
    fit(network, batches, points(20, 1, shuffle=False), settings=settings(epochs=1, lr=1e-9, label_smoothing=0.3))
    expected = torch.log_softmax(torch.tensor([2.0, 0.0, 0.0]), 0).neg()[batches.labels]
    seen = batches.losses.isfinite()
    assert int(seen.sum()) == batches.shown == 64
    torch.testing.assert_close(batches.losses[seen], expected[seen], atol=1e-4, rtol=1e-4)


def test_an_interrupt_still_tries_the_soup_of_what_there_is():
    stop, network = StopRule(), make_head("dense-d", 3, 3)

    def interrupt(row):
        stop.interrupted = row["epoch"] == 3

    made = fit(network, points(), points(200, 1, shuffle=False), settings=settings(soup=2, epochs=9), stop=stop, on_epoch=interrupt)
    assert len(made.history) == 3
    assert len(made.soup["epochs"]) == 2


def test_on_a_cpu_gradients_stay_where_they_are_from_step_to_step():
    network, kept = make_head("dense-d", 3, 3), []
    training = {"settings": settings(epochs=2), "on_epoch": lambda _: kept.append([each.grad for each in network.parameters()])}
    fit(network, points(), points(200, 1, shuffle=False), **training)
    assert len(kept) == 2
    assert all(one is other and one is not None for one, other in zip(*kept, strict=True))


@pytest.mark.parametrize("values", [{}, {"accumulate": 2}, {"optimizer": "sgd"}, {"optimizer": "muon"}])
def test_gradients_that_stay_give_the_weights_that_new_ones_give(values, monkeypatch):
    _, stay = trained(**values)
    real = torch.optim.Optimizer.zero_grad
    monkeypatch.setattr(torch.optim.Optimizer, "zero_grad", lambda self, set_to_none=True: real(self, set_to_none=True))
    _, new = trained(**values)
    assert all(torch.equal(stay[name], new[name]) for name in stay)
