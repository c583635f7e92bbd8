"""The self-test is replayed once per machine, model and way of computing; whatever is uncertain is replayed."""

import json

import numpy as np
import pytest
from toymodel import write_toy

from frostline import selftest
from frostline.errors import UserError
from frostline.files import home
from frostline.serve.predictor import Predictor


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_toy(tmp_path_factory.mktemp("toy") / "model")


@pytest.fixture
def replays(monkeypatch):
    """The model directories that were replayed."""
    found, original = [], selftest.replay_selftest

    def replay(folder, *rest):
        found.append(folder)
        return original(folder, *rest)

    monkeypatch.setattr(selftest, "replay_selftest", replay)
    return found


def test_once_per_machine(folder, replays):
    Predictor(folder)
    Predictor(folder)
    assert replays == [folder]
    (record,) = (home() / "selftests").iterdir()
    kept = json.loads(record.read_text())
    assert kept["worst"] <= 1e-4
    assert kept["key"]["model"] == Predictor(folder).card.digest
    assert {"engine", "precision", "batch", "processor", "frostline"} <= set(kept["key"])


def test_another_model_batch_engine_or_processor_is_another_test(folder, replays, tmp_path, monkeypatch):
    Predictor(folder)
    Predictor(folder, batch=3)
    Predictor(write_toy(tmp_path / "model", side=9))
    monkeypatch.setattr("frostline.engine.version", lambda: "another")
    Predictor(folder)
    monkeypatch.setattr(selftest, "cpu_model", lambda: "another")
    Predictor(folder)
    assert len(replays) == 5


def test_where_nothing_can_be_kept_it_is_replayed_each_time(folder, replays, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("FROSTLINE_HOME", str(tmp_path / "file"))
    Predictor(folder)
    Predictor(folder)
    assert len(replays) == 2


@pytest.mark.parametrize("spoiled", ["", "{", "[]", '{"key": {}}', "null"])
def test_a_spoiled_record_is_none(folder, replays, spoiled):
    Predictor(folder)
    (record,) = (home() / "selftests").iterdir()
    record.write_text(spoiled)
    Predictor(folder)
    assert len(replays) == 2


@pytest.mark.parametrize(
    ("wanted", "found", "other"),
    [
        ([0.50, 0.30, 0.20], [0.49, 0.31, 0.20], False),
        ([0.42, 0.38, 0.20], [0.39, 0.41, 0.20], True),
        ([0.405, 0.395, 0.20], [0.395, 0.405, 0.20], False),  # undecided where it was saved
        ([1.0], [1.0], False),
    ],
)
def test_in_bf16_the_winner_stays(wanted, found, other):
    assert selftest._other_winner(np.array([found], np.float32), np.array([wanted], np.float32), 0.02) == other


class Says:
    def __init__(self, shift):
        self.shift = shift

    def probabilities(self, images):
        first = np.full(len(images), 0.7 + self.shift, np.float32)
        return np.stack([first, 1 - first], 1)


def test_what_is_run_in_f32_is_compared_with_f32(tmp_path):
    """Drawn images are unlike the model's own: bf16 and f32 may say 0.1 of difference, and each must say the same again."""
    selftest.write_selftest(tmp_path, Says(0.1), (8, 8), exact=Says(0.0))
    assert selftest.keeps_exact(tmp_path)
    assert selftest.replay_selftest(tmp_path, Says(0.11), "bf16", "bf16") == pytest.approx(0.01, abs=1e-6)
    assert selftest.replay_selftest(tmp_path, Says(0.00005), "bf16", "f32") == pytest.approx(0.00005, abs=1e-6)
    for running, shift in (("bf16", 0.0), ("f32", 0.1), ("f32", 0.01)):
        with pytest.raises(UserError, match="does not pass its self-test"):
            selftest.replay_selftest(tmp_path, Says(shift), "bf16", running)


def test_a_self_test_without_f32_is_compared_as_before(tmp_path):
    selftest.write_selftest(tmp_path, Says(0.1), (8, 8))
    assert not selftest.keeps_exact(tmp_path)
    assert selftest.replay_selftest(tmp_path, Says(0.11), "bf16", "f32") == pytest.approx(0.01, abs=1e-6)
