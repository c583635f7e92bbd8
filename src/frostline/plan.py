"""What a fine-tuning is going to do, said before it begins: the network with its frost line, what is kept, how long it may take."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from frostline.config import Settings
from frostline.data.batches import crops
from frostline.data.imageset import Splits
from frostline.drawn import drawn_images
from frostline.errors import UserError
from frostline.frozen import Below
from frostline.loop_state import check_gradients
from frostline.models.device import make_fabric, pick_device, pick_precision, slow_layers_in_f32
from frostline.models.heads import make_head
from frostline.models.traced import short_path
from frostline.models.transfer import Trainable
from frostline.optim import check_freezeout, parameter_groups
from frostline.progress import say

#: Blocks of images through the frozen part that are timed, after as many that are not.
BLOCKS = 8


@dataclass(frozen=True)
class Part:
    """A block of the network: its name, its parameters, how many of them train, and whether any lies above the frost line."""

    name: str
    parameters: int
    trained: int
    above: bool = False


@dataclass(frozen=True)
class Plan:
    """What there is to do.

    Attributes:
        parts: blocks of the network, from the input to the features.
        head: parameters of the head, and how many of them train.
        rows: activations that are kept; 0 on the live path.
        stored: bytes they take.
        below_speed: images per second of the frozen part, as just timed.
        above_speed: images per second of training above the line, as just timed.
        seconds: of computing activations and training all epochs, at these speeds, where nothing is cached yet.
    """

    parts: tuple[Part, ...]
    head: Part
    rows: int
    stored: int
    below_speed: float
    above_speed: float
    seconds: float


def make_plan(below: Below, settings: Settings, splits: Splits, views: int) -> Plan:
    """Count and time; ``views`` of each training image are kept, 0 on the live path. Takes a second or two."""
    line, n, m = below.line, len(splits.train), len(splits.validation)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        above, trained, head = _above_speed(below, settings, len(splits.classes))
    rows = n * views + m * settings.views if views else 0
    lower = _below_speed(below)
    shown = n * (1 - settings.left_out(n))
    # forward alone takes about a third of forward and backward
    epoch = shown * _of_maps(line.shape, settings) / above + m * settings.views / (3 * above)
    if views:
        seconds = rows / lower + (n + m) * settings.views / (3 * above) + settings.epochs * epoch
    else:
        seconds = (n + m) * settings.views / lower + settings.epochs * (epoch + (shown + m * settings.views) / lower)
    width = int(np.prod(line.shape)) * (4 if settings.feature_dtype == "float32" else 2)
    return Plan(_parts(below, trained), head, rows, rows * width, lower, above, seconds)


def _of_maps(shape: tuple[int, ...], settings: Settings) -> float:
    """The share of all maps that is seen of them where epochs begin with parts."""
    sizes = crops(shape, settings)
    seen = [h * w / (shape[1] * shape[2]) for h, w in sizes[: settings.epochs]]
    return (sum(seen) + settings.epochs - len(seen)) / settings.epochs


def _parts(below: Below, trained: set[int]) -> tuple[Part, ...]:
    parts: dict[str, Part] = {}
    above = {id(parameter) for parameter in below.line.upper.parameters()}
    pretrained: Any = below.loaded.network
    for name, parameter in pretrained.network.named_parameters():
        block = _block(name)
        before = parts.get(block, Part(block, 0, 0))
        moves = parameter.numel() if id(parameter) in trained else 0
        over = before.above or id(parameter) in above
        parts[block] = Part(block, before.parameters + parameter.numel(), before.trained + moves, over)
    return tuple(parts.values())


def _block(name: str) -> str:
    """The stage that a parameter belongs to: "blocks.4" of "blocks.4.2.bn1.weight", "features.denseblock3", "conv_stem"."""
    first, *rest = short_path(name.rpartition(".")[0] or name).split(".")
    return f"{first}.{rest[0]}" if rest else first


def _below_speed(below: Below) -> float:
    runner, stored = below.frozen.engine, below.frozen.preprocess.stored
    images = drawn_images(runner.batch, *stored)
    for _ in range(2):
        started = time.monotonic()
        for _ in runner.run(images for _ in range(BLOCKS)):
            pass
    return BLOCKS * runner.batch / (time.monotonic() - started)


def _above_speed(below: Below, settings: Settings, classes: int) -> tuple[float, set[int], Part]:
    """Images per second of a training step without the optimizer's, identities of what trains, and the head."""
    line, device = below.line, pick_device(settings.device)
    precision = pick_precision(settings.precision, device)
    batch = min(settings.batch_size, 64)
    with torch.inference_mode():
        width = line.upper.eval()(torch.zeros(1, *line.shape))[0].shape[1]
    head = nn.Linear(width, classes) if settings.head == "logistic" else make_head(settings.head, width, classes)
    network = Trainable(line.upper, head, line.shape, settings.train_batchnorm).to(device)
    groups = parameter_groups(network, settings, getattr(below.loaded.network, "network", None))
    check_freezeout((name for name, each in network.named_parameters() if each.requires_grad), settings)  # said at once
    if not groups:
        raise UserError("There is nothing to train: 'rates' freezes every parameter.", received=", ".join(settings.rates))
    trained = {id(parameter) for group in groups for parameter in group["params"]}
    fabric = make_fabric(device, precision)
    model: Any = fabric.setup_module(network)
    statistics = {name: value.clone() for name, value in network.named_buffers()}
    labels = torch.arange(batch, device=device) % classes
    with network.train().folded(), slow_layers_in_f32(network, device, precision):
        for _ in range(2):
            started = time.monotonic()
            fabric.backward(functional.cross_entropy(model(torch.rand(batch, *line.shape, device=device)).float(), labels))
            if device.type == "cuda":
                torch.cuda.synchronize(device)
        check_gradients(network)  # said before minutes of activations
    for name, value in network.named_buffers():
        value.copy_(statistics[name])
    network.zero_grad(set_to_none=True)
    sizes = [(parameter.numel(), id(parameter) in trained) for parameter in head.parameters()]
    part = Part("head", sum(size for size, _ in sizes), sum(size for size, trains in sizes if trains), above=True)
    return batch / (time.monotonic() - started), trained, part


