"""The verdict follows the figures, also where there is nothing good to say."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from reported import finished_run, kept_run

from frostline.errors import UserError
from frostline.predictions import Predictions
from frostline.reporting.facts import Facts, all_wrong, gather, uncalibrated
from frostline.reporting.verdict import confuses, fix, justification, mixed_up, pairs_in_words, ship
from frostline.runs import Run


def facts(folder: Path, **skills: float) -> Facts:
    runs = [finished_run(folder / name, skill, seed=i) for i, (name, skill) in enumerate(skills.items())]
    return gather([Run.open(run) for run in runs])


def test_what_is_no_better_than_the_most_frequent_class_is_not_shipped(tmp_path: Path) -> None:
    assert ship(facts(tmp_path, blind=-0.5)).startswith("None of these yet: the best, blind, is right on ")
    assert "always answering the most frequent class would give 25.00 %" in ship(facts(tmp_path / "again", blind=-0.5))


def test_one_run_is_not_called_the_best(tmp_path: Path) -> None:
    found = facts(tmp_path, only=3.0)
    assert ship(found).endswith("no other model was given to compare it with.")
    assert justification(found) == ["only is the only run given, so nothing was chosen here."]


def test_validation_chooses_and_test_may_disagree_aloud(tmp_path: Path) -> None:
    found = facts(tmp_path, weak=0.8, strong=3.5)
    assert found.best.name == "strong"
    assert "the best of 2 on validation, better than weak on the same images" in ship(found)
    wrong = Facts(found.runs, found.split, found.pairs, found.stated, {}, {}, chosen=0)
    assert "but strong is better on test, so look at both" in ship(wrong)
    assert any(sentence.startswith("Against the choice: ") for sentence in justification(wrong))


def test_a_choice_made_on_test_is_said_in_the_first_sentence(tmp_path: Path) -> None:
    whole = finished_run(tmp_path / "whole", 1.0)
    bare = kept_run(tmp_path / "bare", finished_run(tmp_path / "strong", 3.5), "test")
    found = gather([Run.open(whole), Run.open(bare)])
    assert (found.best.name, found.chosen_on) == ("bare", "test")
    assert "of 120 test images, on which it was also chosen, for bare has no validation predictions, and it was better" in ship(
        found
    )
    assert "no part in" not in ship(found)
    assert justification(found)[0].startswith("bare is the best on test; a run without validation predictions")
    weak = kept_run(tmp_path / "weak", finished_run(tmp_path / "blind", 0.5), "test")
    both = gather([Run.open(bare), Run.open(weak)])
    assert "for bare and weak have no validation predictions" in ship(both)


def test_what_no_record_tells_is_not_said(tmp_path: Path) -> None:
    whole = finished_run(tmp_path / "whole", 3.0)
    assert "test images that had no part in its training or in choosing it; no other model" in ship(gather([Run.open(whole)]))
    for name, splits in (("test-alone", ("test",)), ("no-settings", ("test", "validation"))):
        found = gather([Run.open(kept_run(tmp_path / name, whole, *splits))])
        assert "120 test images, and no record tells whether anything else has read them; no other model" in ship(found)


def test_a_run_given_twice_is_refused(tmp_path: Path) -> None:
    folder = finished_run(tmp_path / "one", 3.0)
    with pytest.raises(UserError, match="The run one is named twice"):
        gather([Run.open(folder), Run.open(tmp_path / "one" / ".." / "one")])


def test_nothing_is_weakest_where_no_image_is_of_a_known_class(tmp_path: Path) -> None:
    lost = kept_run(tmp_path / "lost", finished_run(tmp_path / "whole", 3.0), "test", "validation", unknown=True)
    found = gather([Run.open(lost)])
    assert confuses(found) == (
        "only images of classes that it does not know; it made 120 mistakes on 120 images, and none of these is of a class that "
        "lost knows."
    )
    assert ship(found).startswith("None of these yet: the best, lost, is right on 0.00 % ")


def test_equals_are_said_to_be_inseparable_and_the_choice_is_of_the_first_named(tmp_path: Path) -> None:
    runs = [finished_run(tmp_path / name, 3.0) for name in ("one", "two")]
    found = gather([Run.open(run) for run in runs])
    assert found.best.name == "one"
    assert "among the best of 2 on validation, and the surest of these, not to be told apart from two" in ship(found)


def test_what_is_confused_counts_both_ways(tmp_path: Path) -> None:
    scores = {"confusion": [[5, 2, 0], [3, 5, 0], [0, 1, 5]]}
    pairs = mixed_up(scores, ["cat", "dog", "eel"])
    assert pairs == [("cat", "dog", 5), ("dog", "eel", 1)]
    assert pairs_in_words(pairs) == "cat with dog (5 times) and dog with eel (once)"
    assert "it made no mistake on them, which allows for up to 3.10 %" in confuses(facts(tmp_path, perfect=30.0))


def test_what_every_run_gets_wrong_is_to_be_looked_at(tmp_path: Path) -> None:
    found = facts(tmp_path, one=1.0, two=1.2)
    missed = all_wrong(found.runs, "test")
    both = [run.predictions["test"] for run in found.runs]
    assert len(missed) == int((~both[0].correct & ~both[1].correct).sum()) > 0
    assert missed[0][3] == 2
    assert (
        f"check the labels of {len(missed)} images that every run gets wrong, such as {missed[0][0]}".lower() in fix(found).lower()
    )


def test_the_temperature_can_be_taken_off_again(tmp_path: Path) -> None:
    found = facts(tmp_path, run=2.0)
    before, after = uncalibrated(found.best, "test"), found.best.predictions["test"]
    assert (before.predicted == after.predicted).all()
    assert before.probabilities.max(axis=1).mean() > after.probabilities.max(axis=1).mean()  # T = 1.4 had made it less sure


def test_each_model_names_what_it_says_by_its_own_classes() -> None:
    ids, digests = np.array(["a", "b"]), np.array([b"1", b"2"], "S16")
    one = Predictions(ids, np.array([0, 1]), np.array([[0.1, 0.9], [0.1, 0.9]], np.float32), ("cat", "dog"), digests)
    other = Predictions(ids, np.array([1, 0]), np.eye(3, dtype=np.float32)[[2, 0]], ("dog", "cat", "fox"), digests)
    runs: Any = [SimpleNamespace(predictions={"test": each}) for each in (one, other)]
    assert all_wrong(runs, "test") == [("a", "cat", "dog", 1)]
