"""What corrupted images leave of a model, and how long that takes: `frostline evaluate --corruptions`, as a person runs it.

    python bench/shift.py MODEL --data cifar10:FOLDER

Appends a row to results/shift.csv: accuracy on images as they are and in the mean over all 75 (corruption, severity), for how many
of the fifteen the fifth severity is below the first, seconds until the 75 were judged and of the whole command, and whether a
second process makes the same bytes of the first 256 images.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from common import append_rows
from inputs import machine_speed, versions

SOME = 256
#: Run in a process of its own, twice: a digest of every corruption of the first test images.
DIGEST = """
import hashlib, sys
from frostline.data.sources import load_source
from frostline.shifts.corruptions import CORRUPTIONS, SEVERITIES, corrupt
images = load_source(sys.argv[1]).sets["test"].take(range(int(sys.argv[2])))
made = hashlib.blake2b()
for name in CORRUPTIONS:
    for severity in SEVERITIES:
        made.update(corrupt(images.pixels, images.digests, name, severity).tobytes())
print(made.hexdigest())
"""


def corrupted_digest(data: str) -> str:
    return subprocess.run([sys.executable, "-c", DIGEST, data, str(SOME)], check=True, capture_output=True, text=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--data", required=True)
    asked = parser.parse_args()
    machine = machine_speed()
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "frostline", "evaluate", asked.model, asked.data, "--corruptions", "--out", out]
        subprocess.run(command, check=True)
        record = json.loads((Path(out) / "shift.json").read_text())
    row = {
        "model": record["model_digest"],
        "n": record["n"],
        "clean": record["clean"],
        "mean_corrupted": round(record["mean_corrupted"], 4),
        "severity_5_below_1": sum(row[-1] < row[0] for row in record["corruptions"].values()),
        "seconds_to_corruptions": record["seconds_to_corruptions"],
        "seconds": record["seconds"],
        "same_bytes": corrupted_digest(asked.data) == corrupted_digest(asked.data),
        "machine_bf16_gflops": machine,
        "versions": versions(),
    }
    append_rows("shift", [row])
    print(row)


if __name__ == "__main__":
    main()
