"""Write an example report: three small classifiers of scikit-learn's 1,797 handwritten digits, trained here and now. No network.

Usage: python scripts/example_report.py FOLDER [RUNS]

The third one shows a frost line. No pretrained weights are at hand offline, so its network begins with drawn ones, and says so.
"""

import json
import sys
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save_file

from frostline.auditing import audit
from frostline.config import Settings
from frostline.data.sources import load_source
from frostline.drawn import drawn_images
from frostline.experiment import train
from frostline.explaining.galleries import make_galleries
from frostline.recipes import recipe
from frostline.reporting.write import report


def drawn_weights(folder: Path) -> Path:
    """A tiny ResNet in timm's hub layout: random weights, and BatchNorm statistics that fit them."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(1)
    network = timm.create_model("test_resnet", num_classes=0)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the plain mean of what it sees
    with torch.no_grad():
        network(torch.from_numpy(drawn_images(64, 48, 48)).permute(0, 3, 1, 2).float() / 127.5 - 1)
    save_file(network.state_dict(), folder / "model.safetensors")
    given = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "crop_pct": 1.0, "tag": "random"}
    config = {"architecture": "test_resnet", "license": "apache-2.0", "pretrained_cfg": given}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    return folder


def settings(weights: Path) -> dict[str, Settings]:
    """The three runs by name."""
    digits = recipe("cnn-digits")
    frost: dict[str, Any] = {"backbone": "timm:test_resnet", "weights": str(weights), "image_size": 48, "train_from": "layer2"}
    frost |= {"epochs": 15, "batch_size": 64, "optimizer": "adamw", "lr": 1e-3, "schedule": "one-cycle"}
    return {
        "digits-vgg": digits.with_values(network="cnn-vgg"),
        "digits-small": digits.with_values(network="cnn-small"),
        "digits-resnet": Settings(recipe="resnet-finetune", **frost),
    }


def main() -> None:
    """Train, inspect, pick, report."""
    out, runs = Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else "runs/example")
    for name, chosen in settings(drawn_weights(runs / "weights")).items():
        train("digits", chosen, runs / name, overwrite=True)
    source = load_source("digits", training=False)
    audit.keep(audit.inspect(source), source, runs / "inspection")
    folders = [runs / name for name in ("digits-vgg", "digits-small", "digits-resnet")]
    galleries = [runs / "galleries" / folder.name for folder in folders]
    for folder, gallery in zip(folders, galleries, strict=True):
        make_galleries(folder, "digits", "test", 12, gallery)
    for path in report(folders, out, runs / "inspection", galleries=galleries):
        print(path)


if __name__ == "__main__":
    main()
