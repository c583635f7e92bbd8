"""Planted label errors are found; folds, votes and probabilities are what can be worked out by hand."""

import sys

import numpy as np
import pytest
from cleanlab.count import num_label_issues
from cleanlab.rank import get_label_quality_scores
from sklearn.metrics import average_precision_score

from frostline.auditing.label_errors import (
    FOLDS,
    POWERS,
    SHARPNESS,
    UNHEARD,
    Voters,
    folds_of,
    likely_errors,
    out_of_fold,
    suggestions,
    surprise,
    together,
)
from frostline.errors import UserError
from frostline.feature_neighbours import Directions
from frostline.linear import log_softmax

K = 4


def digests(n):
    return np.array([b"%016d" % i for i in range(n)], "S16")


def planted(n=600, wrong=12, seed=0, d=10):
    """Features of four classes that overlap a little, labels of which some were exchanged, and which."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, K, n)
    x = (rng.normal(size=(n, d)) + 2.2 * rng.normal(size=(K, d))[truth]).astype(np.float32)
    bad = np.zeros(n, bool)
    bad[rng.choice(n, wrong, replace=False)] = True
    labels = np.where(bad, (truth + rng.integers(1, K, n)) % K, truth)
    return x, labels.astype(np.int64), bad


@pytest.fixture(scope="module")
def judged():
    x, labels, bad = planted()
    folds = folds_of(labels, digests(len(labels)))
    return x, labels, bad, folds, out_of_fold(x, labels, K, folds, digests(len(labels)))


# folds


def test_folds_are_stratified_and_of_one_size():
    labels = np.repeat([0, 1, 2], [50, 23, 7])
    folds = folds_of(labels, digests(80))
    assert np.bincount(folds).tolist() == [16] * FOLDS
    for label, count in ((0, 10), (1, 5), (2, 2)):
        in_each = np.bincount(folds[labels == label], minlength=FOLDS)
        assert in_each.max() <= count
        assert in_each.min() >= count - 1
    assert (folds == folds_of(labels, digests(80))).all()
    assert (folds != folds_of(labels, digests(80), seed=1)).any()


def test_the_same_content_stays_in_one_fold():
    content = digests(30)[np.arange(90) % 30]
    folds = folds_of(np.arange(90) % 2, content)
    assert (folds[:30] == folds[30:60]).all()
    assert (folds[:30] == folds[60:]).all()


# by hand


def test_surprise_and_suggestion_by_hand():
    log_p = np.log(np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.5, 0.5, 0.0 + 1e-9]], np.float32))
    labels = np.array([0, 0, 1])
    np.testing.assert_allclose(surprise(log_p, labels), -np.log([0.7, 0.1, 0.5]), rtol=1e-6)
    assert suggestions(log_p, labels).tolist() == [1, 2, 0]


def test_votes_by_hand():
    points = np.array([[1, 0], [1, 0], [0.96, 0.28], [0.8, 0.6]], np.float32)
    voters = Voters(
        Directions(np.zeros(2, np.float32), np.ones(2, np.float32), np.eye(2, dtype=np.float32)),
        points,
        np.array([0, 1, 1, 2]),
        3,
        digests(4),
        np.arange(4),
    )
    # one at (1, 0), of the first row's content: the others vote with exp(S), exp(0.96 S), exp(0.8 S), made to be three votes in all
    weights = np.exp(SHARPNESS * np.array([1.0, 0.96, 0.8]))
    weights *= 3 / weights.sum()
    votes = np.array([UNHEARD, UNHEARD + weights[0] + weights[1], UNHEARD + weights[2]])
    found = voters.log_shares(points[:1], digests(1))
    np.testing.assert_allclose(found[0], np.log(votes / votes.sum()), rtol=1e-5)
    # of another content: the three nearest vote, half of each of the two at (1, 0) and hardly the third
    stranger = voters.log_shares(points[:1], np.array([b"another"], "S16"))[0]
    assert stranger[0] > found[0, 0]
    assert stranger[2] < found[0, 2]


def test_a_content_votes_once():
    x, labels, _ = planted(60, 0)
    twice = [np.concatenate([a, a]) for a in (x, labels, digests(60))]
    folds = folds_of(twice[1], twice[2])
    found = out_of_fold(twice[0], twice[1], K, folds, twice[2], (0.01,))
    assert found.voters.points.shape[0] == 60
    np.testing.assert_allclose(found.log_p[:60], found.log_p[60:], atol=1e-5)


def test_together_is_a_product():
    log_p, shares = (log_softmax(np.random.default_rng(seed).normal(size=(5, 3)).astype(np.float32)) for seed in (0, 1))
    product = np.exp(log_p) ** POWERS[0] * np.exp(shares) ** POWERS[1]
    np.testing.assert_allclose(np.exp(together(log_p, shares)), product / product.sum(1, keepdims=True), rtol=1e-5)


# planted errors


def test_planted_errors_come_first(judged):
    _, labels, bad, _, found = judged
    score = surprise(found.log_p, labels)
    assert average_precision_score(bad, score) > 0.9
    assert bad[np.argsort(-score)[:12]].sum() >= 10
    np.testing.assert_allclose(np.exp(found.log_p).sum(axis=1), 1, rtol=1e-4)


def test_the_ranking_beside_cleanlabs(judged):
    _, labels, bad, _, found = judged
    score = surprise(found.log_p, labels)

    def plain(log_p):
        p = np.exp(log_p.astype(np.float64))
        return -get_label_quality_scores(labels, p / p.sum(axis=1, keepdims=True))

    ours = average_precision_score(bad, score)
    assert ours >= average_precision_score(bad, plain(found.log_p)) - 1e-9
    assert ours >= average_precision_score(bad, plain(found.heads_log_p)) - 0.02


def test_as_many_are_called_likely_as_cleanlab_estimates(judged):
    _, labels, bad, _, found = judged
    likely = likely_errors(found.log_p, labels)
    p = np.exp(found.log_p.astype(np.float64))
    estimate = num_label_issues(labels, p / p.sum(axis=1, keepdims=True))
    assert 0 < likely.sum() <= estimate
    assert bad[likely].mean() > 0.5
    assert (found.log_p[likely].argmax(axis=1) != labels[likely]).all()
    assert surprise(found.log_p, labels)[likely].min() >= np.sort(surprise(found.log_p, labels))[-estimate]


def test_no_row_is_judged_by_what_has_learned_from_it(judged):
    x, labels, _, folds, found = judged
    once = out_of_fold(x, labels, K, folds, digests(len(labels)), (found.l2,))
    mine = np.flatnonzero(folds == 3)
    changed = labels.copy()
    changed[mine] = (labels[mine] + 1) % K
    again = out_of_fold(x, changed, K, folds, digests(len(labels)), (found.l2,))
    np.testing.assert_array_equal(again.heads_log_p[mine], once.heads_log_p[mine])
    assert not np.array_equal(again.heads_log_p, once.heads_log_p)
    changed = labels.copy()
    changed[mine[0]] = (labels[mine[0]] + 1) % K  # neighbours of its own fold vote on the others, and it does not on itself
    again = out_of_fold(x, changed, K, folds, digests(len(labels)), (found.l2,))
    np.testing.assert_array_equal(again.log_p[mine[0]], once.log_p[mine[0]])
    assert not np.array_equal(again.log_p[mine], once.log_p[mine])


def test_other_rows_are_judged_by_all_heads_or_by_the_one_that_does_not_know_them(judged):
    x, labels, *_, found = judged
    own = digests(len(labels))
    copies = found.others(x[:20], own[:20])
    np.testing.assert_allclose(copies, found.log_p[:20], atol=1e-4)
    strangers = found.others(x[:20], np.array([b"x%015d" % i for i in range(20)], "S16"))
    assert not np.allclose(strangers, copies, atol=1e-3)
    np.testing.assert_allclose(np.exp(strangers).sum(axis=1), 1, rtol=1e-4)


def test_without_cleanlab_it_is_said(judged, monkeypatch):
    monkeypatch.setitem(sys.modules, "cleanlab.count", None)
    with pytest.raises(UserError, match="estimated by cleanlab") as caught:
        likely_errors(judged[4].log_p, judged[1])
    assert "frostline[audit]" in caught.value.hint
