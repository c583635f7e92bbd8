"""What a training needs to go on is kept whole, and goes on as if nothing had happened."""

import math
import time

import numpy as np
import pytest
import torch
from torch import nn

from frostline.checkpoints import Checkpoints, State, noted
from frostline.config import Settings
from frostline.data.batches import FeatureBatches
from frostline.errors import UserError
from frostline.loop import fit
from frostline.models.layers import Dropout, seeded
from frostline.stopping import StopRule


def state(number):
    return State({"a": torch.full((2, 3), float(number))}, {"number": number, "third": 1 / 3})


def test_the_newest_comes_back_exactly(tmp_path):
    kept = Checkpoints(tmp_path / "checkpoints", "one")
    assert kept.load() is None
    for number in (1, 2, 3):
        kept.save(number, state(number))
    assert len(list(kept.folder.iterdir())) == 2
    found = kept.load()
    assert torch.equal(found.tensors["a"], state(3).tensors["a"])
    assert found.values == {"number": 3, "third": 1 / 3}


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_one_is_passed_over_and_said(tmp_path, capsys, damage):
    kept = Checkpoints(tmp_path, "one")
    kept.save(1, state(1))
    kept.save(2, state(2))
    newest = max(tmp_path.iterdir())
    data = bytearray(newest.read_bytes())
    data[-1] ^= 1
    newest.write_bytes({"cut": data[:-5], "flipped": data, "empty": b""}[damage])
    assert kept.load().values["number"] == 1
    said = capsys.readouterr().err
    assert "is damaged" in said
    assert "begins anew" not in said
    for path in tmp_path.iterdir():
        path.write_bytes(b"")
    assert kept.load() is None
    assert "begins anew" in capsys.readouterr().err


def test_another_training_s_are_refused(tmp_path):
    Checkpoints(tmp_path, "one").save(1, state(1))
    with pytest.raises(UserError, match="another training"):
        Checkpoints(tmp_path, "two").load()


def test_what_the_newest_notes_is_read_before_its_identity_is_known(tmp_path):
    assert noted(tmp_path) == {}
    for number in (1, 2):
        Checkpoints(tmp_path, "one", {"views": number}).save(number, state(number))
    assert noted(tmp_path) == {"views": 2}
    max(tmp_path.iterdir()).write_bytes(b"damaged")
    assert noted(tmp_path) == {"views": 1}


def test_offered_ones_are_kept_where_they_take_their_share_of_the_time_at_most(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("frostline.checkpoints.time.monotonic", lambda: now[0])
    made, small = Checkpoints(tmp_path, "one", share=0.1), state(1)
    monkeypatch.setattr("frostline.checkpoints.EXPECTED_RATE", sum(tensor.nbytes for tensor in small.tensors.values()))  # a second

    def slow_save(self, epoch, state):
        saved.append(epoch)
        now[0] += 3

    saved = []
    monkeypatch.setattr(Checkpoints, "save", slow_save)
    for epoch, later in enumerate((9.9, 0.2, 29.8, 0.4, 30.5), start=1):
        now[0] += later
        made.offer(epoch, small)
    assert saved == [2, 4, 5]  # after ten seconds as expected, then after thirty as found


def always(folder):
    return Checkpoints(folder, "x", share=math.inf)


def network():
    with seeded(3):
        return nn.Sequential(nn.Linear(5, 16), nn.ReLU(), Dropout(0.3), nn.Linear(16, 3))


def trained(settings, checkpoints=None, ends_after=None, spent=0.0):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(70, 1, 5)).astype(np.float32), rng.integers(0, 3, 70)
    batches = FeatureBatches(x, y, 16, seed=settings.seed, shuffle=True)
    judging = FeatureBatches(x[:30], y[:30], 16)
    stop, rows = StopRule(started=time.monotonic() - spent), []

    def on_epoch(row):
        rows.append(row)
        stop.interrupted = len(rows) == ends_after

    made = network()
    fitted = fit(made, batches, judging, settings=settings, stop=stop, on_epoch=on_epoch, checkpoints=checkpoints)
    return made.state_dict(), fitted, rows


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("ends_after", [1, 3, 5])
def test_an_interrupted_training_goes_on_to_the_same_bits(tmp_path, optimizer, ends_after):
    settings = Settings(optimizer=optimizer, lr=0.01, schedule="one-cycle", epochs=6, device="cpu", precision="f32")
    whole, wanted, rows = trained(settings)
    _, ended, _ = trained(settings, always(tmp_path), ends_after, spent=100.0)
    assert len(ended.history) == ends_after
    assert "Ctrl-C" in ended.reason
    again, fitted, said = trained(settings, always(tmp_path))
    assert [row["epoch"] for row in said] == [1, 2, 3, 4, 5, 6]
    assert all(100 <= row["elapsed"] < 200 for row in said)  # what was spent before counts
    for name, value in whole.items():
        assert torch.equal(again[name], value), name
    timed = ("seconds", "elapsed", "images_per_second")
    for found, row in zip(fitted.history, wanted.history, strict=True):
        assert {key: found[key] for key in row if key not in timed} == {key: row[key] for key in row if key not in timed}
    assert rows[-1]["epoch"] == 6


def test_what_a_killed_process_was_writing_goes(tmp_path):
    kept = Checkpoints(tmp_path, "one")
    kept.save(1, state(1))
    (tmp_path / ".epoch-000002-0123.x1.tmp").write_bytes(b"half")
    assert kept.load().values["number"] == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_a_training_that_goes_on_by_other_means_says_so(tmp_path, capsys, monkeypatch):
    settings = Settings(epochs=3, device="cpu", precision="f32")
    trained(settings, always(tmp_path), 1)
    trained(settings, always(tmp_path), 2)
    assert "Training began with" not in capsys.readouterr().err
    monkeypatch.setattr(torch, "__version__", "9.9.9")
    trained(settings, always(tmp_path))
    assert "now 9.9.9: it does not become what it would have been" in " ".join(capsys.readouterr().err.split())


def test_a_finished_training_has_nothing_left_to_do(tmp_path):
    settings = Settings(epochs=2, device="cpu", precision="f32")
    first, _, _ = trained(settings, always(tmp_path))
    second, fitted, _ = trained(settings, always(tmp_path))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert fitted.reason == "all 2 epochs were run"


def test_new_ones_are_kept_where_all_the_old_were_damaged(tmp_path):
    kept = Checkpoints(tmp_path, "one")
    for number in (8, 9):
        kept.save(number, state(number))
    for path in tmp_path.iterdir():
        path.write_bytes(b"damaged")
    assert kept.load() is None
    for number in (1, 2, 3):
        kept.save(number, state(number))
        assert kept.load().values["number"] == number


def test_damaged_words_before_the_numbers_are_passed_over_too(tmp_path):
    kept = Checkpoints(tmp_path, "one", {"views": 7})
    for number in (1, 2):
        kept.save(number, state(number))
    newest = max(tmp_path.iterdir())
    whole = newest.read_bytes()
    newest.write_bytes(whole.replace(b'\\"views\\": 7}', b'\\"views\\": 7|', 1))
    assert newest.read_bytes() != whole
    assert noted(tmp_path) == {"views": 7}
    newest.write_bytes(whole.replace(b'"identity":"one"', b'"identity":"two"', 1))
    assert newest.read_bytes() != whole
    kept.check()
    assert kept.load().values["number"] == 1
