from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from judged import predictions
from sklearn import metrics as sk

from frostline import metrics
from frostline.errors import UserError
from frostline.predictions import Predictions
from frostline.records import json_record

# What scikit-learn warns of is what the cases below are about.
pytestmark = pytest.mark.filterwarnings("ignore:.*(y_pred contains classes not in y_true|single label).*:UserWarning")

CLOSE = {"rtol": 0, "atol": 1e-12}


def one_hot(predicted: list[int], k: int) -> np.ndarray:
    return np.eye(k)[predicted]


def cases() -> dict[str, Predictions]:
    rng = np.random.default_rng(7)
    drawn = rng.dirichlet(np.ones(10), 500)
    six = rng.dirichlet(np.ones(6), 60)
    labels = rng.integers(0, 6, 60)
    return {
        "random": predictions(rng.integers(0, 10, 500), drawn),
        "two classes": predictions(rng.integers(0, 2, 50), rng.dirichlet(np.ones(2), 50)),
        "one row": predictions([1], np.array([[0.2, 0.3, 0.5]])),
        "all right": predictions(labels, one_hot(labels.tolist(), 6)),
        "all wrong": predictions(labels, one_hot(((labels + 1) % 6).tolist(), 6)),
        "one class in the truth": predictions(np.full(60, 2), six),
        "one class predicted": predictions(labels, np.tile([0.5, 0.1, 0.1, 0.1, 0.1, 0.1], (60, 1))),
        "empty class": predictions(labels % 5, six),
    }


@pytest.fixture(params=list(cases()))
def case(request: pytest.FixtureRequest) -> Predictions:
    return cases()[request.param]


def test_wilson_hand_worked() -> None:
    # 8 of 10, as published for the score interval: (0.4902, 0.9433).
    low, high = metrics.wilson_interval(8, 10)
    assert (round(low, 4), round(high, 4)) == (0.4902, 0.9433)
    assert metrics.wilson_interval(0, 10)[0] == 0.0
    assert metrics.wilson_interval(10, 10)[1] == 1.0
    assert metrics.wilson_interval(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError, match="hits"):
        metrics.wilson_interval(11, 10)


