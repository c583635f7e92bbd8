import pytest
import torch
from torch import nn

from frostline.config import Settings
from frostline.errors import UserError
from frostline.optim import BESIDE_MUON, OPTIMIZERS, Schedule, make_optimizer, parameter_groups, rate


def test_rates_by_hand():
    assert [rate("constant", step, 4, 0) for step in range(4)] == [1, 1, 1, 1]
    assert [rate("linear", step, 4, 0) for step in range(4)] == [1, 0.75, 0.5, 0.25]
    assert [rate("cosine", step, 4, 0) for step in (0, 2)] == pytest.approx([1, 0.5])
    # Two steps of warm-up rise to the full rate at the third, then four steps fall.
    assert [rate("linear", step, 6, 2) for step in range(6)] == pytest.approx([1 / 3, 2 / 3, 1, 0.75, 0.5, 0.25])
    # One-cycle rises for a quarter of the steps; then the cosine of 30°.
    assert [rate("one-cycle", step, 8, 0) for step in range(4)] == pytest.approx([1 / 3, 2 / 3, 1, (1 + 3**0.5 / 2) / 2])


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine", "one-cycle"])
@pytest.mark.parametrize(("total", "warmup"), [(1, 0), (10, 0), (10, 3), (10, 10), (3, 9)])
def test_no_step_is_lost_and_none_exceeds_the_rate(schedule, total, warmup):
    rates = [rate(schedule, step, total, warmup) for step in range(total)]
    assert all(0 < r <= 1 for r in rates)


def test_each_group_keeps_its_own_base_rate():
    a, b = (nn.Parameter(torch.ones(1)) for _ in range(2))
    settings = Settings(optimizer="sgd", lr=1.0, schedule="linear", epochs=2)
    optimizer = make_optimizer([{"params": [a]}, {"params": [b], "lr": 0.1}], settings)
    schedule = Schedule(optimizer, settings, steps_per_epoch=2)
    seen = []
    for _ in range(4):
        seen.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    assert [pair[0] for pair in seen] == pytest.approx([1, 0.75, 0.5, 0.25])
    assert [pair[1] for pair in seen] == pytest.approx([0.1, 0.075, 0.05, 0.025])


MUON = Settings(optimizer="muon", lr=0.1, momentum=0.6)


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(4, 8, 3, bias=False), nn.BatchNorm2d(8), nn.Linear(8, 2)
        self.norm.weight.requires_grad_(False)

    def forward(self, x):
        return self.head(self.norm(self.conv(x)).mean((2, 3)))


@pytest.mark.parametrize("rate", ["nan", "inf", "-inf"])
def test_a_factor_is_finite(rate):
    with pytest.raises(UserError, match="A rate is a pattern of names and a factor"):
        parameter_groups(nn.Linear(2, 2), Settings(rates=(f"*={rate}",)))


def test_a_pattern_that_matches_nothing_is_said():
    with pytest.raises(UserError, match="matches no parameter") as caught:
        parameter_groups(Small(), Settings(rates=("hed.*=2", "*=1")))
    assert "conv.weight" in str(caught.value)


@pytest.mark.parametrize("rates", [("*=1", "head.*=10"), ("head.*=2", "*=1", "conv.*=3")])
def test_a_pattern_that_decides_for_nothing_is_said(rates):
    with pytest.raises(UserError, match="comes after others") as caught:
        parameter_groups(Small(), Settings(rates=rates))
    assert rates[-1].partition("=")[0] in caught.value.hint


def test_a_last_pattern_that_matches_nothing_is_said_and_one_for_the_rest_is_not():
    with pytest.raises(UserError, match="matches no parameter"):
        parameter_groups(Small(), Settings(rates=("conv*=1", "norm*=1", "head*=1", "hed*=1")))
    groups = parameter_groups(Small(), Settings(rates=("conv*=1", "norm*=1", "head*=1", "*=0.1")))
    assert {group["lr"] for group in groups} == {Settings().lr}


def test_what_timm_wants_without_weight_decay_has_none():
    import timm

    backbone = timm.create_model("vit_tiny_patch16_224", num_classes=0, depth=1, img_size=32)
    groups = parameter_groups(backbone, Settings(weight_decay=0.1), backbone)
    kept = {id(parameter) for group in groups if group.get("weight_decay") == 0 for parameter in group["params"]}
    names = {name for name, parameter in backbone.named_parameters() if id(parameter) in kept}
    assert {"pos_embed", "cls_token"} < names
    assert "blocks.0.attn.qkv.weight" not in names


