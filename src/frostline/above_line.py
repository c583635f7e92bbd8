"""What the part above the frost line makes, as pretrained, of activations that are stored: features for a head to begin from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from frostline.anytime import FeatureTable
from frostline.config import Settings
from frostline.data.batches import stored_tensor
from frostline.features import FeatureBlock
from frostline.frozen import Below
from frostline.models.device import only_looking, pick_device
from frostline.models.transfer import Trainable
from frostline.progress import stage


@dataclass(frozen=True)
class Above:
    """What makes features of activations: of blocks of so many rows (B, C·h·w), as they are stored, (B, D) in float32 each."""

    rows: int
    run: Callable[[Iterable[Tensor]], Iterator[NDArray[np.float32]]]


@contextmanager
def as_pretrained(below: Below, settings: Settings, rows: int) -> Iterator[Above]:
    """The part above the line as it is: on a CPU compiled, by a third faster than torch; else in torch, ``rows`` at once."""
    if compiled := below.above(settings):
        yield Above(compiled.batch, lambda blocks: (found for (found,) in compiled.run(x.float().numpy() for x in blocks)))
        return
    device, shape = pick_device(settings.device), below.line.shape
    network = Trainable(below.line.upper, nn.Identity(), shape)
    with network.folded(), only_looking(network, settings) as model:
        yield Above(rows, lambda blocks: (model(x.float().unflatten(1, shape).to(device)).float().cpu().numpy() for x in blocks))


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
