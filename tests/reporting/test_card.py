from __future__ import annotations

from pathlib import Path

import pytest
from reported import finished_run

from frostline.reporting.card import model_card, stated_license
from frostline.reporting.document import Table
from frostline.reporting.ending import _curves
from frostline.reporting.facts import gather
from frostline.reporting.making import training
from frostline.runs import Run

yaml = pytest.importorskip("yaml")


def test_the_front_matter_is_what_the_hub_reads(tmp_path: Path) -> None:
    run = Run.open(finished_run(tmp_path / "animals: one"))
    text = model_card(gather([run]))
    _, front, body = text.split("---\n", 2)
    values, scores = yaml.safe_load(front), run.scores("test")
    assert values["license"] == "cc0-1.0"
    assert (values["library_name"], values["pipeline_tag"]) == ("frostline", "image-classification")
    assert values["tags"] == ["image-classification", "frostline", "openvino", "drawn"]
    ((result,),) = [entry["results"] for entry in values["model-index"]]
    assert values["model-index"][0]["name"] == "animals: one"
    assert result["task"]["type"] == "image-classification"
    assert result["dataset"] == {"name": "animals", "type": "animals", "split": "test"}
    accuracy, *others = result["metrics"]
    assert (accuracy["type"], accuracy["value"]) == ("accuracy", scores["accuracy"])
    assert accuracy["args"] == {"n": 120, "interval_95": scores["interval"], "interval_method": "Wilson 1927"}
    found = {row["type"]: row["value"] for row in others}
    assert (found["f1"], found["log_loss"]) == (scores["macro"]["f1"], scores["log_loss"])
    assert set(values["metrics"]) == {"accuracy", *found}
    assert body.splitlines()[1] == "# animals: one"
    assert f"{100 * scores['accuracy']:.2f} %" in body


def test_a_licence_that_nobody_states_is_unknown_and_one_may_be_given(tmp_path: Path) -> None:
    facts = gather([Run.open(finished_run(tmp_path / "run"))])
    assert stated_license(facts.best) == "cc0-1.0"
    facts.best.card["architecture"]["weights"] = "trained here from random weights"
    assert 'license: "unknown"' in model_card(facts)
    assert 'license: "mit"' in model_card(facts, "mit")


def test_a_teacher_is_named(tmp_path: Path) -> None:
    facts = gather([Run.open(finished_run(tmp_path / "run"))])
    teacher = {"name": "large", "digest": "0123456789abcdef", "temperature": 2.0, "agrees_with_labels": 0.985}
    facts.best.card["training"]["teacher"] = teacher
    assert "- taught by: large (0123456789abcdef), whose answers took the place of labels" in model_card(facts)
    rows = {row[0]: row[1] for block in training(facts).blocks if isinstance(block, Table) for row in block.rows}
    assert (rows["taught by"], rows["temperature of its answers"]) == ("large (01234567)", "2")
    assert rows["it agrees with the labels"] == "98.50 %"
    assert rows["loss"] == "divergence from a teacher's answers"
    assert "label smoothing" not in rows
    assert any("said what its teacher says of" in said for said in _curves(facts))
