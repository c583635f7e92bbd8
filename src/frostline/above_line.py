"""What the part above the frost line makes, as pretrained, of activations that are stored: features for a head to begin from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from frostline.anytime import FeatureTable
from frostline.config import Settings
from frostline.convert import BF16_TOLERANCE, F32_TOLERANCE, convert_upper, relative
from frostline.data.batches import stored_tensor
from frostline.engine import BATCH, Engine
from frostline.features import FeatureBlock
from frostline.frozen import Below
from frostline.models.device import only_looking, pick_device
from frostline.models.transfer import Trainable
from frostline.progress import say, stage


@dataclass(frozen=True)
class Above:
    """What makes features of activations: of blocks of so many rows (B, C·h·w), as they are stored, (B, D) in float32 each."""

    rows: int
    run: Callable[[Iterable[Tensor]], Iterator[NDArray[np.float32]]]


@contextmanager
def as_pretrained(below: Below, settings: Settings, rows: int, held: FeatureTable) -> Iterator[Above]:
    """The part above the line as it is: on a CPU compiled, by a third faster than torch; else in torch, ``rows`` at once.

    ``held``: a table of activations, by whose first rows the compiled part is compared with torch.
    """
    device, shape = pick_device(settings.device), below.line.shape
    probe = stored_tensor(held.features[:BATCH, 0], held.dtype).float()
    if device.type == "cpu" and (engine := compiled(below, probe)):
        yield Above(engine.batch, lambda blocks: (found for (found,) in engine.run(x.float().numpy() for x in blocks)))
        return
    network = Trainable(below.line.upper, nn.Identity(), shape)
    with network.folded(), only_looking(network, settings) as model:
        yield Above(rows, lambda blocks: (model(x.float().unflatten(1, shape).to(device)).float().cpu().numpy() for x in blocks))


def compiled(below: Below, probe: Tensor) -> Engine | None:
    """What is above the line, compiled in the network's precision, or in f32 where bf16 moves features beyond its tolerance.

    None where it cannot be compiled by itself, or computes something else than torch does. Either is said, and noted in the record.

    Args:
        probe: activations (B, C·h·w) of images, float32.
    """
    upper, shape = below.line.upper.eval(), below.line.shape
    with torch.no_grad():
        wanted = upper(probe.clone().unflatten(1, shape))[0].numpy()  # of a copy: its first layer may work in place
    try:
        graph = convert_upper(upper, shape)
        if below.precision == "bf16":
            engine, moved = _tried(graph, "bf16", probe, wanted)
            if moved <= BF16_TOLERANCE:
                return engine
            _note(below, "in f32", f"bf16 moves its features by {moved:.1%}")
        engine, moved = _tried(graph, "f32", probe, wanted)
        if moved <= F32_TOLERANCE:
            return engine
        _note(below, "in torch", f"compiled, its features differ from torch's by {moved:.1%}")
    except RuntimeError as error:
        _note(below, "in torch", str(error).splitlines()[0][:160])
    return None


def _tried(graph: Any, precision: str, probe: Tensor, wanted: NDArray[np.float32]) -> tuple[Engine, float]:
    """The graph compiled in this precision, and how far its features of ``probe`` are from those wanted."""
    engine = Engine(graph, precision)
    return engine, relative(engine.features(probe.numpy()), wanted)


def _note(below: Below, way: str, why: str) -> None:
    """On screen and in the record: features for the head are made in a slower way."""
    sentence = f"For the head, what is above the frost line is computed {way}, which is slower: {why}."
    say(sentence, "yellow")
    below.frozen.notes.append(sentence)


def pooled(above: Above, held: FeatureTable, rows: NDArray[np.int64], views: int, apart: bool = False) -> FeatureTable:
    """Features of these rows, which ``held`` has activations of: of each of its first views, or their mean."""
    stored = stored_tensor(held.features[:, :views], held.dtype)
    size = max(1, above.rows // views)
    table: FeatureTable | None = None
    with stage("features above", len(rows)) as bar:
        for found in above.run(stored[start : start + size].flatten(0, 1) for start in range(0, len(rows), size)):
            features = found.reshape(-1, views, found.shape[1])
            kept = features if apart else features.mean(1, keepdims=True)
            table = table or FeatureTable(len(rows), kept.shape[1], kept.shape[2], "float32")
            table.add(FeatureBlock(rows[table.count : table.count + len(kept)], kept))
            bar.advance(len(kept))
    assert table is not None
    return table
