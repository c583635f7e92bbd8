"""Features per second, MobileNetV2: Frostline's extraction against Keras-TensorFlow, timm eager and the bare compiled network.

    python bench/features.py [--weights FOLDER] [--data cifar10:PATH] [--quick]

Two parts, by default both. ``arrays``: raw uint8 32×32 images in, pooled features at 160×160 out. Contestants are processes that
stay alive; rounds are interleaved, so that a slow minute of the machine meets all of them; a ratio is the median over rounds.
Frostline starts from digests and an empty cache each time. Peers run in their best batch and layout, found
while warming up. ``photos``: a folder of JPEGs of about 500 px at the network's 224×224; in each round extraction, decoding alone
(the faster of threads and processes) and inference alone, each on all cores; the bound is 1 / (1 / decoding + 1 / inference).
Without ``--weights`` they are random (the speed is that of trained ones, but for layers that bf16 would harm). Rows go to
results/features.csv and results/photos.csv.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common import append_rows, contestants, peers_python, ratio_row
from inputs import arrays, machine_speed, photos, random_weights, versions
from rich.console import Console
from rich.table import Table

CONTESTANTS = Path(__file__).with_name("feature_contestants.py")
#: Extraction must be at least this many times as fast.
BARS = {"bare compiled network": 0.9, "timm eager f32": 3.0, "keras-tensorflow f32": 6.0}
PHOTOS_BAR = 0.9
#: Anonymous memory at the end of a folder, relative to after a quarter of it.
FLAT = 1.05
console = Console()


def main() -> None:
    asked = parse()
    with tempfile.TemporaryDirectory() as place:
        os.environ["FROSTLINE_HOME"] = place  # a fresh one: no graph, no stat index, no feature is found there
        weights = str(asked.weights.expanduser().resolve()) if asked.weights else str(random_weights("mobilenetv2", Path(place)))
        common = {"weights": asked.weights.name if asked.weights else "random", "data": asked.data}
        if asked.part in ("arrays", "both"):
            race_arrays(asked, Path(place), weights, common)
        if asked.part in ("photos", "both"):
            race_photos(asked, asked.photos or Path(place), weights, common["weights"])


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("arrays", "photos", "both"), default="both")
    parser.add_argument("--weights", type=Path, help="folder of MobileNetV2 weights in timm's hub layout; without: random")
    parser.add_argument("--data", default="drawn", help="drawn (the default), or cifar10:PATH")
    parser.add_argument("--photos", type=Path, help="where to keep the drawn JPEGs for the next time; without: nowhere")
    parser.add_argument("--rounds", type=int, default=5, help="repetitions of arrays (5)")
    parser.add_argument("--photo-rounds", type=int, default=3, help="repetitions of photos (3)")
    parser.add_argument("--quick", action="store_true", help="1,024 arrays and 2,000 photos instead of 4,096 and 20,000")
    return parser.parse_args()


def race_arrays(asked: argparse.Namespace, place: Path, weights: str, common: dict[str, str]) -> None:
    pixels = place / "arrays.npy"
    np.save(pixels, arrays(asked.data, 1024 if asked.quick else 4096))
    mine, keras = [sys.executable, CONTESTANTS], [peers_python(), CONTESTANTS]
    commands: dict[str, list[str | Path]] = {
        "frostline": [*mine, "frostline", pixels, weights],
        "bare compiled network": [*mine, "bare", pixels, weights],
        "timm eager f32": [*mine, "timm", pixels, weights],
        "keras-tensorflow f32": [*keras, "keras", pixels, "float32"],
        "keras-tensorflow bf16": [*keras, "keras", pixels, "mixed_bfloat16"],
    }
    before = machine_speed()
    with contestants(commands) as running:
        rounds = [{name: contestant.repeat() for name, contestant in running.items()} for _ in range(asked.rounds)]
        ways = {name: contestant.about["way"] for name, contestant in running.items()}
    machine = round((before + machine_speed()) / 2)
    rows = [row_of_arrays(name, ways[name], rounds, machine) for name in commands]
    rows = [{**common, **row, "versions": versions()} for row in rows]
    appended = append_rows("features", rows)  # before anything else can go wrong
    show_arrays(rows, machine)
    console.print(f"rows appended to {appended}")


def row_of_arrays(name: str, way: str, rounds: list[dict[str, float]], machine: int) -> dict[str, Any]:
    found, ours = ([speeds[each] for speeds in rounds] for each in (name, "frostline"))
    return {
        "contestant": name,
        "way": way,
        **ratio_row(found, ours, BARS.get(name)),
        "machine_bf16_gflops": machine,
    }


def show_arrays(rows: list[dict[str, Any]], machine: int) -> None:
    title = f"MobileNetV2@160 from 32×32 uint8, n = {rows[0]['n']}; the machine multiplies bf16 at {machine:,} GFLOP/s"
    table = Table("contestant", "way", "images/s", "range", "ours / this", "bar", title=title)
    for row in rows:
        spread = f"{row['lowest']:,}–{row['highest']:,}"
        speed, ratio = f"{row['images_per_second']:,}", f"{row['ours_ratio']:.2f}"
        table.add_row(row["contestant"], row["way"], speed, spread, ratio, verdict(row["bar"], row["met"]))
    console.print(table)


def verdict(bar: float | None, met: bool | None) -> str:
    return "" if bar is None else f"≥ {bar:g}: {'met' if met else 'MISSED'}"


def race_photos(asked: argparse.Namespace, place: Path, weights: str, named: str) -> None:
    n = 2000 if asked.quick else 20_000
    console.print(f"{n:,} JPEGs are drawn, where they are not there yet …")
    folder = photos(place, n)
    before = machine_speed()
    with contestants({"photos": [sys.executable, CONTESTANTS, "photos", folder, weights]}) as running:
        rounds = [running["photos"].repeat() for _ in range(asked.photo_rounds)]
        about = running["photos"].about
    machine = round((before + machine_speed()) / 2)
    row = {"weights": named, **row_of_photos(about, rounds), "machine_bf16_gflops": machine, "versions": versions()}
    appended = append_rows("photos", [row])
    show_photos(row)
    console.print(f"rows appended to {appended}")


def row_of_photos(about: dict[str, Any], rounds: list[dict[str, float]]) -> dict[str, Any]:
    ratios = [each["extraction"] * (1 / each["decoding"] + 1 / each["inference"]) for each in rounds]
    ratio, growth = statistics.median(ratios), max(each["memory_end"] / each["memory_quarter"] for each in rounds)
    speeds = {f"{name}_per_second": round(statistics.median(each[name] for each in rounds), 1) for name in STAGES}
    memory = {f"{name}_mib": round(max(each[name] for each in rounds) / 2**20) for name in MEMORY}
    return {
        "images": about["images"],
        "way": about["way"],
        "n": len(rounds),
        "checked_per_second": round(about["checked"], 1),
        **speeds,
        "of_bound": round(ratio, 3),
        "lowest": round(min(ratios), 3),
        "highest": round(max(ratios), 3),
        "bar": PHOTOS_BAR,
        "met": ratio >= PHOTOS_BAR,
        **memory,
        "memory_flat": growth <= FLAT,
    }


STAGES = ("decoding", "inference", "extraction")
MEMORY = ("memory_peak", "memory_quarter", "memory_end")


def show_photos(row: dict[str, Any]) -> None:
    title = f"{row['images']:,} JPEGs of about 500 px, MobileNetV2@224, n = {row['n']}; {row['machine_bf16_gflops']:,} GFLOP/s"
    table = Table("what", "found", "bar", title=title)
    for name in STAGES:
        table.add_row(f"{name}, images/s", f"{row[f'{name}_per_second']:,}", "")
    found = f"{row['of_bound']:.3f} ({row['lowest']:.3f}–{row['highest']:.3f})"
    table.add_row("extraction / (1 / (1 / D + 1 / I))", found, verdict(row["bar"], row["met"]))
    memory = f"{row['memory_quarter_mib']:,} → {row['memory_end_mib']:,}, peak {row['memory_peak_mib']:,}"
    flat = f"≤ {FLAT:g} ×: {'met' if row['memory_flat'] else 'MISSED'}"
    table.add_row("anonymous memory after a quarter → at the end, MiB", memory, flat)
    console.print(table)


if __name__ == "__main__":
    main()