def say_plan(plan: Plan, below: Below, settings: Settings) -> None:
    """The plan on screen."""
    line = below.line
    for note in (*below.frozen.notes, *([line.said] if line.said else [])):
        say(note)
    total, trained = sum(part.parameters for part in plan.parts), sum(part.trained for part in plan.parts)
    shape = "×".join(map(str, line.shape))
    say(
        f"{below.loaded.name}: {total:,} parameters, {trained:,} of them train, and {plan.head.trained:,} of the head: "
        f"{trained + plan.head.trained:,} of {total + plan.head.parameters:,}."
    )
    frozen = True
    for part in plan.parts:
        if frozen and part.above:
            say(f"  ~~~~ frost line, at {line.first}: activations of {shape} ~~~~", "bold")
            frozen = False
        share = "frozen" if not part.trained else "trains" if part.trained == part.parameters else f"{part.trained:,} of them train"
        say(f"  {part.name:<28} {part.parameters:>12,}  {share}")
    if plan.rows:
        kept = f"{plan.rows:,} activations are kept: {plan.stored / 2**20:,.0f} MiB."
    else:
        kept = "Pixels change every epoch, so every step runs the frozen part too: nothing is stored."
    if sizes := crops(line.shape, settings):  # the last is that of whole maps
        parts = ", ".join(f"{h}×{w}" for h, w in sizes[:-1])
        say(f"Epochs see parts of the maps first, {parts} cells, then all." if parts else "The only epoch sees whole maps.")
    minutes = f"About {plan.seconds / 60:,.0f} min" if plan.seconds >= 60 else "Less than a minute"
    say(
        f"{kept} {minutes} for {settings.epochs} epochs where nothing is cached yet (below the line "
        f"{plan.below_speed:,.0f} images/s, training above it {plan.above_speed:,.0f})."
    )
