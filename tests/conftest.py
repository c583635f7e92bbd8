"""Every test has a cache folder of its own; some share a tiny pretrained network."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session", autouse=True)
def event_loops_that_are_closed() -> Iterator[None]:
    """Every event loop that is made, by libraries too, is closed in the end: whatever test one was collected in would fail."""
    made, real = [], asyncio.new_event_loop

    def kept() -> asyncio.AbstractEventLoop:
        made.append(real())
        return made[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio, "new_event_loop", kept)
        patch.setattr(asyncio.events, "new_event_loop", kept)
        asyncio.set_event_loop(kept())
        yield
    for loop in made:
        if not loop.is_running():
            loop.close()


@pytest.fixture(autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("FROSTLINE_HOME", str(folder))
    return folder


@pytest.fixture(autouse=True)
def quick_readings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run's reading of its model's speed is of no use here, so it takes no time."""
    monkeypatch.setattr("frostline.speed.SECONDS", 0.0)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of a module's own, for runs that its tests share: trained with a cache in it, without pictures and readings."""
    folder = tmp_path_factory.mktemp("place")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("frostline.experiment._draw", lambda *_: None)
        patch.setattr("frostline.speed.SECONDS", 0.0)
        patch.setenv("FROSTLINE_HOME", str(folder / "home"))
        yield folder


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in timm's hub layout: a network of 0.4 million weights, random but with BatchNorm statistics that fit them."""
    import timm
    import torch
    from safetensors.torch import save_file

    from frostline.drawn import drawn_images

    folder = tmp_path_factory.mktemp("weights")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = timm.create_model("test_resnet", num_classes=0)
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = None  # the plain mean of what it sees
        images = torch.from_numpy(drawn_images(16, 64, 64)).permute(0, 3, 1, 2).float() / 255
        with torch.no_grad():
            network((images - 0.5) / 0.5)
    save_file(network.state_dict(), folder / "model.safetensors")
    given = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3], "interpolation": "bicubic", "crop_pct": 0.9, "tag": "drawn"}
    config = {"architecture": "test_resnet", "license": "cc0-1.0", "pretrained_cfg": given}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every figure that is written, still to be looked into."""
    from matplotlib.figure import Figure

    written: list[Any] = []
    original = Figure.savefig

    def savefig(self: Any, *args: Any, **options: Any) -> None:
        written.append(self)
        original(self, *args, **options)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return written


@pytest.fixture(scope="session")
def tiny(tiny_weights: Path) -> Any:
    """Settings of the frozen path with a network that takes milliseconds."""
    from frostline.config import Settings

    values: dict[str, Any] = {"image_size": 48, "device": "cpu", "precision": "f32", "l2": (1e-3, 1e-1)}
    return Settings(recipe="tiny", backbone="timm:test_resnet", weights=str(tiny_weights), **values)


@pytest.fixture
def without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frostline.experiment._draw", lambda *_: None)
