from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from judged import predictions

from frostline.abstaining import (
    NEVER,
    at_threshold,
    chosen_threshold,
    coverage_curve,
    judge_threshold,
    stated_threshold,
    sure_from,
    threshold_for,
    thresholds,
)
from frostline.errors import UserError
from frostline.predictions import Predictions


def two_classes(sure: list[float], right: list[bool]) -> Predictions:
    """Rows whose first class is predicted with this probability, rightly or not."""
    p = np.array([[each, 1 - each] for each in sure])
    return predictions([0 if hit else 1 for hit in right], p)


def test_by_hand() -> None:
    curve = coverage_curve(two_classes([0.9, 0.6, 0.9, 0.7, 0.55], [True, False, True, False, True]))
    np.testing.assert_allclose(curve.thresholds, [0.9, 0.7, 0.6, 0.55])
    assert curve.answered.tolist() == [2, 3, 4, 5]
    assert curve.hits.tolist() == [2, 2, 2, 3]
    np.testing.assert_allclose(curve.coverage, [0.4, 0.6, 0.8, 1.0])
    np.testing.assert_allclose(curve.accuracy, [1, 2 / 3, 0.5, 0.6])


def test_a_threshold_for_a_wanted_accuracy_answers_as_many_as_it_can() -> None:
    curve = coverage_curve(two_classes([0.9, 0.6, 0.9, 0.7, 0.55], [True, False, True, False, True]))
    assert threshold_for(curve, 0.99)["threshold"] == pytest.approx(0.9)  # type: ignore[index]
    found = threshold_for(curve, 0.6)  # reached by all of them again, though not on the way
    assert found is not None
    assert (found["coverage"], found["accuracy"], found["answered"], found["n"]) == (1.0, 0.6, 5, 5)
    assert found["interval"][0] < 0.6 < found["interval"][1]
    assert threshold_for(coverage_curve(two_classes([0.9, 0.8], [False, True])), 0.9) is None


def test_a_threshold_above_all_answers_nothing() -> None:
    found = at_threshold(coverage_curve(two_classes([0.9, 0.6], [True, True])), 0.95)
    assert (found["coverage"], found["accuracy"], found["interval"]) == (0.0, None, None)


def test_what_no_class_is_right_for_is_wrong_where_it_is_answered() -> None:
    curve = coverage_curve(predictions([-1, 0], np.array([[0.9, 0.1], [0.8, 0.2]])))
    assert curve.accuracy.tolist() == [0.0, 0.5]


def test_nothing_to_score() -> None:
    with pytest.raises(UserError, match="nothing to score"):
        coverage_curve(predictions([], np.zeros((0, 3))))


@given(st.lists(st.tuples(st.integers(50, 60), st.booleans()), min_size=1, max_size=40))
def test_every_point_counts_what_it_says(rows: list[tuple[int, bool]]) -> None:
    judged = two_classes([sure / 100 + 0.001 for sure, _ in rows], [right for _, right in rows])
    curve = coverage_curve(judged)
    for threshold, answered, hits in zip(curve.thresholds, curve.answered, curve.hits, strict=True):
        chosen = judged.probabilities.max(axis=1) >= threshold
        assert (answered, hits) == (chosen.sum(), judged.correct[chosen].sum())
    assert curve.answered[-1] == len(rows)


def test_thresholds_are_chosen_on_one_set_and_judged_on_another() -> None:
    validation = two_classes([0.9, 0.8, 0.7, 0.6], [True, True, False, False])
    test = two_classes([0.95, 0.85, 0.8, 0.6], [True, False, True, True])
    rows = thresholds(validation, test, wanted=(0.4, 0.6, 0.9))  # 0.4 it has as it is
    assert [(row["wanted"], row["threshold"], row["answered"], row["accuracy"]) for row in rows] == [
        (0.6, pytest.approx(0.7), 3, pytest.approx(2 / 3)),
        (0.9, pytest.approx(0.8), 3, pytest.approx(2 / 3)),
    ]
    assert thresholds(two_classes([0.9], [False]), test) == []


def test_from_which_probability_on_answers_are_sure() -> None:
    told = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])
    assert sure_from(told, np.array([0, 0, 1, 0]), 0.9) == pytest.approx(0.8)
    assert sure_from(told, np.array([0, 0, 0, 0]), 0.9) == 0.0  # all are right: every answer is
    assert sure_from(told, np.array([1, 0, 0, 0]), 0.9) is None  # the surest is wrong: none is
    assert sure_from(told[:0], np.array([], np.int64), 0.9) is None


def test_what_a_card_states_has_a_hundred_answers_behind_it() -> None:
    told = np.tile([[0.9, 0.1]], (200, 1))
    told[:150, 0] -= np.arange(150) / 1000
    told[:, 1] = 1 - told[:, 0]
    right = np.zeros(200, np.int64)
    assert stated_threshold(told[:99], right[:99]) is None  # all are right, but there are few
    assert stated_threshold(told, right) == pytest.approx(0.9 - 0.149)  # none that was checked was less certain
    wrong = np.where(np.arange(200) < 60, 1, 0)[::-1].copy()  # the surest 60 are wrong
    assert stated_threshold(told, wrong) == NEVER
    few = np.where(told[:, 0] >= 0.89, 0, 1)  # right are 61, fewer than a hundred
    assert stated_threshold(told, few) == NEVER
    most = np.where(told[:, 0] >= 0.8, 0, 1)
    assert stated_threshold(told, most) == pytest.approx(0.8, abs=0.002)


def test_one_wanted_accuracy_is_chosen_on_validation_and_judged_elsewhere() -> None:
    validation = two_classes([0.9, 0.8, 0.7, 0.6], [True, True, False, False])
    test = two_classes([0.95, 0.85, 0.8, 0.6], [True, False, True, True])
    threshold = chosen_threshold(validation, 0.9)
    assert threshold == pytest.approx(0.8)
    row = judge_threshold(test, 0.9, threshold)
    assert (row["wanted"], row["answered"], row["n"], row["coverage"]) == (0.9, 3, 4, 0.75)
    assert row["accuracy"] == pytest.approx(2 / 3)
    assert row["interval"][0] < 2 / 3 < row["interval"][1]
    (same,) = thresholds(validation, test, [0.9])
    assert row == same


def test_an_accuracy_that_is_there_without_abstaining_and_one_that_never_is() -> None:
    validation, test = two_classes([0.9, 0.8], [False, True]), two_classes([0.9, 0.6], [True, False])
    all_of_them = judge_threshold(test, 0.5, chosen_threshold(validation, 0.5))
    assert (all_of_them["threshold"], all_of_them["coverage"], all_of_them["accuracy"]) == (0.0, 1.0, 0.5)
    assert chosen_threshold(validation, 0.9) is None
    none = judge_threshold(test, 0.9, None)
    assert none == {**dict.fromkeys(all_of_them), "wanted": 0.9, "n": 2}


@pytest.mark.parametrize("wanted", [0.0, -0.1, 1.01, 97.0, float("nan")])
def test_an_accuracy_that_cannot_be(wanted: float) -> None:
    with pytest.raises(UserError, match="between 0 and 1"):
        chosen_threshold(two_classes([0.9], [True]), wanted)
