"""Real CIFAR-10 and real ImageNet weights, where they lie beside the checkout: the recipes reach what the README says."""

from pathlib import Path

import pytest

from frostline.experiment import train
from frostline.judge import evaluate
from frostline.runs import Run

SHARED = Path(__file__).resolve().parents[2] / "shared"
DATA, WEIGHTS = SHARED / "data" / "cifar-10-batches-bin", SHARED / "weights"
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not DATA.is_dir() or not WEIGHTS.is_dir(), reason=f"no reference data and weights in {SHARED}"),
]


def recipe(name: str, weights: str, out: Path, **values) -> Run:
    return train(f"cifar10:{DATA}", name, out, weights=str(WEIGHTS / weights), device="cpu", **values)


def test_mobilenetv2_frozen_twice(tmp_path):
    cold = recipe("mobilenetv2-frozen", "mobilenetv2_100.imagenet", tmp_path / "cold")
    assert cold.scores("test")["accuracy"] >= 0.865  # source A: 0.8469
    assert cold.scores("test")["n"] == 5000
    warm = recipe("mobilenetv2-frozen", "mobilenetv2_100.imagenet", tmp_path / "warm")
    assert warm.scores("test") == cold.scores("test")
    assert warm.record["model_digest"] == cold.record["model_digest"]


def test_densenet169_frozen_stops_at_the_sources_best(tmp_path):
    run = recipe("densenet169-frozen", "densenet169.imagenet", tmp_path / "run", stop_at=0.9024)
    record = Run.open(tmp_path / "run").record
    assert "reached --stop-at" in record["ended"]
    assert run.scores("test")["accuracy"] >= 0.89
    predictions, scores = evaluate(tmp_path / "run", f"cifar10:{DATA}")
    assert len(predictions) == scores["n"] == 5000
    assert scores["seen_in_training"] == 0
    # the compiled model on raw images says what the cached features said, but for float16 storage
    assert abs(scores["accuracy"] - run.scores("test")["accuracy"]) <= 0.002