def test_a_rise_that_is_shortened_says_so_of_itself():
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], 0.1)
    assert Schedule(optimizer, Settings(epochs=2, warmup_epochs=1.5), 10).shortened
    assert not Schedule(optimizer, Settings(epochs=3, warmup_epochs=1.5), 10).shortened


def test_muon_takes_filters_and_leaves_the_head_and_shifts_to_adam():
    network = Small()
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    groups = parameter_groups(network, MUON.with_values(rates=("head.*=0.5", "*=1")))
    kinds = {names[id(parameter)]: (group["use_muon"], group["lr"]) for group in groups for parameter in group["params"]}
    plain, head = (False, pytest.approx(0.1 * BESIDE_MUON)), (False, pytest.approx(0.05 * BESIDE_MUON))
    assert kinds == {"conv.weight": (True, 0.1), "norm.bias": plain, "head.weight": head, "head.bias": head}


def test_a_step_of_muon_is_a_turn_that_keeps_the_filters_norm():
    torch.manual_seed(0)
    network, x = Small(), torch.randn(16, 4, 6, 6)
    optimizer = make_optimizer(parameter_groups(network, MUON), MUON)
    before = network.conv.weight.detach().clone()
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x), torch.arange(16) % 2).backward()
        optimizer.step()
        assert float(network.conv.weight.detach().norm()) == pytest.approx(float(before.norm()))
    assert not torch.equal(before, network.conv.weight)


def test_the_direction_of_muon_has_equal_singular_values():
    network = nn.Conv2d(4, 8, 3, bias=False)
    nn.init.orthogonal_(network.weight)
    optimizer = make_optimizer([{"params": [network.weight], "use_muon": True}], MUON.with_values(lr=1e-3))
    before = network.weight.detach().clone()
    network.weight.grad = torch.randn(network.weight.shape, generator=torch.Generator().manual_seed(1))
    optimizer.step()
    moved = ((before - network.weight.detach()) / 1e-3).flatten(1)
    # three steps of Newton and Schulz bring them near 1, not to it; keeping the norm takes away the part along the weights
    assert 0.5 < torch.linalg.svdvals(moved).median() < 1.4


def test_a_budget_that_ends_first_draws_the_schedule_with_it():
    optimizer = make_optimizer([nn.Parameter(torch.ones(1))], Settings(optimizer="sgd", lr=1.0))
    schedule = Schedule(optimizer, Settings(schedule="linear", epochs=10), steps_per_epoch=10)
    rates = []
    for spent in (0.0, 0.005, 0.5, 0.25, 1.0):  # of the budget; the steps would be 1, 2, 3, 4, 5 of 100
        schedule.step(spent)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.99, 0.98, 0.5, 0.75, 0.01])


def test_weight_decay_leaves_biases_norms_and_frozen_weights_alone():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    network[2].weight.requires_grad_(False)
    decayed, plain = parameter_groups(network, Settings())
    assert [p.shape for p in decayed["params"]] == [(4, 3, 3, 3)]
    assert [p.shape for p in plain["params"]] == [(4,), (4,), (4,), (2,)]
    assert plain["weight_decay"] == 0
    optimizer = make_optimizer(parameter_groups(network, Settings()), Settings(weight_decay=0.3))
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.3, 0.0]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_goes_downhill(name):
    x = nn.Parameter(torch.tensor([3.0]))
    optimizer = make_optimizer([x], Settings(optimizer=name, lr=0.1))
    for _ in range(100):
        optimizer.zero_grad()
        (x**2).backward()
        optimizer.step()
    assert abs(float(x.detach())) < 0.5


def test_sgd_is_nesterov_by_hand():
    x = nn.Parameter(torch.tensor([1.0]))
    optimizer = make_optimizer([x], Settings(optimizer="sgd", lr=0.1, momentum=0.5))
    x.grad = torch.tensor([2.0])
    optimizer.step()
    # Velocity 2; Nesterov's step 2 + 0.5 · 2 = 3.
    assert float(x.detach()) == pytest.approx(1 - 0.1 * 3)


def test_a_rise_takes_half_of_a_short_training_at_most():
    layer = nn.Linear(2, 2)
    optimizer = make_optimizer(layer.parameters(), Settings(optimizer="sgd", lr=1.0))
    schedule = Schedule(optimizer, Settings(schedule="one-cycle", epochs=1, warmup_epochs=2.5), 10)
    found = [schedule.factor]
    for _ in range(9):
        schedule.step()
        found.append(schedule.factor)
    assert max(found) == 1.0
    assert found.index(1.0) == 5
    assert found[-1] < 0.2


def test_a_rate_is_not_negative():
    with pytest.raises(UserError, match="a factor"):
        parameter_groups(nn.Linear(2, 2), Settings(rates=("*=-1",)))
