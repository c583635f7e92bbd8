"""``frostline predict`` of a folder of JPEGs: images per second against decoding alone and inference alone, and its memory.

    python bench/predict.py [--model RUN] [--weights FOLDER] [--photos FOLDER] [--quick]

20,000 drawn JPEGs of about 500 px. In each round: decoding and reducing alone (the faster of threads and processes), inference
alone (OpenVINO's own queue over one fixed batch, outputs left where they are), and the whole of ``predict --output x.jsonl``, each
on all cores and in one process that stays alive. The bound is 1 / (1 / decoding + 1 / inference). Models: MobileNetV2 at 160 with a
linear head, trained here on 200 of the photos in seconds (the speed does not depend on what it has learned), and the classifier
inside. ``cold`` is ``frostline predict one.jpg`` as a process of its own, from its second run on. Rows go to results/predict.csv.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import append_rows, contestants
from inputs import machine_speed, photo_path, photos, random_weights, versions
from rich.console import Console

BAR, FLAT, COLD_BAR_S = 0.9, 1.05, 1.0
#: Photos that the head is trained on, in class folders.
TRAINED_ON = 200
SIDE = 160
console = Console()


def main() -> None:
    asked = parse()
    if asked.contestant:
        contestant(asked.contestant, asked.photos)
        return
    with tempfile.TemporaryDirectory() as place:
        os.environ["FROSTLINE_HOME"] = f"{place}/home"
        n = 2000 if asked.quick else 20_000
        console.print(f"{n:,} JPEGs are drawn, where they are not there yet …")
        folder = photos(asked.photos or Path(place), n)
        models = {"MobileNetV2@160": asked.model or trained(Path(place), folder, asked.weights), "inside": "inside"}
        machine = machine_speed()
        rows = [measured(name, str(model), folder, asked.rounds) for name, model in models.items()]
        rows = [{**row, "images": n, "machine_bf16_gflops": machine, "versions": versions()} for row in rows]
    for row in rows:
        show(row)
    console.print(f"rows appended to {append_rows('predict', rows)}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a run or a model directory in place of the MobileNetV2 that is trained here")
    parser.add_argument("--weights", type=Path, help="folder of MobileNetV2 weights in timm's hub layout; without: random")
    parser.add_argument("--photos", type=Path, help="where to keep the drawn JPEGs for the next time; without: nowhere")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="2,000 photos")
    parser.add_argument("--contestant", help=argparse.SUPPRESS)
    return parser.parse_args()


def trained(place: Path, folder: Path, weights: Path | None) -> Path:
    """A run of MobileNetV2 at 160 on a few of the photos."""
    from frostline.config import Settings
    from frostline.experiment import train

    some = place / "some"
    for number in range(TRAINED_ON):
        target = some / photo_path(folder, number).relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(photo_path(folder, number), target)
    given = str(weights.expanduser().resolve()) if weights else str(random_weights("mobilenetv2", place))
    train(some, Settings(backbone="mobilenetv2", image_size=SIDE, weights=given, device="cpu"), place / "run")
    return place / "run"


def measured(name: str, model: str, folder: Path, rounds: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--contestant", model, "--photos", folder]
    with contestants({name: command}) as running:
        found = [running[name].repeat() for _ in range(rounds)]
        about = running[name].about
    of_bound = [each["predict"] * (1 / each["decoding"] + 1 / each["inference"]) for each in found]
    growth = max(each["memory_end"] / each["memory_quarter"] for each in found)
    ratio = statistics.median(of_bound)
    cold = cold_seconds(model, folder)
    return {
        "model": name,
        **about,
        "n": rounds,
        **{f"{key}_per_second": round(statistics.median(each[key] for each in found), 1) for key in RATES},
        "of_bound": round(ratio, 3),
        "lowest": round(min(of_bound), 3),
        "highest": round(max(of_bound), 3),
        "bar": BAR,
        "met": ratio >= BAR,
        **{f"{key}_mib": round(max(each[key] for each in found) / 2**20) for key in MEMORY},
        "memory_flat": growth <= FLAT,
        "cold_s": round(statistics.median(cold), 3),
        "cold_highest_s": round(max(cold), 3),
        "cold_n": len(cold),
        "cold_met": statistics.median(cold) <= COLD_BAR_S,
    }


RATES = ("decoding", "inference", "predict")
MEMORY = ("memory_quarter", "memory_end", "memory_peak")


def cold_seconds(model: str, folder: Path, n: int = 9) -> list[float]:
    """Seconds of a process that predicts one photo, from its second run on."""
    command = [sys.executable, "-m", "frostline", "predict", str(photo_path(folder, 0)), "--model", model]
    taken = []
    for _ in range(n + 1):
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        taken.append(time.perf_counter() - started)
    return taken[1:]


def contestant(model: str, folder: Path) -> None:
    """All three of one model, again and again."""
    from contest import serve

    from frostline.data.imageset import ImageSet
    from frostline.predicting.listing import image_files
    from frostline.serve.predictor import Predictor

    predictor = Predictor(model)
    files = tuple(image_files([folder]))
    images = _set_of(ImageSet, files)
    whole(predictor, folder, 256)  # warm

    def repeat() -> dict[str, Any]:
        from feature_contestants import decoding, decoding_apart

        memory, speed = whole(predictor, folder, len(files))
        preprocess = predictor.card.preprocess
        return {
            "predict": speed,
            "decoding": max(way(images, preprocess) for way in (decoding, decoding_apart)),
            "inference": inference(predictor, len(files)),
            "memory_quarter": memory[len(memory) // 4],
            "memory_end": memory[-1],
            "memory_peak": max(memory),
        }

    stored = "x".join(map(str, predictor.card.preprocess.stored))
    serve({"precision": predictor.precision, "stored": stored, "batch": predictor.batch}, repeat, warm=False)


def _set_of(kind: Any, files: tuple[Path, ...]) -> Any:
    import numpy as np

    from frostline.data.rows import digest_bytes16

    n, digests = len(files), np.array([digest_bytes16(file.read_bytes()) for file in files], "S16")
    return kind("test", ("drawn",), np.zeros(n, np.int64), np.arange(n).astype(str), digests, files=files)


def whole(predictor: Any, folder: Path, most: int) -> tuple[list[int], float]:
    """``predict FOLDER --output x.jsonl`` of at most so many images: anonymous memory on the way, and images/s."""
    from itertools import islice

    from feature_contestants import anonymous_bytes

    from frostline.predicting.batch import Asked, predict_to
    from frostline.predicting.listing import listed

    memory: list[int] = []

    def items() -> Any:
        for number, item in enumerate(islice(listed([str(folder)]), most)):
            if number % 256 == 0:
                memory.append(anonymous_bytes())
            yield item

    with tempfile.TemporaryDirectory() as place:
        started = time.perf_counter()
        found = predict_to(predictor, Asked(items, 3, None, "jsonl"), Path(place) / "x.jsonl")
        speed = found.rows / (time.perf_counter() - started)
    assert found.rows == most
    assert not found.failed
    return memory, speed


def inference(predictor: Any, n: int) -> float:
    """Images/s of the bare compiled network: OpenVINO's own queue over one fixed batch."""
    from feature_contestants import rate

    from frostline.drawn import drawn_images
    from frostline.vino import ov

    engine = predictor._compiled.body
    queue = ov.AsyncInferQueue(engine.compiled, engine.ahead)
    block = drawn_images(engine.batch, *predictor.card.preprocess.stored)

    def run() -> None:
        for _ in range(n // engine.batch):
            queue.start_async({0: block})
        queue.wait_all()

    return rate(run, n // engine.batch * engine.batch)


def show(row: dict[str, Any]) -> None:
    rates = ", ".join(f"{key} {row[f'{key}_per_second']:,}" for key in RATES)
    console.print(f"{row['model']}, {row['images']:,} JPEGs, n = {row['n']}: {rates} images/s")
    console.print(f"  of the bound {row['of_bound']} (bar {BAR}: {'met' if row['met'] else 'MISSED'})")
    memory = ", ".join(f"{key.removeprefix('memory_')} {row[f'{key}_mib']:,}" for key in MEMORY)
    console.print(f"  anonymous memory, MiB: {memory} ({'flat' if row['memory_flat'] else 'GROWS'})")
    console.print(f"  cold: {row['cold_s']} s, at most {row['cold_highest_s']} s, n = {row['cold_n']} (bar {COLD_BAR_S:g} s)")


if __name__ == "__main__":
    main()
