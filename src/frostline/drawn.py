"""Drawn images: what self-tests, probes and benches use instead of anyone's photographs. The same numbers give the same pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def drawn_images(n: int, height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """(n, height, width, 3) uint8 scenes: a shaded background, some discs and bars, a little grain."""
    return np.stack([_scene(np.random.default_rng([seed, i]), height, width) for i in range(n)])


def _scene(rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    y, x = (y + 0.5) / height, (x + 0.5) / width
    slope = rng.normal(0, 60, (2, 3))
    scene = rng.uniform(60, 200, 3) + (y[..., None] - 0.5) * slope[0] + (x[..., None] - 0.5) * slope[1]
    for _ in range(rng.integers(2, 6)):
        cy, cx, size = rng.uniform(0.1, 0.9), rng.uniform(0.1, 0.9), rng.uniform(0.08, 0.35)
        inside = _disc(y - cy, x - cx, size) if rng.random() < 0.5 else _bar(y - cy, x - cx, size, rng.uniform(0, np.pi))
        scene += inside[..., None] * (rng.uniform(0, 255, 3) - scene)
    scene += rng.normal(0, 6, scene.shape)
    return np.clip(np.rint(scene), 0, 255).astype(np.uint8)


def _disc(y: NDArray[np.float64], x: NDArray[np.float64], size: float) -> NDArray[np.float64]:
    return np.clip((size - np.hypot(y, x)) * 24, 0, 1)


def _bar(y: NDArray[np.float64], x: NDArray[np.float64], size: float, angle: float) -> NDArray[np.float64]:
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    return np.clip((size - np.abs(along)) * 24, 0, 1) * np.clip((size / 3 - np.abs(across)) * 24, 0, 1)
