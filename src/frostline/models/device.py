"""Where torch computes and in which precision."""

from __future__ import annotations

import logging

import torch
from lightning_fabric import Fabric

from frostline.environment import has_bf16
from frostline.errors import UserError

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
