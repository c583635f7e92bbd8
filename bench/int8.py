"""What quantisation costs and gains: points of accuracy, images per second against the model's own precision, size.

    python bench/int8.py --data cifar10:FOLDER [--model inside] [--model mobilenetv2-160=RUN] …

The classifier inside has seen CIFAR-10's training images: 2,000 drawn ones of test stand in for its validation images, and the
others are judged. Appends rows to results/int8.csv: for each model, with ever more of its first layers left as they are, until
`frostline export --to int8` would write it by default ("offered"). Ranges from 300 validation images, the loss on all others of
validation and, for the record only, on test; both speeds in one process, in turn.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import nncf
import openvino
from common import append_rows
from PIL import Image

from frostline.anytime import stratified_order
from frostline.experiment import load_data
from frostline.exports.int8_form import FLOAT_LAYERS, MAX_LOSS, MIN_GAIN, write_int8
from frostline.inside import MODEL
from frostline.judge import evaluate
from frostline.paired import paired

#: Of test, in place of validation images.
STAND_IN = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", action="append", help="NAME=FOLDER, or inside")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        for given in asked.model or ["inside"]:
            name, _, folder = given.partition("=")
            data = str(unseen(asked.data, Path(place))) if (folder or name) == MODEL else asked.data
            for number in FLOAT_LAYERS:
                row = measured(name, folder or name, data, number)
                append_rows("int8", [row])
                if row["offered"]:
                    break


def unseen(data: str, place: Path) -> Path:
    """A folder of PNGs, ``val/`` and ``test/``, of the data's test images."""
    test = load_data(data).test
    assert test is not None
    assert test.pixels is not None
    drawn = set(stratified_order(test.labels, 0)[:STAND_IN].tolist())
    for row, (pixels, label) in enumerate(zip(test.pixels, test.labels, strict=True)):
        folder = place / ("val" if row in drawn else "test") / test.classes[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{row:05d}.png")
    return place


def measured(name: str, model: str, data: str, float_layers: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        smaller = Path(scratch) / "int8"
        found = write_int8(model, smaller, data, max_loss=100, min_gain=0, float_layers=[float_layers])
        (before, _), (after, _) = evaluate(model, data), evaluate(smaller, data)
    test = paired("before", before, "int8", after)
    speed, sizes = found["images_per_second"], found["graph_bytes"]
    row = {
        "model": name,
        "versions": f"openvino {openvino.__version__.split('-')[0]}, nncf {nncf.__version__}",
        "float_layers": float_layers,
        "calibration": found["calibration"],
        "n_validation": found["n"],
        "points_lost": round(found["loss"], 2),
        "interval": "{:.2f} to {:.2f}".format(*found["interval"]),
        "n_test": test["n"],
        "test_points_lost": round(100 * test["difference"], 2),
        "test_interval": "{:.2f} to {:.2f}".format(*(100 * value for value in test["interval"])),
        "worst_probability": round(found["parity"]["worst"], 3),
        "same_class": round(found["parity"]["same_winner"], 4),
        "against": found["against"],
        "images_per_second": round(speed[found["against"]]),
        "int8_images_per_second": round(speed["int8"]),
        "gain": found["gain"],
        "graph_mb": round(sizes["source"] / 1e6, 2),
        "int8_graph_mb": round(sizes["int8"] / 1e6, 2),
        "offered": found["loss"] <= MAX_LOSS and found["gain"] >= MIN_GAIN,
    }
    print(row)
    return row


if __name__ == "__main__":
    main()
