import numpy as np
import pytest
import torch
from toyrows import points, settings

from frostline.loop import fit
from frostline.models.heads import make_head
from frostline.rate_finder import STEPS, below_least, find_rate
from frostline.stopping import StopRule
from frostline.training import Training


def training(**values):
    head = make_head("dense-d", 3, 3)
    groups = [{"params": [head[0].weight], "lr": 1e-3}, {"params": [*head[0].parameters()][1:], "lr": 1e-4}]
    rest = [p for layer in list(head)[1:] for p in layer.parameters()]
    return Training(head, points(), points(20, 1), settings(lr=1e-3, **values), [*groups, {"params": rest}], StopRule())


def test_a_rate_is_found_and_set_and_the_network_is_as_before():
    made = training(optimizer="adam")
    before = {name: value.clone() for name, value in made.network.state_dict().items()}
    torch.manual_seed(3)
    world = torch.get_rng_state()
    found = find_rate(made)
    assert torch.equal(torch.get_rng_state(), world)
    assert all(torch.equal(value, before[name]) for name, value in made.network.state_dict().items())
    assert 1e-5 < found["lr"] < 1
    assert 10 < len(found["curve"]) <= STEPS
    assert made.schedule.base == pytest.approx([found["lr"], found["lr"] / 10, found["lr"]])
    assert [group["lr"] for group in made.optimizer.param_groups] == pytest.approx(made.schedule.base)
    assert not made.optimizer.state_dict()["state"]
    assert found == find_rate(training(optimizer="adam"))


def curve_of(rates, losses):
    return [{"lr": float(rate), "loss": float(loss)} for rate, loss in zip(rates, losses, strict=True)]


def test_half_the_rate_of_the_least_loss():
    rates = np.geomspace(1e-5, 1, 60)
    losses = 1 + (np.arange(60) - 40) ** 2 / 1000
    losses[:5] = [0.1, 5, 4, 3, 2.5]  # the first steps' noise
    assert below_least(curve_of(rates, losses)) == pytest.approx(rates[40] / 2)


@pytest.mark.parametrize("losses", [[], [1.0, 2.0, 3.0], list(range(40)), [3.0] * 40])
def test_no_fall_is_no_rate(losses):
    assert below_least(curve_of(1.1 ** np.arange(len(losses)), losses)) is None


def test_where_the_loss_never_falls_the_rate_stays_and_it_is_said(capsys, monkeypatch):
    monkeypatch.setattr("frostline.rate_finder.below_least", lambda curve: None)
    made = fit(make_head("dense-d", 3, 3), points(), points(50, 1, shuffle=False), settings=settings(lr=0.01, find_lr=True))
    assert "it stays 0.01" in capsys.readouterr().err
    assert made.history[-1]["lr"] == made.record()["lr_found"] == 0.01


def test_fit_uses_it_and_says_so(capsys):
    made = fit(
        make_head("dense-d", 3, 3),
        points(),
        points(50, 1, shuffle=False),
        settings=settings(lr=1e-6, find_lr=True, optimizer="adam"),
    )
    assert "instead of 1e-06" in capsys.readouterr().err
    assert made.record()["lr_finder"]["lr"] == made.history[-1]["lr"] > 1e-6
