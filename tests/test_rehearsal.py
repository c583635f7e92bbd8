"""Steps before training begins leave no trace in what training makes."""

import numpy as np
import pytest
import torch
from toyrows import settings

from frostline.data.augment import make_augmentations
from frostline.data.batches import ArrayBatches
from frostline.drawn import drawn_images
from frostline.loop import fit
from frostline.models.cnn import make_network
from frostline.optim import parameter_groups
from frostline.rehearsal import needs_warm_up, rehearsal, warm_up
from frostline.stopping import StopRule
from frostline.training import Training

MEAN = (0.5, 0.5, 0.5)


def batches(train, **values):
    images = drawn_images(40, 16, 16)
    augmentations = make_augmentations(settings(shift=1, cutout=3), MEAN) if train else ()
    return ArrayBatches(
        images, np.arange(40) % 3, 10, mean=MEAN, std=(0.3,) * 3, shuffle=train, augmentations=augmentations, **values
    )


def wanted(**values):
    return settings(optimizer="muon", momentum=0.6, lr=0.05, **values)


def training(**values):
    network, chosen = make_network("fast-small", 3, (16, 16)), wanted(**values)
    return Training(
        network,
        batches(True, sizes=((8, 8), (12, 12), (16, 16))),
        batches(False),
        chosen,
        parameter_groups(network, chosen),
        StopRule(),
    )


def state(made):
    return {name: value.clone() for name, value in made.network.state_dict().items()}


def test_afterwards_all_is_as_before():
    made = training()
    before, world = state(made), torch.get_rng_state()
    with rehearsal(made):
        for x, y in made.batches.epoch(0):
            made.descend(x, y)
        assert any(not torch.equal(value, before[name]) for name, value in made.network.state_dict().items())
    assert all(torch.equal(value, before[name]) for name, value in made.network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), world)
    assert not made.optimizer.state_dict()["state"]


def test_a_step_is_made_for_every_size_and_the_clocks_begin_afterwards():
    made, sizes = training(budget=100.0), []
    made.network.register_forward_pre_hook(lambda module, given: sizes.append((module.training, *given[0].shape[2:])))
    began, started = made.began, made.started
    took = warm_up(made)
    assert sizes == [(True, 8, 8), (True, 12, 12), (True, 16, 16), (False, 16, 16)]
    assert took > 0
    assert made.started == pytest.approx(started + took)
    assert made.began >= began + took
    assert all(parameter.grad is None for parameter in made.network.parameters())


def test_training_makes_the_same_weights_with_and_without_it(monkeypatch):
    kept = {}
    for warm in (False, True):
        monkeypatch.setattr("frostline.loop.needs_warm_up", lambda training, warm=warm: warm)
        network, chosen = make_network("fast-small", 3, (16, 16)), wanted(epochs=2)
        made = fit(network, batches(True), batches(False), settings=chosen, parameters=parameter_groups(network, chosen))
        kept[warm] = network.state_dict()
        assert ("warmup_seconds" in made.record()) == warm
    assert all(torch.equal(kept[True][name], value) for name, value in kept[False].items())


@pytest.mark.parametrize(("device", "mode", "needed"), [("cpu", "no", False), ("cuda", "no", True), ("cpu", "default", True)])
def test_what_needs_it(device, mode, needed):
    made = training()
    made.device, made.settings = torch.device(device), wanted(compile=mode)
    assert needs_warm_up(made) == needed
