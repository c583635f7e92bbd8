"""Mixing of rows within a batch: mixup, and cutmix where rows are maps. It works on images and on activations alike.

A mixed batch has two labels a row, with a share each that all rows have in common. Random numbers are torch's global ones, which
the loop seeds for every epoch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from frostline.config import Settings
from frostline.errors import UserError

#: Labels (B,) and the share in [0, 1] that they have in the batch.
Shares = list[tuple[Tensor, float]]


def mix(x: Tensor, y: Tensor, settings: Settings) -> tuple[Tensor, Shares]:
    """The batch after mixup or cutmix, as the settings ask; with both, one of them is drawn for every batch.

    Args:
        x: (B, …); for cutmix (B, C, H, W).
        y: (B,) labels.
        settings: ``mixup`` and ``cutmix``.
    """
    kinds = [kind for kind in ("mixup", "cutmix") if getattr(settings, kind)]
    if not kinds or len(y) < 2:
        return x, [(y, 1.0)]
    kind = kinds[int(torch.randint(len(kinds), ()))]
    alpha = torch.tensor(float(getattr(settings, kind)))
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    partner = torch.randperm(len(y)).to(y.device)
    if kind == "mixup":
        mixed = mixup(x, partner, share)
    else:
        mixed, share = cutmix(x, partner, share)
    return mixed, [(y, share), (y[partner], 1 - share)]


def mixup(x: Tensor, partner: Tensor, share: float) -> Tensor:
    """``share`` of each row and the rest of its partner's (Zhang et al. 2018, eq. 1)."""
    return torch.lerp(x[partner], x, share)


def cutmix(x: Tensor, partner: Tensor, share: float) -> tuple[Tensor, float]:
    """Rows with a box of their partner's map in them, and what is left of their own (Yun et al. 2019, eq. 1 and 2).

    The box covers 1 − ``share`` of the map around a random centre; what lies outside is cut off, so that the share that is left,
    which is returned, is larger. On small maps the box is whole cells.
    """
    if x.dim() != 4:
        raise UserError(
            "cutmix mixes maps, and what trains here takes none.",
            expected="images or activations (B, C, H, W)",
            received=str(tuple(x.shape)),
            hint="--set cutmix=0, and mixup instead",
        )
    H, W = x.shape[2:]
    side = (1 - share) ** 0.5
    centre = torch.rand(2)
    top, bottom = _span(float(centre[0]), side, H)
    left, right = _span(float(centre[1]), side, W)
    mixed = x.clone()
    mixed[:, :, top:bottom, left:right] = x[partner, :, top:bottom, left:right]
    return mixed, 1 - (bottom - top) * (right - left) / (H * W)


def _span(centre: float, side: float, length: int) -> tuple[int, int]:
    start, end = (round((centre + half) * length) for half in (-side / 2, side / 2))
    return max(start, 0), min(max(end, 0), length)
