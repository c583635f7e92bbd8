"""BatchNorm folded into the convolution before it is the same function with the same gradients, and is undone."""

import copy
from contextlib import nullcontext

import pytest
import torch
from torch import fx, nn

from frostline.models.backbones import FeatureNetwork, build
from frostline.models.device import slow_layers_in_f32
from frostline.models.folded import folded_batchnorm
from frostline.models.layers import seeded
from frostline.models.transfer import Trainable, cut


def upper(name, where, side=64):
    with seeded(0):
        whole = FeatureNetwork(build(name, (side, side))).eval()
        for module in whole.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, 0, 0.2)
                nn.init.normal_(module.running_mean, 0, 0.2)
                nn.init.uniform_(module.running_var, 0.5, 2)
    line = cut(whole, where, (side, side), name)
    return Trainable(line.upper, nn.Linear(whole(torch.zeros(2, 3, side, side))[0].shape[1], 3), line.shape), line


def gradients(network, x):
    network.zero_grad()
    network.train()
    logits = network(x)
    nn.functional.cross_entropy(logits, torch.arange(len(x)) % 3).backward()
    return logits.detach(), {name: parameter.grad.clone() for name, parameter in network.named_parameters()}


@pytest.mark.parametrize(
    ("name", "where", "folds"),
    [
        ("mobilenetv2", "block_12", 16),
        ("timm:test_resnet", "layer3", 7),
        ("densenet169", "denseblock4", 32),
        ("vgg16", "block5", 0),
    ],
)
def test_it_is_the_same_function_with_the_same_gradients(name, where, folds):
    network, line = upper(name, where)
    network.double()
    x = torch.randn(4, *line.shape, generator=torch.Generator().manual_seed(1)).double()
    wanted, expected = gradients(network, x)
    names = set(network.state_dict())
    with folded_batchnorm(network.upper.tail) as count:
        assert count == folds
        assert set(network.state_dict()) == names
        logits, found = gradients(network, x)
    torch.testing.assert_close(logits, wanted)
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm() <= 1e-6 * gradient.norm() + 1e-9, name
    again, _ = gradients(network, x)
    assert torch.equal(again, wanted)
    assert not any("forward" in vars(module) for module in network.modules() if isinstance(module, nn.Conv2d))


def test_batchnorm_that_trains_is_left_alone():
    network, _ = upper("timm:test_resnet", "layer4")
    trains = Trainable(network.upper, network.head, network.shape, train_batchnorm=True)
    with trains.folded():
        assert not any("forward" in vars(module) for module in trains.modules() if isinstance(module, nn.Conv2d))
    with network.folded():
        assert any("forward" in vars(module) for module in network.modules() if isinstance(module, nn.Conv2d))


class _Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.norm = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1, bias=False), nn.BatchNorm2d(2)

    def forward(self, x):
        return self.norm(self.a(x)) + self.norm(self.b(x))


class _TwoUsers(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.norm = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)

    def forward(self, x):
        y = self.a(x)
        return self.norm(y) + y


@pytest.mark.parametrize("made", [_Shared, _TwoUsers])
def test_what_has_two_places_or_two_users_is_not_folded(made):
    with folded_batchnorm(fx.symbolic_trace(made().eval())) as count:
        assert count == 0


def test_a_bias_is_folded_with_its_weight():
    network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)).eval()
    nn.init.uniform_(network[1].running_var, 0.5, 2)
    x = torch.randn(2, 2, 5, 5, generator=torch.Generator().manual_seed(0))
    graph, wanted = fx.symbolic_trace(network), network(x)
    with folded_batchnorm(graph) as count:
        assert count == 1
        torch.testing.assert_close(graph(x), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("folded", [True, False])
def test_slow_layers_are_computed_in_f32_in_bf16_training_alone(monkeypatch, folded):
    network, line = upper("mobilenetv2", "block_12")
    x, cpu = torch.randn(4, *line.shape, generator=torch.Generator().manual_seed(1)), torch.device("cpu")
    seen, before, real = [], copy.deepcopy(network.state_dict()), nn.functional.conv2d

    def spied(x, weight, bias, stride, *rest):
        seen.append((weight.shape[1] == 1 and tuple(stride) == (2, 2), torch.is_autocast_enabled("cpu")))
        return real(x, weight, bias, stride, *rest)

    monkeypatch.setattr(nn.functional, "conv2d", spied)
    with torch.autocast("cpu", torch.bfloat16), network.folded() if folded else nullcontext():
        with slow_layers_in_f32(network, cpu, "bf16"):
            for _ in range(2):  # what one call changes, it must put back
                assert gradients(network, x)[0].isfinite().all()
        assert {autocast for strided, autocast in seen if strided} == {False}
        assert {autocast for strided, autocast in seen if not strided} == {True}
        seen.clear()
        with slow_layers_in_f32(network, cpu, "f32"):
            gradients(network, x)
        assert {autocast for _, autocast in seen} == {True}
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
