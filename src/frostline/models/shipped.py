"""The network of the classifier that ships in the package, taken from there as the backbone ``cifar-fast``."""

from __future__ import annotations

import numpy as np
import torch

from frostline import inside
from frostline.files import digest_bytes
from frostline.model_card import read_card
from frostline.models.cnn import WithMap, make_network
from frostline.models.fast import folded
from frostline.preprocess import Preprocess


def backbone() -> tuple[WithMap, Preprocess, str, str]:
    """The network that ships, without its head; what stands in front of it; the weights' digest, and where they come from."""
    model = inside.checked()
    card = read_card(model)
    weights = inside.weights(model)
    network = folded(make_network(card.values["architecture"]["network"], len(card.classes), card.preprocess.size).eval())
    network.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in weights.items()})
    network.eval().requires_grad_(False)
    parts = [part for name in sorted(weights) for part in (name.encode(), np.ascontiguousarray(weights[name]).tobytes())]
    return WithMap(network.body), card.preprocess, digest_bytes(*parts), f"{card.name}, inside the package (Apache-2.0)"
