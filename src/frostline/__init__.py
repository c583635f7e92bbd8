"""Trains, judges and ships image classifiers on the hardware you have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from frostline.experiment import load_data, train
    from frostline.judge import evaluate
    from frostline.serve.predictor import load_model

__version__ = "0.1.0"
__all__ = ["__version__", "evaluate", "load_data", "load_model", "train"]

_HOMES = {
    "evaluate": "frostline.judge",
    "load_data": "frostline.experiment",
    "load_model": "frostline.serve.predictor",
    "train": "frostline.experiment",
}


def __getattr__(name: str) -> Any:
    """The public calls are imported when first used, so that ``import frostline`` costs nothing."""
    from importlib import import_module

    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'frostline' has no attribute '{name}'")
