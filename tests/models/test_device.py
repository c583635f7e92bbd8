"""Where a network is put, and that its layout changes nothing but the speed."""

import pytest
import torch
from torch.nn import functional

from frostline.config import Settings
from frostline.models.cnn import make_network
from frostline.models.device import placed
from frostline.optim import make_optimizer, parameter_groups


class Told(torch.nn.Conv2d):
    def to(self, device=None, **layout):
        return self if device is not None else super().to(**layout)


@pytest.mark.parametrize(("device", "last"), [("cuda", True), ("cpu", False)])
def test_convolutions_are_channels_last_on_a_gpu(device, last):
    made = placed(Told(4, 6, 3), torch.device(device))
    assert made.weight.is_contiguous(memory_format=torch.channels_last) == last


@pytest.mark.parametrize("optimizer", ["muon", "adamw", "sgd"])
def test_the_same_steps_are_made_in_either_layout(optimizer):
    weights = []
    for layout in (torch.contiguous_format, torch.channels_last):
        network = make_network("fast-small", 3, (8, 8)).to(memory_format=layout)
        settings = Settings(optimizer=optimizer, lr=0.01, momentum=0.6)
        stepping = make_optimizer(parameter_groups(network, settings), settings)
        x = torch.randn(12, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        for _ in range(3):
            stepping.zero_grad()
            functional.cross_entropy(network(x), torch.arange(12) % 3).backward()
            stepping.step()
        weights.append([parameter.detach() for parameter in network.parameters()])
    for contiguous, last in zip(*weights, strict=True):
        torch.testing.assert_close(last, contiguous, rtol=0.02, atol=0.02 * float(contiguous.abs().max()))
