"""Where torch computes and in which precision."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from frostline.config import Settings
from frostline.environment import has_bf16
from frostline.errors import UserError
from frostline.models.layers import computed_by

# Fabric reports the precision that it was told to use, for every one made.
logging.getLogger("lightning_fabric.utilities.rank_zero").setLevel(logging.WARNING)


def pick_device(name: str) -> torch.device:
    """The device for a setting: "auto" is CUDA, else Apple's GPU, else the CPU. One that is not there is a ``UserError``."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, found in there.items() if found))
    if not there[name]:
        found = ", ".join(kind for kind, found in there.items() if found)
        raise UserError(f"There is no device '{name}' here.", expected=found, received=name, hint="--device auto")
    return torch.device(name)


def pick_precision(name: str, device: torch.device) -> str:
    """ "bf16" or "f32" for a setting: "auto" is bf16 where the device multiplies it at full speed."""
    if name != "auto":
        return name
    fast = has_bf16() if device.type == "cpu" else device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if fast else "f32"


def make_fabric(device: torch.device, precision: str) -> Fabric:
    """Lightning Fabric on one device: "bf16" is autocast with f32 weights."""
    return Fabric(accelerator=device.type, devices=1, precision="bf16-mixed" if precision == "bf16" else "32-true")


def placed(network: nn.Module, device: torch.device) -> nn.Module:
    """The network, moved there in the layout in which its convolutions are fast: on a GPU channels last, as the batches are.

    On a CPU oneDNN brings weights to a layout of its own at every step, whatever they had.
    """
    network = network.to(device)
    return network.to(memory_format=torch.channels_last) if device.type == "cuda" else network


@contextmanager
def only_looking(network: nn.Module, settings: Settings) -> Iterator[Any]:
    """The network on the settings' device, in their precision and in evaluation mode, to be called while inside."""
    device = pick_device(settings.device)
    precision = pick_precision(settings.precision, device)
    model = make_fabric(device, precision).setup_module(placed(network, device))
    network.eval()
    with torch.inference_mode(), slow_layers_in_f32(network, device, precision):
        yield model


@contextmanager
def slow_layers_in_f32(network: nn.Module, device: torch.device, precision: str) -> Iterator[None]:
    """While inside, the layers whose bf16 gradient oneDNN has no fast code for are computed in f32, in bf16 training on a CPU.

    These are depthwise convolutions but for those of 3x3 with stride 1: the gradient of MobileNetV2's with stride 2 takes 83 ms
    in bf16 and 1.7 ms in f32, three quarters of what all other layers above it take together (bench/finetune.py; docs/log.md).
    """
    changed = [module for module in network.modules() if _slow(module)] if device.type == "cpu" and precision == "bf16" else []
    with computed_by([(module, _in_f32(module.forward)) for module in changed]):
        yield


def _slow(module: nn.Module) -> bool:
    if not isinstance(module, nn.Conv2d) or not module.groups == module.in_channels == module.out_channels > 1:
        return False
    return (module.kernel_size, module.stride) != ((3, 3), (1, 1))


def _in_f32(forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def computed(x: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return forward(x.float()).to(x.dtype)

    return computed
