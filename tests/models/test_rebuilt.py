"""A network that no compiler takes is run by torch, in training and afterwards, and every step says so."""

import builtins

import numpy as np
import pytest
from drawing import tinted_folders

from frostline import convert
from frostline.errors import UserError
from frostline.experiment import load_data, train
from frostline.serve.predictor import Predictor


@pytest.fixture
def uncompilable(monkeypatch):
    def refuse(*_args, **_options):
        raise RuntimeError("no conversion rule for aten::imagined")

    monkeypatch.setattr(convert.ov, "convert_model", refuse)


@pytest.mark.parametrize("head", ["logistic", "dense-d"])
def test_without_a_compiled_graph(uncompilable, tiny, tmp_path, capsys, monkeypatch, head):
    data = tinted_folders(tmp_path / "data", ["a", "b", "c"], 40)
    settings = tiny.with_values(views=2, head=head)
    run = train(data, settings, tmp_path / "run")
    said = capsys.readouterr().err
    assert "could not be compiled" in said
    assert "will need torch to predict" in said
    assert not (run.model_folder / "graph.xml").exists()

    predictor = Predictor(tmp_path / "run")
    assert "torch runs it" in capsys.readouterr().err
    images = load_data(data, settings).test
    found = predictor.judge(images)
    np.testing.assert_allclose(found.probabilities, run.predictions("test").probabilities, atol=2e-3)

    original = builtins.__import__
    blocked = lambda name, *rest: original("no_such_module" if "rebuilt" in name else name, *rest)  # noqa: E731
    monkeypatch.setattr(builtins, "__import__", blocked)
    with pytest.raises(UserError, match="needs torch to predict"):
        Predictor(tmp_path / "run")
