"""Linear heads against solutions by hand and against scikit-learn's."""

import sys

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from frostline import linear
from frostline.errors import UserError
from frostline.linear import Linear, Logistic, Moments, judge, log_softmax, sweep

K = 4


def drawn(n=600, d=12, seed=0, spread=1.0):
    """Features of very different sizes and means, of four classes that overlap."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, K, n)
    mix = rng.normal(size=(d, d))
    x = (rng.normal(size=(n, d)) + 0.8 * rng.normal(size=(K, d))[y]) @ mix
    sizes = 10.0 ** rng.uniform(-spread, spread, d)
    return (x * sizes + rng.normal(size=d) * sizes * 5).astype(np.float32), y.astype(np.int64)


def moments(x, y, block=None, classes=K):
    found = Moments(x.shape[1], classes)
    for start in range(0, len(x), block or len(x)):
        found.add(x[start : start + (block or len(x))], y[start : start + (block or len(x))])
    return found


def scaled(x):
    return (x.astype(np.float64) - x.mean(0, dtype=np.float64)) / x.std(0, dtype=np.float64)


# moments


def test_moments_are_what_numpy_says():
    x, y = drawn()
    found = moments(x, y, block=50)
    assert found.n == 600
    np.testing.assert_allclose(found.mean, x.mean(0, dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(found.covariance(), np.cov(x.T.astype(np.float64), bias=True), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.scales(), x.std(0, dtype=np.float64), rtol=1e-5)
    assert found.y.tolist() == np.bincount(y, minlength=K).tolist()


def test_moments_added_are_the_moments_of_all():
    x, y = drawn()
    whole, parts = moments(x, y), moments(x[:130], y[:130], 32).added(moments(x[130:], y[130:], 100))
    assert parts.n == whole.n
    for one, other in ((parts.mean, whole.mean), (parts.covariance(), whole.covariance()), (parts.y, whole.y)):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(parts.ridge(0.1).weight, whole.ridge(0.1).weight, rtol=1e-4, atol=1e-7)
    empty = Moments(12, K)
    np.testing.assert_allclose(empty.added(whole).covariance(), whole.covariance(), rtol=1e-9)
    np.testing.assert_allclose(whole.added(empty).covariance(), whole.covariance(), rtol=1e-9)


def test_adding_changes_neither():
    x, y = drawn()
    first, second = moments(x[:100], y[:100]), moments(x[100:], y[100:])
    before = first.covariance(), second.covariance()
    first.added(second).add(x, y)
    np.testing.assert_array_equal(first.covariance(), before[0])
    np.testing.assert_array_equal(second.covariance(), before[1])


def test_small_differences_from_a_large_mean_are_kept():
    x, y = drawn(5000, 3)
    x = (np.random.default_rng(0).normal(size=x.shape) * 0.05 + 10).astype(np.float32)
    np.testing.assert_allclose(moments(x, y, 512).covariance(), np.cov(x.T.astype(np.float64), bias=True), rtol=1e-4, atol=1e-8)


def test_scales_have_a_floor():
    x, y = drawn(500, 4)
    x = np.random.default_rng(0).normal(size=x.shape).astype(np.float32)
    x[:, 1] = 0
    x[:, 2] = 7
    scales = moments(x, y).scales()
    typical = np.sqrt(np.mean(x.var(0)))
    np.testing.assert_allclose(scales[[1, 2]], [1e-4 * typical, 7e-3], rtol=1e-3)
    assert moments(np.ones((5, 2), np.float32), y[:5]).scales().tolist() == [1, 1]


# ridge


def test_ridge_by_hand():
    # one feature, mean 2, deviation 1: x' = -1, 1. Onehot of class 1: 0, 1; covariance with x' is 1/2; W' = (1/2) / (1 + l2)
    head = moments(np.array([[1.0], [3.0]], np.float32), np.array([0, 1]), classes=2).ridge(0.25)
    np.testing.assert_allclose(head.weight, [[-0.4, 0.4]], rtol=1e-6)
    np.testing.assert_allclose(head.bias, [0.5 + 0.8, 0.5 - 0.8], rtol=1e-6)


@pytest.mark.parametrize("l2", [1e-3, 0.1, 10.0])
def test_ridge_is_scikit_learns(l2):
    x, y = drawn()
    theirs = Ridge(alpha=l2 * len(x)).fit(scaled(x), np.eye(K)[y])
    np.testing.assert_allclose(moments(x, y, 64).ridge(l2).logits(x), theirs.predict(scaled(x)), atol=1e-3)


def test_ridge_does_not_mind_the_size_of_features():
    x, y = drawn(spread=0)
    larger = x * np.logspace(-1, 1.5, x.shape[1], dtype=np.float32)
    np.testing.assert_allclose(moments(larger, y).ridge(0.1).logits(larger), moments(x, y).ridge(0.1).logits(x), atol=1e-3)


def degenerate():
    x, y = drawn(2000, 20)
    x[:, 3] = 0
    x[:, 4:7] = np.float32([0.3, 17.123, -2e-5])  # dead channels: one value for all images
    x[:, 8] = x[:, 9]
    x[:, 10] = np.float32(5) + np.float32(1e-6) * x[:, 10]
    return x, y


@pytest.mark.parametrize("l2", [1e-4, 0.01, 1.0])
def test_dead_and_doubled_features_do_no_harm(l2):
    x, y = degenerate()
    alive = np.delete(x, [3, 4, 5, 6, 10], axis=1)
    found, without = moments(x, y, 512), moments(alive, y, 512)
    np.testing.assert_allclose(judge(found.ridge(l2), x, y), judge(without.ridge(l2), alive, y), atol=5e-3)
    heads = Logistic(x, y, found).fit(l2), Logistic(alive, y, without).fit(l2)
    np.testing.assert_allclose(judge(heads[0], x, y), judge(heads[1], alive, y), atol=5e-3)


# logistic regression


@pytest.mark.parametrize("l2", [1e-3, 1e-2, 1.0])
def test_logistic_is_scikit_learns(l2):
    x, y = drawn()
    theirs = LogisticRegression(C=1 / (l2 * len(x)), tol=1e-10, max_iter=5000).fit(scaled(x), y)
    mine = Logistic(x, y, moments(x, y)).fit(l2, tolerance=1e-10)
    np.testing.assert_allclose(np.exp(log_softmax(mine.logits(x))), theirs.predict_proba(scaled(x)), atol=1e-3)


def test_the_usual_tolerance_is_near_enough():
    x, y = drawn()
    problem = Logistic(x, y, moments(x, y))
    rough, fine = problem.fit(1e-2), problem.fit(1e-2, tolerance=1e-10)
    np.testing.assert_allclose(log_softmax(rough.logits(x)), log_softmax(fine.logits(x)), atol=0.15)
    assert (rough.logits(x).argmax(1) == fine.logits(x).argmax(1)).mean() > 0.99


def test_a_warm_start_ends_where_a_cold_one_does():
    x, y = drawn()
    problem = Logistic(x, y, moments(x, y))
    cold = problem.fit(1e-2, tolerance=1e-10)
    warm = problem.fit(1e-2, problem.fit(1.0), tolerance=1e-10)
    np.testing.assert_allclose(np.exp(log_softmax(warm.logits(x))), np.exp(log_softmax(cold.logits(x))), atol=1e-3)


def test_a_start_at_the_end_stays_there():
    x, y = drawn()
    problem = Logistic(x, y, moments(x, y))
    head = problem.fit(1e-2, tolerance=1e-9)
    np.testing.assert_allclose(problem.fit(1e-2, head).logits(x), head.logits(x), atol=2e-2)


def test_chunks_do_not_matter(monkeypatch):
    x, y = drawn()
    whole = Logistic(x, y, moments(x, y)).fit(1e-2, tolerance=1e-9)
    monkeypatch.setattr(linear, "CHUNK", 37)
    np.testing.assert_allclose(Logistic(x, y, moments(x, y)).fit(1e-2, tolerance=1e-9).logits(x), whole.logits(x), atol=1e-2)


def test_the_gradient_is_the_losss():
    x, y = drawn(200, 5, spread=0.3)
    problem, rng = Logistic(x, y, moments(x, y)), np.random.default_rng(3)
    W, b = rng.normal(size=(5, K)), rng.normal(size=K)

    def exact(W, b):
        logits = scaled(x) @ W + b
        log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        return -log_p[np.arange(len(y)), y].mean()

    loss, dW, db = problem._loss(W.astype(np.float32), b.astype(np.float32))
    assert loss == pytest.approx(exact(W, b), rel=1e-4)
    for i, k in ((0, 0), (2, 1), (4, 3)):
        step = np.zeros_like(W)
        step[i, k] = 1e-5
        assert dW[i, k] == pytest.approx((exact(W + step, b) - exact(W - step, b)) / 2e-5, abs=2e-4)
    step = np.array([0, 1e-5, 0, 0])
    assert db[1] == pytest.approx((exact(W, b + step) - exact(W, b - step)) / 2e-5, abs=2e-4)


def test_a_class_without_rows_gets_little_probability():
    x, y = drawn()
    head = Logistic(x, y, moments(x, y, classes=K + 1)).fit(0.1)
    assert np.exp(log_softmax(head.logits(x)))[:, K].max() < 0.05


# the sweep


def test_the_sweep_finds_the_valley():
    x, judged = drawn(400, 12)
    values = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    rng = np.random.default_rng(5)
    shuffled = np.where(rng.random(400) < 0.3, rng.integers(0, K, 400), judged)
    problem = Logistic(x[:60], shuffled[:60], moments(x[:60], shuffled[:60]))
    tried = sweep(problem, values, x[60:], judged[60:])
    full = {l2: judge(problem.fit(l2), x[60:], judged[60:])[1] for l2 in values}
    best = min(tried, key=lambda item: item[3])
    assert best[0] == min(full, key=full.get)
    assert [item[0] for item in tried] == sorted(item[0] for item in tried)
    for l2, head, accuracy, loss in tried:
        assert (accuracy, loss) == judge(head, x[60:], judged[60:])
        assert loss == pytest.approx(full[l2], rel=0.02)


def test_a_sweep_of_one_value():
    x, y = drawn()
    ((l2, head, accuracy, _),) = sweep(Logistic(x, y, moments(x, y)), (0.1,), x, y)
    assert l2 == 0.1
    assert accuracy == float((head.logits(x).argmax(1) == y).mean())


# small parts


def test_log_softmax_of_large_numbers():
    found = log_softmax(np.array([[1e4, 0.0], [-1e4, -1e4]], np.float32))
    np.testing.assert_allclose(found, [[0, -1e4], [-np.log(2), -np.log(2)]], rtol=1e-6)


def test_judging_leaves_unknown_classes_out_of_the_loss_and_counts_them_wrong():
    head = Linear(np.eye(2, dtype=np.float32), np.zeros(2, np.float32))
    x = np.array([[2.0, 0], [0, 2.0], [2.0, 0]], np.float32)
    accuracy, loss = judge(head, x, np.array([0, 1, -1]))
    assert accuracy == pytest.approx(2 / 3)
    assert loss == pytest.approx(np.log(1 + np.exp(-2)), rel=1e-5)


def test_without_scipy_it_says_what_to_install(monkeypatch):
    x, y = drawn(50, 3)
    monkeypatch.setitem(sys.modules, "scipy.linalg", None)
    with pytest.raises(UserError, match="SciPy") as caught:
        moments(x, y).ridge(0.1)
    assert "frostline[train]" in caught.value.hint


def test_weighted_rows_are_repeated_rows():
    rng = np.random.default_rng(0)
    labels = np.array([0] * 60 + [1] * 20)
    x = (labels[:, None] + rng.standard_normal((80, 4))).astype(np.float32)
    repeated = np.concatenate([np.arange(80), *[np.arange(60, 80)] * 2])  # class 1 three times: as many as class 0
    moments = Moments(4, 2)
    moments.add(x, labels)
    weights = np.array([80 / 120, 80 / 40], np.float32)
    found = Logistic(x, labels, moments, weights).fit(0.01, tolerance=1e-9)
    # the same scaling for both: it is that of the rows as they are
    other = Logistic(x[repeated], labels[repeated], moments)
    other.prior = np.log(np.array([0.5, 0.5]))
    wanted = other.fit(0.01, tolerance=1e-9)
    np.testing.assert_allclose(found.logits(x), wanted.logits(x), atol=2e-3)


@pytest.mark.parametrize(("n", "d"), [(400, 900), (200, 600)])
def test_ridge_without_a_penalty_and_with_fewer_rows_than_features(n, d):
    x, y = drawn(n=n, d=d)
    head = moments(x, y).ridge(0.0)
    assert np.isfinite(head.weight).all()
    assert ((x @ head.weight + head.bias).argmax(1) == y).mean() > 0.9
