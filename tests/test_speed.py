from __future__ import annotations

from pathlib import Path

import pytest
from drawing import tinted_folders

from frostline import speed
from frostline.config import Settings
from frostline.experiment import train
from frostline.runs import Run


def test_the_first_answer_warms_up_unless_it_is_the_only_one(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, *(tick for start in (0.0, 0.3, 0.4, 0.5) for tick in (start, start + 0.1, start + 0.1))])
    monkeypatch.setattr(speed.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(speed, "SECONDS", 0.6)
    assert speed._timed(lambda: None, 500) == pytest.approx([0.1, 0.1, 0.1])
    slow = iter([0.0, 0.0, 2.0, 2.0])
    monkeypatch.setattr(speed.time, "perf_counter", lambda: next(slow))
    assert speed._timed(lambda: None, 500) == [2.0]


@pytest.mark.slow
def test_a_run_records_how_fast_its_model_answers_outside_the_model(tmp_path: Path, without_pictures: None) -> None:
    tinted_folders(tmp_path / "data" / "train", ["a", "b"], 20)
    tinted_folders(tmp_path / "data" / "test", ["a", "b"], 5, start=500)
    settings = Settings(recipe="s", kind="scratch", network="cnn-small", epochs=1, batch_size=20, device="cpu", precision="f32")
    runs = [train(tmp_path / "data", settings, tmp_path / name) for name in ("one", "two")]
    record = Run.open(tmp_path / "one").record["speed"]
    assert set(record) == {"latency_ms", "latency_n", "images_per_second", "batch", "threads", "precision", "size"}
    assert (record["precision"], record["size"], record["batch"]) == ("f32", [24, 24], 16)
    assert record["latency_ms"] > 0
    assert record["images_per_second"] > 0
    assert runs[0].record["model_digest"] == runs[1].record["model_digest"]
    blocks = runs[0].record["blocks"]
    assert sum(block["parameters"] for block in blocks) == runs[0].record["parameters"]
    assert sum(block["trained"] for block in blocks) == runs[0].record["trainable_parameters"]
