"""kill -9 at twenty random moments of a fine-tuning, then ``--resume``: the model is the same bits each time.

Every fourth begins with an empty cache, so that it may be killed while activations are computed as well.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from drawing import tinted_folders

from frostline.runs import Run

KILLS = 20


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "frostline", "train", *map(str, arguments)]


def digest(out: Path) -> str:
    return str(Run.open(out).record["model_digest"])


@pytest.mark.slow
def test_killed_anywhere_it_goes_on_to_the_same_bits(tmp_path: Path, tiny_weights: Path) -> None:
    data = tmp_path / "data"
    tinted_folders(data, ["a", "b", "c"], 200)
    settings = ["backbone=timm:test_resnet", "train_from=layer3", "image_size=64", "precision=f32", "device=cpu", "epochs=12"]
    settings += ["ema=0.99", "soup=2", "mixup=0.2", "cutmix=0.5", "clip=1"]
    options = [argument for setting in settings for argument in ("--set", setting)]
    fresh = ["--recipe", "mobilenetv2-finetune", "--weights", tiny_weights, *options]
    durations = []  # with an empty cache, with a full one
    for name in ("cold", "reference"):
        started = time.monotonic()
        subprocess.run(command(data, *fresh, "--out", tmp_path / name), check=True, capture_output=True)
        durations.append(time.monotonic() - started)
    wanted = digest(tmp_path / "reference")
    moments, resumed = random.Random(5), 0
    for number in range(KILLS):
        out, empty = tmp_path / f"run-{number}", number % 4 == 3
        environment = os.environ | ({"FROSTLINE_HOME": str(tmp_path / f"home-{number}")} if empty else {})
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(command(data, *fresh, "--out", out), env=environment, start_new_session=True, **quiet)
        time.sleep(durations[0 if empty else 1] * moments.uniform(0.1, 1.0))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        finished = (out / "run.json").exists()
        if not finished and (out / "data.json").exists():
            resumed += any((out / "checkpoints").glob("*.safetensors"))
            subprocess.run(command("--resume", out), env=environment, check=True, capture_output=True)
        elif not finished:  # killed before it knew what it was to do
            subprocess.run(command(data, *fresh, "--out", out), env=environment, check=True, capture_output=True)
        assert digest(out) == wanted, f"killed run {number}"
        Run.open(out).verify()
        assert not list(out.rglob("*.tmp"))
    assert resumed >= KILLS // 4
