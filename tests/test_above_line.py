"""What is above the frost line compiled by itself: as torch has it, or not at all. Its use: tests/test_train_finetune.py."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from frostline import above_line
from frostline.above_line import compiled
from frostline.convert import convert_upper

SHAPE = (6, 5, 4)


class Upper(nn.Module):
    """Works in place first, as many do."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Hardswish(inplace=True), nn.Conv2d(6, 8, 3)

    def forward(self, activations):
        found = self.last(self.first(activations))
        return found.mean((2, 3)), found


@pytest.fixture
def below():
    torch.manual_seed(0)
    return SimpleNamespace(line=SimpleNamespace(upper=Upper(), shape=SHAPE), precision="f32", frozen=SimpleNamespace(notes=[]))


@pytest.fixture
def probe():
    return torch.randn(5, 120, generator=torch.Generator().manual_seed(0))


def said_and_noted(below, capsys, words):
    [note] = below.frozen.notes
    assert words in note
    assert note in " ".join(capsys.readouterr().err.split())


def test_it_gives_what_torch_gives_and_leaves_its_input_alone(below, probe, capsys):
    before = probe.clone()
    engine = compiled(below, probe)
    assert torch.equal(probe, before)
    with torch.no_grad():
        wanted = below.line.upper(probe.unflatten(1, SHAPE))[0]
    np.testing.assert_allclose(engine.features(before.numpy()), wanted.numpy(), atol=1e-5)
    assert (below.frozen.notes, capsys.readouterr().err) == ([], "")


def test_it_is_computed_in_f32_where_bf16_moves_its_features_and_that_is_said(below, probe, monkeypatch, capsys):
    below.precision = "bf16"
    assert compiled(below, probe).precision == "bf16"
    assert (below.frozen.notes, capsys.readouterr().err) == ([], "")
    monkeypatch.setattr(above_line, "BF16_TOLERANCE", -1)
    assert compiled(below, probe).precision == "f32"
    said_and_noted(below, capsys, "is computed in f32, which is slower: bf16 moves its features by")


def test_one_that_cannot_be_compiled_is_left_to_torch_and_that_is_said(below, probe, monkeypatch, capsys):
    def fails(*_):
        raise RuntimeError("No conversion rule for aten::strange\nmore lines")

    monkeypatch.setattr(above_line, "convert_upper", fails)
    assert compiled(below, probe) is None
    said_and_noted(below, capsys, "is computed in torch, which is slower: No conversion rule for aten::strange.")


def test_one_that_computes_something_else_is_left_to_torch(below, probe, monkeypatch, capsys):
    monkeypatch.setattr(above_line, "convert_upper", lambda _, shape: convert_upper(Upper(), shape))
    assert compiled(below, probe) is None
    said_and_noted(below, capsys, "is computed in torch, which is slower: compiled, its features differ from torch's by")
