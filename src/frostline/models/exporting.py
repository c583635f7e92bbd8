"""A saved model as torch has it, and its forms for others: a program, a LiteRT file, a folder in the layout of timm's hub."""

from __future__ import annotations

import io
import json
import shutil
import warnings
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from frostline.convert import FromUint8, ViewAverage, quiet
from frostline.data.views import served
from frostline.errors import UserError
from frostline.models.backbones import FeatureNetwork, build, find
from frostline.models.rebuilt import network_of
from frostline.preprocess import Preprocess
from frostline.progress import say

Answer = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


class Whole(nn.Module):
    """A saved model as one module: (B, h, w, 3) uint8 of the stored size to (B, K) probabilities.

    Args:
        folder: the model directory; card: the values of its ``model.json``.
    """

    def __init__(self, folder: Path, card: Mapping[str, Any]) -> None:
        super().__init__()
        network, head = network_of(folder, card)
        preprocess = Preprocess.from_dict(card["preprocess"])
        self.body = FromUint8(network, preprocess)
        self.head = ViewAverage(head, card["temperature"])
        self.views = int(card["views"])
        for number in range(self.views):
            for name, places in zip(("rows", "columns"), served(number, preprocess.stored), strict=True):
                self.register_buffer(f"{name}{number}", torch.from_numpy(places))

    def forward(self, images: Tensor) -> Tensor:
        """Every view through the network, then the head on all of them."""
        seen = [
            images.index_select(1, self.get_buffer(f"rows{number}")).index_select(2, self.get_buffer(f"columns{number}"))
            for number in range(self.views)
        ]
        features = self.body(torch.cat(seen) if len(seen) > 1 else images)[0]
        return self.head(features.unflatten(0, (self.views, -1)).transpose(0, 1))


def whole(folder: Path, card: Mapping[str, Any]) -> Whole:
    """The module, ready to answer."""
    return Whole(folder, card).eval().requires_grad_(False)


