from __future__ import annotations

import numpy as np
import pytest
from judged import predictions

from frostline.conformal import (
    COVERAGES,
    Promise,
    card_rows,
    fit_threshold,
    judge_sets,
    label_sets,
    named_sets,
    promise_of,
    promised,
)
from frostline.errors import UserError
from frostline.metrics import wilson_interval


def drawn(n: int, seed: int):  # type: ignore[no-untyped-def]
    """Rows whose labels are drawn from the probabilities beside them."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(5, 0.4), n)
    return predictions([int(rng.choice(5, p=row)) for row in p], p)


def test_by_hand() -> None:
    own = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.25, 0.2]
    judged = predictions([0] * 9, np.array([[each, 1 - each] for each in own]))
    assert fit_threshold(judged, 0.9) == 0.2  # the 9th of 9: (9 + 1) · 0.9
    assert fit_threshold(judged, 0.5) == 0.5  # the 5th
    assert fit_threshold(judged, 0.95) == 0.0  # nine images cannot promise it: every class


def test_the_promise_holds_on_other_images_in_the_mean() -> None:
    covered = [judge_sets(drawn(400, 1000 + seed), fit_threshold(drawn(200, seed), 0.9))["covered"] for seed in range(40)]
    assert 0.89 < np.mean(covered) < 0.92  # between the promise and 1 / (N + 1) above it, and what always taking the winner adds


def test_no_set_is_empty_and_a_lower_threshold_makes_none_smaller() -> None:
    p = drawn(50, 3).probabilities
    assert label_sets(p, 0.99).sum(axis=1).min() == 1
    assert (label_sets(p, 0.2) >= label_sets(p, 0.5)).all()
    assert label_sets(p, 0.0).all()


def test_what_sets_are_judged_by() -> None:
    judged = predictions([0, 1, -1], np.array([[0.6, 0.4], [0.9, 0.1], [0.7, 0.3]]))
    found = judge_sets(judged, 0.4)
    interval = list(wilson_interval(1, 3))
    assert found == {"threshold": 0.4, "covered": 1 / 3, "interval": interval, "size": 4 / 3, "single": 2 / 3, "n": 3}


@pytest.mark.parametrize("coverage", [0.0, 1.0, 95.0])
def test_a_coverage_that_cannot_be(coverage: float) -> None:
    with pytest.raises(UserError, match="between 0 and 1"):
        fit_threshold(drawn(10, 0), coverage)


def test_nothing_to_fit_on() -> None:
    with pytest.raises(UserError, match="known classes"):
        fit_threshold(predictions([-1], np.array([[0.5, 0.5]])), 0.9)
    with pytest.raises(UserError, match="nothing to score"):
        judge_sets(predictions([], np.zeros((0, 2))), 0.5)


def test_promises_are_made_on_validation_and_judged_on_test() -> None:
    rows = promised(drawn(300, 1), drawn(500, 2))
    assert [row["promised"] for row in rows] == [0.9, 0.95, 0.99]
    assert [row["size"] for row in rows] == sorted(row["size"] for row in rows)
    assert all(row["n"] == 500 and row["covered"] > row["promised"] - 0.05 for row in rows)
    assert promised(predictions([-1], np.array([[0.5, 0.5]])), drawn(5, 0)) == []


# what a card keeps, and what is asked of it


def test_a_card_keeps_what_validation_gives_by_hand() -> None:
    own = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.25, 0.2, 0.1]
    p = np.array([[each, 1 - each] for each in own])
    labels = np.array([0] * 9 + [-1])  # the last is of an unknown class: no part of it
    rows = card_rows(p, labels, (0.5, 0.9, 0.95))
    assert rows == [
        {"promised": 0.5, "threshold": 0.5, "n": 9},
        {"promised": 0.9, "threshold": 0.2, "n": 9},
        {"promised": 0.95, "threshold": 0.0, "n": 9},
    ]
    assert card_rows(p[9:], labels[9:]) == card_rows(p[:0], labels[:0]) == []


@pytest.mark.parametrize("seed", range(5))
def test_what_a_card_keeps_is_what_is_fitted_and_sets_grow_with_what_is_promised(seed: int) -> None:
    validation, other = drawn(250, seed), drawn(60, 100 + seed).probabilities
    rows = card_rows(validation.probabilities, validation.labels)
    assert [row["promised"] for row in rows] == list(COVERAGES)
    assert [row["threshold"] for row in rows] == [fit_threshold(validation, each) for each in COVERAGES]
    small, middle, large = (label_sets(other, row["threshold"]) for row in rows)
    assert (small <= middle).all()
    assert (middle <= large).all()
    assert small.sum() < large.sum()
    assert small.any(axis=1).all()


def test_sets_by_name_are_likeliest_first_and_never_empty() -> None:
    p = np.array([[0.2, 0.5, 0.3], [0.4, 0.2, 0.4], [0.34, 0.33, 0.33]], np.float32)
    assert named_sets(p, ("a", "b", "c"), 0.25) == [("b", "c"), ("a", "c"), ("a", "b", "c")]
    assert named_sets(p, ("a", "b", "c"), 0.9) == [("b",), ("a",), ("a",)]
    assert named_sets(p, ("a", "b", "c"), 0.0) == [("b", "c", "a"), ("a", "c", "b"), ("a", "b", "c")]
    assert named_sets(p[:0], ("a", "b", "c"), 0.5) == []


def test_a_class_exactly_at_the_threshold_is_in_the_set_though_it_was_written_as_text() -> None:
    p = np.random.default_rng(0).dirichlet(np.ones(4), 200).astype(np.float32)
    for row in p:
        threshold = float(repr(float(row[2])))  # as a card has it
        assert label_sets(row[None], threshold)[0, 2]


def test_a_promise_is_one_of_those_that_the_card_keeps() -> None:
    kept = {0.9: 0.3, 0.95: 0.1, 0.99: 0.0}
    assert promise_of(kept, 0.95) == Promise(0.95, 0.1)
    assert promise_of(kept, 0.1 * 9.5) == Promise(0.95, 0.1)
    with pytest.raises(UserError, match="no threshold for that coverage") as caught:
        promise_of(kept, 0.97)
    assert (caught.value.expected, caught.value.received) == ("one of 0.9, 0.95, 0.99", "0.97")
    with pytest.raises(UserError, match="keeps no thresholds for label sets") as caught:
        promise_of({}, 0.95)
    assert "imported" in caught.value.received


def test_a_promise_in_words() -> None:
    assert str(Promise(0.95, 0.1)) == "Label sets hold the true class of 95 % of images like those of validation, in the mean."
    assert "99.5 %" in str(Promise(0.995, 0.1))
    assert "too few of these to promise it with less than all classes" in str(Promise(0.99, 0.0))
