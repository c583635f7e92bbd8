"""What the page says of a model: what its card and its run say, and no more."""

import json
from dataclasses import replace
from types import SimpleNamespace

from reported import CLASSES, finished_run
from toymodel import write_toy

from frostline.serve.page_model import about, judged
from frostline.serve.predictor import Predictor
from frostline.serve.settings import ServeSettings

SETTINGS = ServeSettings()


def test_the_model_inside_says_what_it_is_for_and_how_good_it_is():
    html = about(Predictor("inside"), SETTINGS)
    for part in ("What it is not for", "94.8 % (94.1 to 95.3 %)", "5,000", "Below a probability of 95.4 %", "<li>truck</li>"):
        assert part in html
    assert "no confusion matrix" not in html


def test_a_model_without_scores_says_that(tmp_path):
    predictor = Predictor(write_toy(tmp_path / "model"))
    assert judged(predictor) == {}
    html = about(predictor, SETTINGS)
    assert "Nothing is recorded here about images that it had never met." in html
    assert "Never: no threshold is known for it." in html
    assert str(tmp_path) not in html


def test_a_threshold_that_the_service_sets_is_said_as_such(tmp_path):
    html = about(Predictor(write_toy(tmp_path / "model")), ServeSettings(sure_from=0.8))
    assert "80.0 %, which whoever runs this service has set" in html


def test_a_run_around_the_model_gives_scores_and_a_confusion_matrix(tmp_path):
    folder = tmp_path / "run"
    finished_run(folder)
    card = replace(Predictor(write_toy(tmp_path / "elsewhere")).card, classes=CLASSES)
    served = SimpleNamespace(card=card, folder=folder / "model", precision="f32")
    scores = json.loads((folder / "scores" / "test.json").read_text())
    assert judged(served)["test"] == scores
    html = about(served, SETTINGS)
    assert f"{100 * scores['accuracy']:.1f} %" in html
    assert "Confusion matrix of test: rows are true classes" in html
    assert "Confusion matrix of test, in percent of each true class" in html
    assert "&lt;b&gt;wolf&lt;/b&gt;" in html
    assert "<b>wolf" not in html


def test_a_run_that_was_changed_proves_nothing(tmp_path):
    folder = tmp_path / "run"
    finished_run(folder)
    (folder / "scores" / "test.json").write_text("{}")
    card = Predictor(write_toy(tmp_path / "elsewhere")).card
    assert judged(SimpleNamespace(card=card, folder=folder / "model", precision="f32")) == {}