def save_program(folder: Path, card: Mapping[str, Any], path: Path) -> Answer:
    """Write a ``torch.export`` program for any number of images; returns how the written one answers."""
    example = torch.zeros(2, *card["preprocess"]["stored"], 3, dtype=torch.uint8)
    with torch.no_grad(), quiet():
        program = torch.export.export(whole(folder, card), (example,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
        torch.export.save(program, path)
        module = torch.export.load(path).module()
    return lambda images: module(torch.from_numpy(images)).numpy()


def save_litert(folder: Path, card: Mapping[str, Any], path: Path) -> Answer:
    """Write a LiteRT file for one image at a time, by LiteRT's own converter; returns how the written one answers.

    Raises:
        UserError: the converter is not there, or does not take the network.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import litert_torch
            from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise UserError(
            "LiteRT's converter is not installed here.",
            received=str(error),
            hint="in an environment of its own, for it wants torch below 2.15 and sixty packages more: "
            "pip install 'frostline[train]' litert-torch",
        ) from error
    example = torch.zeros(1, *card["preprocess"]["stored"], 3, dtype=torch.uint8)
    try:
        with torch.no_grad(), quiet(), redirect_stdout(io.StringIO()):
            litert_torch.convert(whole(folder, card), (example,)).export(str(path))
    except Exception as error:  # the converter raises many kinds for what it does not know
        reason = " ".join(str(error).split())[:300]
        raise UserError("LiteRT's converter does not take this network.", received=f"{type(error).__name__}: {reason}") from error
    interpreter = Interpreter(str(path))
    runner = interpreter.get_signature_runner()
    (name,) = runner.get_input_details()
    return lambda images: next(iter(runner(**{name: images}).values()))


def save_timm(folder: Path, card: Mapping[str, Any], out: Path) -> Answer:
    """Write a folder in the layout of timm's hub: the network with a classifier that our head and temperature are folded into.

    timm resizes images in its own way and knows no views: its network sees one view of an image that has the network's size.

    Returns:
        how the network that timm loads from the folder answers, of images as our graph has normalised and enlarged them.

    Raises:
        UserError: timm cannot rebuild this model.
    """
    architecture, preprocess = card["architecture"], Preprocess.from_dict(card["preprocess"])
    body, head = network_of(folder, card)
    weight, bias = _linear(head, architecture)
    if not isinstance(body, FeatureNetwork) or body.dense_top:
        raise UserError(
            "timm cannot rebuild this network.", expected="one of timm's, up to its pooled features", received=_named(architecture)
        )
    row = find(architecture["backbone"])
    arguments = {**architecture["model_args"], **({"img_size": list(preprocess.size)} if row.sized else {})}
    network = _with_classifier(body, architecture, preprocess, weight / card["temperature"], bias / card["temperature"])
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, out / "model.safetensors")
    config = {
        "architecture": row.timm.split(".")[0],
        "num_classes": len(card["classes"]),
        "num_features": int(architecture["features"]),
        "label_names": list(card["classes"]),
        "model_args": arguments,
        "license": card.get("licences", {}).get("weights", "unknown"),
        "pretrained_cfg": {
            "input_size": [3, *preprocess.size],
            "fixed_input_size": row.sized,
            "interpolation": preprocess.kernel,
            "crop_pct": preprocess.crop if preprocess.fit == "crop" else 1.0,
            "crop_mode": {"crop": "center", "squash": "squash", "pad": "border"}[preprocess.fit],
            "mean": list(preprocess.mean),
            "std": list(preprocess.std),
            "num_classes": len(card["classes"]),
            "classifier": network.pretrained_cfg.get("classifier"),
            "first_conv": network.pretrained_cfg.get("first_conv"),
            "tag": "frostline",
        },
    }
    (out / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", "utf-8")
    shutil.copymode(out / "config.json", out / "model.safetensors")  # safetensors lets nobody else read what it writes
    _say_differences(card, preprocess)
    loaded = FromUint8(timm.create_model(f"local-dir:{out}", pretrained=True).eval(), preprocess).eval()

    @torch.no_grad()
    def answer(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return loaded(torch.from_numpy(images)).softmax(-1).numpy()

    return answer


def _say_differences(card: Mapping[str, Any], preprocess: Preprocess) -> None:
    if int(card["views"]) > 1:
        say(f"This model averages {card['views']} views of an image; timm's network sees one.", "yellow")
    if preprocess.stored != preprocess.size:
        say(
            "Small images are enlarged by the model itself; with timm its own transform enlarges them, a little otherwise.",
            "yellow",
        )


def _linear(head: nn.Module, architecture: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Weight (K, D) and bias (K,) of a head that is one linear layer."""
    layers = [module for module in head.modules() if not list(module.children())]
    if len(layers) != 1 or not isinstance(layers[0], nn.Linear) or float(architecture.get("power", 1.0)) != 1.0:
        raise UserError(
            "timm's networks end in one linear layer, and this model's head is another.",
            expected="a linear head on the features as they are",
            received=f"{architecture.get('head', 'a head')} with power {architecture.get('power', 1.0)}",
            hint="train with --set head=logistic --set power=1",
        )
    weight, bias = layers[0].weight.detach(), layers[0].bias
    return weight, torch.zeros(len(weight)) if bias is None else bias.detach()


def _with_classifier(
    body: FeatureNetwork, architecture: Mapping[str, Any], preprocess: Preprocess, weight: Tensor, bias: Tensor
) -> Any:
    """timm's network with its own classifier, which gets these weights; some have it as a 1×1 convolution."""
    network = build(architecture["backbone"], preprocess.size, classes=len(weight), **architecture["model_args"])
    classifier = network.get_classifier()
    missing, unexpected = network.load_state_dict(body.network.state_dict(), strict=False)
    own = {id(value) for value in classifier.parameters()}
    named = {name for name, value in network.named_parameters() if id(value) in own}
    if set(missing) - named or unexpected:
        raise UserError(
            "timm builds this network otherwise with a classifier than without.", received=str([*missing, *unexpected])[:200]
        )
    with torch.no_grad():
        classifier.weight.copy_(weight.view_as(classifier.weight))
        classifier.bias.copy_(bias)
    return network.eval()


def _named(architecture: Mapping[str, Any]) -> str:
    return str(architecture.get("backbone") or architecture.get("network") or architecture.get("kind"))
