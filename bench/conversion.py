"""Every backbone of the table, compiled: how far from torch, and how fast, for 32×32 arrays at its own default size.

    python bench/conversion.py [--weights-root FOLDER] [--only NAME,NAME]

The error is the Euclidean norm of (compiled - torch f32) over that of torch f32, over the features of 32 drawn images, which are
other ones than those that decide how many first layers stay in f32. ``worst`` is the same for the worst single image. Weights are
random, BatchNorm measured, except where ``--weights-root`` has a folder for the architecture. Rows go to results/conversion.csv.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import append_rows
from inputs import machine_speed, random_weights, versions
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

ARRAYS = (32, 32)
BARS = {"f32": 1e-3, "bf16": 5e-2, "enlargement f32": 1e-4}
console = Console()


def main() -> None:
    from frostline.models.backbones import BACKBONES

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights-root", type=Path, help="a folder of weight folders in timm's hub layout")
    parser.add_argument("--only", default="", help="names of backbones, separated by commas")
    asked = parser.parse_args()
    machine, rows = machine_speed(), [check_enlargement()]
    for name in asked.only.split(",") if asked.only else BACKBONES:
        with tempfile.TemporaryDirectory() as place:
            given = found_weights(name, asked.weights_root)
            rows += check(name, given or random_weights(name, Path(place)), given.name if given else "random")
        console.print(f"{name}: {rows[-2]['error']:.1e} in f32, {rows[-1]['error']:.1e} in bf16")
    rows = [{**row, "machine_bf16_gflops": machine, "versions": versions()} for row in rows]
    appended = append_rows("conversion", rows)
    show(rows)
    console.print(f"rows appended to {appended}")


def found_weights(name: str, root: Path | None) -> Path | None:
    """The folder below ``root`` whose config.json names the backbone's architecture."""
    from frostline.models.backbones import find

    architecture = find(name).timm.split(".")[0]
    configs = sorted(root.expanduser().glob("*/config.json")) if root else []
    return next((path.parent for path in configs if json.loads(path.read_text())["architecture"] == architecture), None)


def check(name: str, weights: Path, named: str) -> list[dict[str, Any]]:
    """Two rows: f32 and bf16 (with the first layers that it would harm in f32, as extraction has it)."""
    import torch

    from frostline.convert import PROBE, FromUint8, convert_network, with_exact_layers
    from frostline.drawn import drawn_images
    from frostline.engine import Engine
    from frostline.models.backbones import find
    from frostline.models.weights import load
    from frostline.preprocess import Preprocess

    side = find(name).arrays
    loaded = load(name, (side, side), str(weights))
    preprocess = Preprocess((side, side), ARRAYS, kernel=loaded.kernel, mean=loaded.mean, std=loaded.std)
    images = drawn_images(32, *ARRAYS, seed=1)
    with torch.inference_mode():
        reference = FromUint8(loaded.network, preprocess)(torch.from_numpy(images))[0].numpy()
    started = time.perf_counter()
    graph = convert_network(loaded.network, preprocess)
    f32 = Engine(graph, "f32")
    seconds = {"f32": time.perf_counter() - started}
    started = time.perf_counter()
    marked, exact, _ = with_exact_layers(graph, drawn_images(PROBE, *ARRAYS))
    bf16 = Engine(marked, "bf16")
    seconds["bf16"] = time.perf_counter() - started
    described = {"backbone": name, "size": side, "weights": named}
    return [
        {
            **described,
            "compute": engine.precision,
            "exact_layers": exact if engine is bf16 else 0,
            **errors(engine.features(images), reference, BARS[engine.precision]),
            "seconds": round(seconds[engine.precision], 1),
            "images_per_second": round(speed(engine)),
        }
        for engine in (f32, bf16)
    ]


def errors(value: NDArray[Any], reference: NDArray[Any], bar: float) -> dict[str, Any]:
    difference = (value - reference).reshape(len(value), -1)
    each = np.linalg.norm(difference, axis=1) / np.linalg.norm(reference.reshape(len(value), -1), axis=1)
    error = float(np.linalg.norm(difference) / np.linalg.norm(reference))
    return {"error": float(f"{error:.3g}"), "worst": float(f"{each.max():.3g}"), "bar": bar, "met": error <= bar}


def speed(engine: Any, seconds: float = 3.0) -> float:
    """Images/s over about this many seconds, after one block."""
    from frostline.drawn import drawn_images

    block = drawn_images(engine.batch, *ARRAYS, seed=2)
    started = time.perf_counter()
    engine.features(block)
    several = max(8, int(seconds / (time.perf_counter() - started)))
    started = time.perf_counter()
    for _ in engine.run([block] * several):
        pass
    return several * engine.batch / (time.perf_counter() - started)


def check_enlargement() -> dict[str, Any]:
    """32×32 to 160×160, bicubic, normalised, compiled in f32, against float64."""
    from torch import nn

    from frostline.convert import convert_network
    from frostline.drawn import drawn_images
    from frostline.engine import Engine
    from frostline.preprocess import Preprocess, enlarge

    preprocess = Preprocess((160, 160), ARRAYS, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    images = drawn_images(32, *ARRAYS, seed=1)
    started = time.perf_counter()
    engine = Engine(convert_network(nn.Identity(), preprocess), "f32")
    seconds = time.perf_counter() - started
    wanted = (enlarge(images.astype(np.float64), 160, 160, "bicubic") / 255 - preprocess.mean) / preprocess.std
    return {
        "backbone": "enlargement alone",
        "size": 160,
        "weights": "",
        "compute": "f32",
        "exact_layers": 0,
        **errors(engine.features(images), wanted.transpose(0, 3, 1, 2), BARS["enlargement f32"]),
        "seconds": round(seconds, 1),
        "images_per_second": round(speed(engine)),
    }


def show(rows: list[dict[str, Any]]) -> None:
    columns = ("backbone", "size", "weights", "compute", "exact_layers", "error", "worst", "seconds", "images_per_second")
    table = Table(*columns, "bar", title="Compiled against torch f32")
    for row in rows:
        verdict = f"≤ {row['bar']:g}: {'met' if row['met'] else 'MISSED'}"
        table.add_row(*(str(row[column]) for column in columns), verdict)
    console.print(table)


if __name__ == "__main__":
    main()
