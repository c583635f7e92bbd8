"""kill -9 at ten random moments of ``train``: nothing half-written is ever read later, and the next run completes."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from drawing import tinted_folders

from frostline.artifact import read_model
from frostline.errors import UserError
from frostline.feature_cache import FeatureCache, features_folder
from frostline.files import digest_file
from frostline.runs import Run

KILLS = 10


def command(data: Path, weights: Path, out: Path) -> list[str]:
    settings = ["backbone=timm:test_resnet", "image_size=96", "precision=f32", "device=cpu"]
    chosen = [argument for setting in settings for argument in ("--set", setting)]
    run = ["train", str(data), "--recipe", "mobilenetv2-frozen", "--weights", str(weights), "--out", str(out), "--overwrite"]
    return [sys.executable, "-m", "frostline", *run, *chosen]


def check_everything(home: Path, out: Path) -> None:
    """Whatever is there is whole: the run (or it is known to be unfinished), the model, the graph, every shard that counts."""
    try:
        run = Run.open(out)
    except UserError as error:
        assert "unfinished" in str(error) or "no run" in str(error)  # noqa: PT017
    else:
        run.verify()
    if (out / "model").exists():
        read_model(out / "model")
    for manifest in (home / "graphs").glob("*/graph.json"):
        for name, digest in json.loads(manifest.read_text())["files"].items():
            assert digest_file(manifest.parent / name) == digest
    for folder in features_folder().glob("*/"):
        if (folder / "key.json").exists():
            key = json.loads((folder / "key.json").read_text())
            width, dtype = key.pop("width"), key.pop("dtype")
            key.pop("format")
            len(FeatureCache(key, width, dtype))  # reads every shard; warnings of damage would be printed


@pytest.mark.slow
def test_kill_at_random_moments(tmp_path, tiny_weights, cache_folder, capsys):
    data = tmp_path / "data"
    tinted_folders(data, ["a", "b", "c"], 400)
    reference = tmp_path / "reference"
    environment = {**os.environ, "FROSTLINE_HOME": str(tmp_path / "quiet home")}
    started = time.monotonic()
    subprocess.run(command(data, tiny_weights, reference), check=True, env=environment, capture_output=True)
    whole = time.monotonic() - started

    out, moments = tmp_path / "run", random.Random(0)
    for _ in range(KILLS):
        process = subprocess.Popen(command(data, tiny_weights, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(whole * moments.uniform(0.2, 1.0))
        process.send_signal(signal.SIGKILL)
        process.wait()
        check_everything(cache_folder, out)
    assert "left out" not in capsys.readouterr().err

    finished = subprocess.run(command(data, tiny_weights, out), check=True, capture_output=True, text=True)
    assert "left out" not in finished.stderr
    check_everything(cache_folder, out)
    wanted, found = Run.open(reference), Run.open(out)
    assert found.scores("test") == wanted.scores("test")
    assert found.record["model_digest"] == wanted.record["model_digest"]
    np.testing.assert_array_equal(found.predictions("test").probabilities, wanted.predictions("test").probabilities)
