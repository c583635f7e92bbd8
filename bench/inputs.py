"""What the benches feed: drawn arrays, a drawn folder of JPEGs, random weights in the hub's layout. And the machine's own speed."""

from __future__ import annotations

import json
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from frostline.drawn import drawn_images
from frostline.environment import cores, describe

CLASSES = 10


def arrays(data: str, n: int) -> NDArray[np.uint8]:
    """(n, 32, 32, 3) uint8, no two the same: drawn, or the first training images of ``cifar10:PATH``."""
    if data == "drawn":
        return drawn_images(n, 32, 32)
    from frostline.data.sources import load_source

    pixels = load_source(data).sets["train"].pixels
    if pixels is None or len(pixels) < n:
        raise SystemExit(f"--data needs arrays, at least {n} of them")
    return pixels[:n]


def photos(folder: Path, n: int) -> Path:
    """A folder of ``n`` drawn JPEGs in class folders; those that are there already stay."""
    kept = folder / f"photos-{n}"
    missing = [i for i in range(n) if not photo_path(kept, i).exists()]
    for name in range(CLASSES):
        (kept / f"class-{name}").mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(cores()) as pool:
        list(pool.map(_draw_photo, [kept] * len(missing), missing, chunksize=64))
    return kept


def photo_path(folder: Path, i: int) -> Path:
    return folder / f"class-{i % CLASSES}" / f"{i:05d}.jpg"


def _draw_photo(folder: Path, i: int) -> None:
    """About 500 px on the longer side, an aspect ratio as cameras have them, quality 90, some grain: 40 to 90 kB."""
    rng = np.random.default_rng([7, i])
    longer, aspect = rng.integers(440, 561), rng.choice([4 / 3, 3 / 2, 16 / 9, 1.0])
    width, height = (longer, round(longer / aspect)) if rng.random() < 0.7 else (round(longer / aspect), longer)
    coarse = drawn_images(1, height // 4, width // 4, seed=i)[0]
    scene = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), np.int16)
    top, left = rng.integers(0, _GRAIN - height), rng.integers(0, _GRAIN - width)
    grained = scene + _grain()[top : top + height, left : left + width, None]
    path = photo_path(folder, i)
    temporary = path.with_suffix(".tmp")
    Image.fromarray(np.clip(grained, 0, 255).astype(np.uint8)).save(temporary, "JPEG", quality=90)
    temporary.replace(path)


_GRAIN = 1024


@cache
def _grain() -> NDArray[np.int16]:
    """Noise drawn once, cut anew for each photo: drawing it anew would take longer than everything else."""
    return np.rint(np.random.default_rng(0).normal(0, 4, (_GRAIN, _GRAIN))).astype(np.int16)


def random_weights(name: str, root: Path) -> Path:
    """A folder in the hub's layout with random weights for a backbone, its BatchNorm measured once on drawn images.

    Without that the activations of a random network shrink or grow from layer to layer, as no trained one's do.
    """
    import torch
    from safetensors.torch import save_file
    from torch import nn
    from torch.nn import functional

    from frostline.models.backbones import build, find

    folder, row = root / name.replace(":", "-"), find(name)
    torch.manual_seed(0)
    network = build(name, (row.arrays, row.arrays))
    network.eval()
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train()
            module.momentum = None  # a plain average over what it sees, here one batch
    images = drawn_images(64, 32, 32, seed=5).transpose(0, 3, 1, 2) / 127.5 - 1
    enlarged = functional.interpolate(torch.tensor(images, dtype=torch.float32), (row.arrays, row.arrays), mode="bicubic")
    with torch.no_grad():
        network(enlarged)
    folder.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, folder / "model.safetensors")
    trained_for = {"tag": "random", "mean": [0.5] * 3, "std": [0.5] * 3}
    config = {"architecture": row.timm.split(".")[0], "num_classes": 0, "pretrained_cfg": trained_for}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    return folder


def machine_speed() -> int:
    """GFLOP/s of bf16 matrix products in torch, what rates scale with: the best of 1024, 1536 and 2048 cubed, medians of 9."""
    import torch

    return round(max(_product_speed(torch, side) for side in (1024, 1536, 2048)))


def _product_speed(torch: Any, side: int) -> float:
    a, b = (torch.randn(side, side, dtype=torch.bfloat16) for _ in range(2))
    seconds = []
    for _ in range(12):
        started = time.perf_counter()
        a @ b
        seconds.append(time.perf_counter() - started)
    return float(2 * side**3 / statistics.median(seconds[3:]) / 1e9)


def versions() -> str:
    """Versions that decide these results, in a few words."""
    found = describe()
    wanted = ("torch", "timm", "openvino", "numpy", "pillow")
    packages = [f"{name} {found['packages'][name]}" for name in wanted]
    return ", ".join([f"frostline {found['frostline']}", f"python {found['python']}", *packages])
