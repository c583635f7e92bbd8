"""The frozen network run by torch itself: on a GPU, or on a CPU where a network does not convert."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from frostline.convert import FromUint8
from frostline.models.device import make_fabric, pick_device, pick_precision
from frostline.preprocess import Preprocess


class EagerEngine:
    """Gives features for (b, h, w, 3) uint8, as ``engine.Engine`` does.

    Args:
        network: normalised images to (features, map).
        preprocess: runs on the device too; only uint8 travels there.
        device, precision: as in the settings.
    """

    def __init__(self, network: nn.Module, preprocess: Preprocess, device: str, precision: str) -> None:
        self.device = pick_device(device)
        self.precision = pick_precision(precision, self.device)
        self.batch = 16 if self.device.type == "cpu" else 256
        self.name = f"torch {torch.__version__} {self.device.type}"
        # a copy: the network stays on the CPU, where it is converted, trained in part and saved
        copied = FromUint8(copy.deepcopy(network), preprocess).to(self.device)
        module = copied.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._model = make_fabric(self.device, self.precision).setup_module(module.eval())

    @torch.inference_mode()
    def run(self, blocks: Iterable[NDArray[np.uint8]]) -> Iterator[tuple[NDArray[np.float32], ...]]:
        """(features,) of each block, in order. The next block is queued on the device before the last one is fetched."""
        waiting = None
        for block in blocks:
            images = torch.from_numpy(np.ascontiguousarray(block)).to(self.device, non_blocking=True)
            features = self._model(images)[0].float()
            if waiting is not None:
                yield (waiting.cpu().numpy(),)
            waiting = features
        if waiting is not None:
            yield (waiting.cpu().numpy(),)