@given(st.integers(1, 100_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_agrees_with_scipy(pair: tuple[int, int]) -> None:
    from scipy.stats import binomtest

    hits, n = pair
    wanted = binomtest(hits, n).proportion_ci(0.95, method="wilson")
    np.testing.assert_allclose(metrics.wilson_interval(hits, n), (wanted.low, wanted.high), **CLOSE)


def test_per_class_agrees_with_scikit_learn(case: Predictions) -> None:
    k = len(case.classes)
    matrix = metrics.confusion_matrix(case.labels, case.predicted, k)
    np.testing.assert_array_equal(matrix, sk.confusion_matrix(case.labels, case.predicted, labels=range(k)))
    rows = metrics.per_class(matrix)
    wanted = sk.precision_recall_fscore_support(case.labels, case.predicted, labels=range(k), zero_division=0)
    for ours, theirs in zip(rows.values(), wanted, strict=True):
        np.testing.assert_allclose(ours, theirs, **CLOSE)
    for average, ours_by_name in (("macro", metrics.macro_average(rows)), ("weighted", metrics.weighted_average(rows))):
        theirs = sk.precision_recall_fscore_support(case.labels, case.predicted, labels=range(k), average=average, zero_division=0)
        np.testing.assert_allclose(list(ours_by_name.values()), theirs[:3], **CLOSE)


def test_normalised_by_hand() -> None:
    shares = metrics.normalised(np.array([[3, 1, 0], [0, 0, 0], [0, 2, 3]]))
    np.testing.assert_array_equal(shares, [[0.75, 0.25, 0], [np.nan] * 3, [0, 0.4, 0.6]])
    np.testing.assert_array_equal(metrics.normalised(np.array([[7]])), [[1.0]])  # one class
    np.testing.assert_array_equal(metrics.normalised(np.zeros((2, 2), np.int64)), np.full((2, 2), np.nan))


def test_normalised_agrees_with_scikit_learn(case: Predictions) -> None:
    k = len(case.classes)
    shares = metrics.normalised(metrics.confusion_matrix(case.labels, case.predicted, k))
    theirs = sk.confusion_matrix(case.labels, case.predicted, labels=range(k), normalize="true")
    np.testing.assert_allclose(np.nan_to_num(shares), theirs, **CLOSE)  # where ours is undefined theirs is zero
    empty = np.bincount(case.labels, minlength=k) == 0
    np.testing.assert_array_equal(np.isnan(shares), np.repeat(empty[:, None], k, axis=1))
    np.testing.assert_allclose(shares[~empty].sum(axis=1), 1, **CLOSE)


def test_the_record_has_counts_and_shares_and_null_where_a_class_has_no_image() -> None:
    scores = metrics.score(predictions([0, 0, 0, 2], one_hot([0, 0, 1, 2], 3)))
    assert scores["confusion"] == [[2, 1, 0], [0, 0, 0], [0, 0, 1]]
    assert scores["confusion_normalised"] == [[2 / 3, 1 / 3, 0], [None, None, None], [0, 0, 1]]
    assert "its row of the normalised confusion matrix is undefined" in scores["notes"][0]
    assert json_record(scores) == scores  # nothing in it was not finite


def test_whole_scores_agree_with_scikit_learn(case: Predictions) -> None:
    k = len(case.classes)
    scores = metrics.score(case)
    assert scores["accuracy"] == pytest.approx(sk.accuracy_score(case.labels, case.predicted), abs=1e-12)
    assert scores["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(case.labels, case.predicted), abs=1e-12)
    assert scores["log_loss"] == pytest.approx(sk.log_loss(case.labels, case.probabilities, labels=range(k)), abs=1e-12)
    assert sum(map(sum, scores["confusion"])) == scores["n"] == len(case)


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_top_k_agrees_with_scikit_learn_without_ties(k: int) -> None:
    case = cases()["random"]
    wanted = sk.top_k_accuracy_score(case.labels, case.probabilities, k=k, labels=range(10))
    assert metrics.top_k_accuracy(case.probabilities, case.labels, k) == pytest.approx(wanted, abs=1e-12)


def test_top_k_ties_follow_class_order() -> None:
    even = np.full((4, 4), 0.25)
    labels = np.arange(4)
    assert [metrics.top_k_accuracy(even, labels, k) for k in (1, 2, 3, 4)] == [0.25, 0.5, 0.75, 1.0]
    assert metrics.top_k_accuracy(even, np.full(4, -1), 4) == 0.0


def test_log_loss_is_clipped_in_the_type_of_the_probabilities() -> None:
    wrong = np.array([[1.0, 0.0]])
    assert metrics.log_loss(wrong, np.array([1])) == pytest.approx(-math.log(2.0**-52))
    assert metrics.log_loss(wrong.astype(np.float32), np.array([1])) == pytest.approx(-math.log(2.0**-23))
    assert metrics.log_loss(np.array([[0.25, 0.75]]), np.array([0])) == pytest.approx(math.log(4))


def test_hand_worked_record() -> None:
    # truth    a a a b b c   predicted  a a b b a a
    scores = metrics.score(predictions([0, 0, 0, 1, 1, 2], one_hot([0, 0, 1, 1, 0, 0], 3)))
    assert scores["accuracy"] == 0.5
    assert scores["confusion"] == [[2, 1, 0], [1, 1, 0], [1, 0, 0]]
    a, b, c = scores["per_class"]
    assert a == {"class": "a", "precision": 0.5, "recall": 2 / 3, "f1": 4 / 7, "support": 3, "roc_auc": 0.5}
    assert b == {"class": "b", "precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 2, "roc_auc": 5 / 8}
    assert c == {"class": "c", "precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1, "roc_auc": 0.5}
    assert scores["most_confused"] == [
        {"truth": "a", "predicted": "b", "count": 1, "share": 1 / 3},
        {"truth": "b", "predicted": "a", "count": 1, "share": 0.5},
        {"truth": "c", "predicted": "a", "count": 1, "share": 1.0},
    ]
    assert scores["balanced_accuracy"] == pytest.approx((2 / 3 + 0.5 + 0) / 3)
    assert scores["top_k"] == {}
    assert scores["notes"] == ["Never predicted: c; precision is 0 by convention."]


def test_unknown_classes_are_wrong_and_cost_precision() -> None:
    with_unknown = metrics.score(predictions([0, 1, -1, -1], one_hot([0, 1, 0, 0], 2)))
    assert (with_unknown["accuracy"], with_unknown["n"], with_unknown["unknown"]) == (0.5, 4, 2)
    assert with_unknown["interval"] == list(metrics.wilson_interval(2, 4))
    assert with_unknown["confusion"] == [[1, 0], [0, 1]]
    assert with_unknown["per_class"][0]["precision"] == pytest.approx(1 / 3)
    assert with_unknown["per_class"][0]["recall"] == with_unknown["balanced_accuracy"] == 1.0
    assert "2 rows are of a class the model does not know" in with_unknown["notes"][0]


def test_only_unknown_classes_leave_null_and_a_reason() -> None:
    scores = metrics.score(predictions([-1, -1], one_hot([0, 1], 4)))
    assert scores["accuracy"] == 0.0
    assert scores["top_k"] == {"3": 0.0}
    assert scores["log_loss"] is scores["balanced_accuracy"] is scores["weighted"]["f1"] is None
    assert scores["notes"][-1].startswith("No row has a known class")


def test_what_a_card_states_is_what_is_scored(case: Predictions, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, stated = metrics.score(case), metrics.stated(case)
    assert stated == {key: whole[key] for key in ("n", "accuracy", "interval", "log_loss", "confusion")}
    monkeypatch.setattr(metrics, "MOST_STATED", 1)
    assert "confusion" not in metrics.stated(case)


def test_nothing_to_score_is_a_user_error() -> None:
    with pytest.raises(UserError, match="nothing to score"):
        metrics.score(predictions([], np.zeros((0, 2))))


@st.composite
def any_predictions(draw: st.DrawFn) -> Predictions:
    k, n = draw(st.integers(1, 7)), draw(st.integers(1, 30))
    labels = draw(st.lists(st.integers(-1, k - 1), min_size=n, max_size=n))
    weights = draw(st.lists(st.lists(st.integers(0, 3), min_size=k, max_size=k), min_size=n, max_size=n))
    table = np.array(weights, dtype=np.float64)
    table[table.sum(axis=1) == 0] = 1
    return predictions(labels, table / table.sum(axis=1, keepdims=True))


@given(any_predictions())
def test_invariants(p: Predictions) -> None:
    scores = metrics.score(p)
    json.dumps(scores, allow_nan=False)
    hits = int(np.trace(np.array(scores["confusion"])))
    assert scores["accuracy"] == hits / len(p) == metrics.top_k_accuracy(p.probabilities, p.labels, 1)
    low, high = scores["interval"]
    assert 0 <= low <= scores["accuracy"] <= high <= 1
    assert sum(map(sum, scores["confusion"])) + scores["unknown"] == scores["n"]
    assert sum(row["support"] for row in scores["per_class"]) == scores["n"] - scores["unknown"]
    assert all(0 <= row[name] <= 1 for row in scores["per_class"] for name in ("precision", "recall", "f1"))
    for k, (row, shares) in enumerate(zip(scores["per_class"], scores["confusion_normalised"], strict=True)):
        assert shares[k] == (row["recall"] if row["support"] else None)
    rising = [metrics.top_k_accuracy(p.probabilities, p.labels, k) for k in range(1, len(p.classes) + 1)]
    assert rising == sorted(rising)
    assert rising[-1] == pytest.approx(1 - scores["unknown"] / len(p))


@given(any_predictions(), st.integers(0, 99))
def test_the_order_of_rows_does_not_matter(p: Predictions, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(p))
    other = Predictions(p.ids[order], p.labels[order], p.probabilities[order], p.classes, p.digests[order])
    ours, theirs = metrics.score(p), metrics.score(other)
    for name in ("log_loss", "brier_score"):
        assert ours.pop(name) == pytest.approx(theirs.pop(name), abs=1e-12)
    assert ours == theirs


def test_matthews_agrees_with_scikit_learn(case: Predictions) -> None:
    matrix = metrics.confusion_matrix(case.labels, case.predicted, len(case.classes))
    np.testing.assert_allclose(metrics.matthews(matrix), sk.matthews_corrcoef(case.labels, case.predicted), **CLOSE)


def test_the_brier_score_agrees_with_scikit_learn(case: Predictions) -> None:
    theirs = sum(sk.brier_score_loss(case.labels == k, case.probabilities[:, k], labels=[0, 1]) for k in range(len(case.classes)))
    np.testing.assert_allclose(metrics.brier_score(case.probabilities, case.labels), theirs, **CLOSE)


def test_areas_agree_with_scikit_learn(case: Predictions) -> None:
    for k, area in enumerate(metrics.roc_auc(case.probabilities, case.labels)):
        own = case.labels == k
        if own.all() or not own.any():
            assert math.isnan(area)
        else:
            np.testing.assert_allclose(area, sk.roc_auc_score(own, case.probabilities[:, k]), **CLOSE)


def test_scores_that_need_a_true_class_are_of_the_rows_that_have_one() -> None:
    rng = np.random.default_rng(3)
    p, labels = rng.dirichlet(np.ones(4), 40), rng.integers(0, 4, 40)
    lost = np.concatenate([labels, np.full(10, -1)])
    more = np.concatenate([p, rng.dirichlet(np.ones(4), 10)])
    assert metrics.brier_score(more, lost) == metrics.brier_score(p, labels)
    np.testing.assert_array_equal(metrics.roc_auc(more, lost), metrics.roc_auc(p, labels))
    only = metrics.score(predictions([-1, -1], p[:2]))
    assert (only["matthews"], only["brier_score"], only["roc_auc"]) == (None, None, None)


def test_of_very_many_classes_the_matrix_is_left_to_the_predictions(monkeypatch):
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(6), 50)
    names = tuple("abcdef")
    case = Predictions(np.arange(50).astype(str), rng.integers(0, 6, 50), p, names, np.array([b"x" * 16] * 50))
    whole = metrics.score(case)
    monkeypatch.setattr(metrics, "MOST_RECORDED", 5)
    less = metrics.score(case)
    assert less == {key: value for key, value in whole.items() if not key.startswith("confusion")}
    assert metrics.counts(case).tolist() == whole["confusion"]
