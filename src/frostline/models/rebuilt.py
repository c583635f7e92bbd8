"""A saved model that no compiler took: its network is built again and run by torch. Slower, and said so where it is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from frostline import inside
from frostline.data.views import served
from frostline.errors import UserError
from frostline.model_card import WEIGHTS
from frostline.models.backbones import FeatureNetwork, build
from frostline.models.cnn import WithMap, make_network
from frostline.models.eager import EagerEngine
from frostline.models.fast import folded
from frostline.models.heads import HEADS, CompressedLinear, make_head
from frostline.models.shipped import backbone
from frostline.preprocess import Preprocess
from frostline.runner import Runner


class Rebuilt(Runner):
    """Gives what ``artifact.Compiled`` gives, from ``weights.safetensors`` and the architecture in the card.

    Args:
        weights: the file; names begin with "backbone." or "head.".
        card: the values of ``model.json``.
    """

    def __init__(self, weights: Path, card: Mapping[str, Any]) -> None:
        network, head = network_of(weights.parent, card)
        self.body = _Views(EagerEngine(network, Preprocess.from_dict(card["preprocess"]), "cpu", "f32"), card["views"])
        self.head = _Head(head, card["temperature"])
        self.how = {"engine": f"torch {torch.__version__}", "precision": "f32", "batch": self.body.batch}


def network_of(folder: Path, card: Mapping[str, Any]) -> tuple[nn.Module, nn.Module]:
    """The network of a model directory, from normalised images to (features, map), and its head, with their weights.

    Raises:
        UserError: the model has none that torch could run: it was imported, or quantised.
    """
    architecture, preprocess = card["architecture"], Preprocess.from_dict(card["preprocess"])
    if architecture.get("kind") not in ("frozen", "finetune", "scratch") or card["precision"] == "int8":
        what = "was quantised" if card["precision"] == "int8" else f"is of the kind {architecture.get('kind')}"
        raise UserError(f"torch cannot build the network of this model, which {what}.", expected="a model that Frostline trained")
    if architecture["kind"] == "scratch":
        network = make_network(architecture["network"], len(card["classes"]), preprocess.size).eval()
        if "shared_weights" in card:  # the classifier inside, whose BatchNorm is folded
            network = folded(network)
            network.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in inside.weights(folder).items()})
        else:
            network.load_state_dict(load_file(folder / WEIGHTS))
        return WithMap(network.body).eval(), network.head.eval()
    state = load_file(folder / WEIGHTS)
    body = _backbone(architecture, preprocess)
    body.load_state_dict(_part(state, "backbone."))
    return body.eval(), _head(architecture, len(card["classes"]), _part(state, "head."))


def _backbone(architecture: Mapping[str, Any], preprocess: Preprocess) -> nn.Module:
    if architecture["backbone"] == inside.BACKBONE:
        return backbone()[0]
    return FeatureNetwork(build(architecture["backbone"], preprocess.size, **architecture["model_args"]))


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _head(architecture: Mapping[str, Any], classes: int, state: Mapping[str, Tensor]) -> nn.Module:
    name, features = architecture["head"], int(architecture["features"])
    head: nn.Module = (
        make_head(name, features, classes) if name in HEADS else CompressedLinear(features, classes, architecture["power"])
    )
    head.load_state_dict(dict(state))
    return head.eval()


class _Views:
    """Features (n, V, D) of blocks, for the first V views that are served."""

    def __init__(self, engine: EagerEngine, views: int) -> None:
        self.engine, self.views, self.batch = engine, views, engine.batch

    def run(self, blocks: Iterable[NDArray[np.uint8]]) -> Iterator[tuple[NDArray[np.float32], ...]]:
        for block in blocks:
            places = [served(number, block.shape[1:3]) for number in range(self.views)]
            seen = [block[:, rows][:, :, columns] for rows, columns in places]
            yield (np.stack([features for (features,) in self.engine.run(seen)], axis=1),)


class _Head:
    def __init__(self, head: nn.Module, temperature: float) -> None:
        self.head, self.temperature = head, temperature

    @torch.inference_mode()
    def features(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, V, D) to (N, K): log-probabilities averaged over views, then the temperature."""
        log_p = torch.log_softmax(self.head(torch.from_numpy(features)), -1).mean(1)
        return (log_p / self.temperature).softmax(-1).numpy()
