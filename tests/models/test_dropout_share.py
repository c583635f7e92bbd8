"""Dropout that ends early: on for a share of the epochs, from the first, and off in the rest."""

import numpy as np
import torch

from frostline.config import Settings
from frostline.data.batches import ArrayBatches
from frostline.loop import fit
from frostline.models.cnn import make_network
from frostline.models.layers import Dropout, switch_dropout


def test_switched_off_it_changes_nothing_in_training():
    layer = Dropout(0.5).train()
    x = torch.ones(4, 8)
    assert (layer(x) == 0).any()
    switch_dropout(torch.nn.Sequential(layer), False)
    assert torch.equal(layer(x), x)
    switch_dropout(torch.nn.Sequential(layer), True)
    assert (layer(x) == 0).any()


def test_epochs_with_dropout():
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (40, 8, 8, 3), dtype=np.uint8), np.arange(40) % 4
    batches = ArrayBatches(images, labels, 20, mean=(0.5,) * 3, std=(0.25,) * 3)
    network = make_network("cnn-small", 4, (8, 8))
    active = []

    def look(_row):
        active.append([module.active for module in network.modules() if isinstance(module, Dropout)])

    settings = Settings(kind="scratch", epochs=5, dropout_share=0.5, device="cpu", precision="f32")
    fit(network, batches, batches, settings=settings, on_epoch=look)
    assert active == [[True], [True], [True], [False], [False]]
