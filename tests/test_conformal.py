from __future__ import annotations

import numpy as np
import pytest
from judged import predictions

from frostline.conformal import fit_threshold, judge_sets, label_sets, promised
from frostline.errors import UserError


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
    assert found == {"threshold": 0.4, "covered": 1 / 3, "size": 4 / 3, "single": 2 / 3, "n": 3}


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
