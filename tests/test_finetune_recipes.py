"""The fine-tuning recipes whose reference weights are not at hand: each trains end to end from random weights, with either head."""

import json
from pathlib import Path

import pytest
import torch
from drawing import tinted_folders
from safetensors.torch import load_file, save_file
from torch import nn

from frostline.convert import FromUint8
from frostline.drawn import drawn_images
from frostline.experiment import train
from frostline.model_card import read_card
from frostline.models.backbones import build, find
from frostline.preprocess import Preprocess
from frostline.recipes import RECIPES, recipe
from frostline.runs import Run

SIDE = 64
FINE_TUNED = [name for name in RECIPES if recipe(name).train_from != "head"]


def random_weights(backbone: str, folder: Path) -> Path:
    """A folder in the hub's layout whose BatchNorm statistics fit its random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build(backbone, (SIDE, SIDE))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    made = Preprocess(size=(SIDE, SIDE), stored=(32, 32), mean=(0.5,) * 3, std=(0.5,) * 3)
    with torch.no_grad():
        FromUint8(network, made).train()(torch.from_numpy(drawn_images(16, 32, 32)))
    folder.mkdir()
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, folder / "model.safetensors")
    given = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "crop_pct": 1.0, "tag": "random"}
    architecture = find(backbone).timm.split(".")[0]
    (folder / "config.json").write_text(json.dumps({"architecture": architecture, "license": "cc0-1.0", "pretrained_cfg": given}))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", FINE_TUNED)
def test_a_recipe_trains_end_to_end_from_random_weights(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frostline.experiment._draw", lambda *_: None)
    settings = recipe(name)
    weights = random_weights(settings.backbone, tmp_path / "weights")
    data = tinted_folders(tmp_path / "data", ["a", "b", "c"], 16)
    head = "dense-b" if name == "efficientnetb2-finetune" else "logistic"  # the source's own
    run = train(data, settings, tmp_path / "run", weights=str(weights), image_size=SIDE, epochs=2, device="cpu", head=head)
    Run.open(run.folder).verify()
    before, after = (load_file(folder / "weights.safetensors") for folder in (run.stage_folder("head"), run.model_folder))
    moved = {name for name in before if name.startswith("backbone.") and not torch.equal(before[name], after[name])}
    assert moved
    assert len(moved) < sum(name.startswith("backbone.") for name in before)
    card = read_card(run.model_folder).values
    assert card["architecture"]["backbone"] == settings.backbone
    assert 0 < card["architecture"]["trainable_parameters"] < card["architecture"]["parameters"]
    assert {"test", "test-head", "validation", "validation-head"} == set(run.splits)
