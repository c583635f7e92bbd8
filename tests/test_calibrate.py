from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from frostline.calibrate import apply_temperature, expected_calibration_error, fit_temperature, reliability, undetermined


def drawn(n: int, k: int, sharpness: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits of a model whose true temperature is ``sharpness``: labels are drawn from softmax(logits / sharpness)."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (n, k))
    labels = (logits + rng.gumbel(size=(n, k))).argmax(axis=1)
    return logits * sharpness, labels


def best_by_scipy(logits: np.ndarray, labels: np.ndarray) -> float:
    def loss(log_t: float) -> float:
        return -log_softmax(logits / np.exp(log_t), axis=1)[np.arange(len(labels)), labels].mean()

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded", options={"xatol": 1e-10}).x))


@pytest.mark.parametrize("sharpness", [0.3, 0.8, 1.0, 2.5, 8.0])
def test_over_and_under_confident_models_are_mended(sharpness: float) -> None:
    logits, labels = drawn(20_000, 10, sharpness)
    half = slice(0, 10_000), slice(10_000, None)
    temperature = fit_temperature(logits[half[0]], labels[half[0]])
    assert temperature == pytest.approx(sharpness, rel=0.05)
    before = expected_calibration_error(apply_temperature(logits[half[1]], 1.0), labels[half[1]])
    after = expected_calibration_error(apply_temperature(logits[half[1]], temperature), labels[half[1]], debiased=True)
    assert after < 0.01
    assert sharpness == 1.0 or before > 2 * after


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 6), st.integers(20, 80), st.floats(0.1, 10), st.integers(0, 1000))
def test_agrees_with_scipy(k: int, n: int, sharpness: float, seed: int) -> None:
    logits, labels = drawn(n, k, sharpness, seed)
    if not undetermined(logits, labels):
        assert fit_temperature(logits, labels) == pytest.approx(best_by_scipy(logits, labels), rel=1e-4)


def test_log_probabilities_serve_as_logits() -> None:
    logits, labels = drawn(500, 4, 2.0)
    assert fit_temperature(log_softmax(logits, axis=1), labels) == pytest.approx(fit_temperature(logits, labels), rel=1e-9)
    np.testing.assert_allclose(apply_temperature(log_softmax(logits, axis=1), 3), apply_temperature(logits, 3), atol=1e-12)


def test_enormous_logits_neither_overflow_nor_move_the_result() -> None:
    logits, labels = drawn(500, 4, 2.0)
    assert fit_temperature(logits + 1e6, labels) == pytest.approx(fit_temperature(logits, labels), rel=1e-6)
    assert apply_temperature(np.array([[1e30, -1e30]]), 0.05).tolist() == [[1.0, 0.0]]


def test_apply_keeps_order_type_and_sum() -> None:
    logits = drawn(100, 7, 1.0)[0].astype(np.float32)
    for temperature in (0.05, 1.0, 20.0):
        probabilities = apply_temperature(logits, temperature)
        assert probabilities.dtype == np.float32
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
        np.testing.assert_array_equal(probabilities.argmax(axis=1), logits.argmax(axis=1))
    assert apply_temperature(np.array([[np.log(4), 0.0]]), 2.0)[0] == pytest.approx([2 / 3, 1 / 3])


@pytest.mark.parametrize("temperature", [0.0, -1.0, np.nan, np.inf])
def test_impossible_temperatures_are_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        apply_temperature(np.zeros((1, 2)), temperature)


def test_degenerate_cases_stay_at_one_and_say_why() -> None:
    right = np.eye(3)[np.arange(30) % 3] * 5
    labels = np.arange(30) % 3
    for logits, truth, words in [
        (right, labels, "no mistake"),
        (right[:9], (labels[:9] + 1) % 3, "only 9"),
        (np.zeros((30, 1)), np.zeros(30, np.int64), "single class"),
        (right, np.where(np.arange(30) < 21, -1, labels), "only 9"),
    ]:
        assert fit_temperature(logits, truth) == 1.0
        assert words in undetermined(logits, truth)


def test_hopeless_models_end_at_the_bound() -> None:
    logits, labels = np.eye(3)[np.arange(30) % 3] * 5, (np.arange(30) + 1) % 3
    assert undetermined(logits, labels) == ""
    assert fit_temperature(logits, labels) == pytest.approx(20.0)
    timid = np.where(np.eye(3)[np.arange(30) % 3] > 0, 1e-4, 0.0)
    mostly = np.where(np.arange(30) == 0, 1, np.arange(30) % 3)
    assert fit_temperature(timid, mostly) == pytest.approx(0.05)


def test_labels_of_one_class_are_fitted_like_any_other() -> None:
    logits = drawn(200, 3, 2.0)[0]
    labels = np.zeros(200, np.int64)
    assert fit_temperature(logits, labels) == pytest.approx(best_by_scipy(logits, labels), rel=1e-4)


def test_unknown_rows_do_not_enter_the_fit() -> None:
    logits, labels = drawn(300, 4, 2.0)
    mixed, noise = np.concatenate([labels, np.full(50, -1)]), np.random.default_rng(1).normal(0, 9, (50, 4))
    assert fit_temperature(np.concatenate([logits, noise]), mixed) == fit_temperature(logits, labels)


def test_what_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        fit_temperature(np.full((20, 2), -np.inf), np.zeros(20, np.int64))


def test_error_hand_worked() -> None:
    # Two bins of five: confidence 0.9 with 1 of 2 right, confidence 0.55 (bin 3) with 2 of 2 right.
    probabilities = np.array([[0.9, 0.1], [0.1, 0.9], [0.55, 0.45], [0.45, 0.55]])
    labels = np.array([0, 0, 0, 1])
    assert expected_calibration_error(probabilities, labels, bins=5) == pytest.approx((2 * 0.4 + 2 * 0.45) / 4)
    table = reliability(probabilities, labels, bins=5)
    assert table.counts.tolist() == [0, 0, 2, 0, 2]
    assert table.confidence.tolist() == pytest.approx([0, 0, 0.55, 0, 0.9])
    assert table.accuracy.tolist() == [0, 0, 1, 0, 0.5]


def test_edges_of_bins_belong_to_the_lower_bin() -> None:
    assert reliability(np.array([[0.5, 0.5]]), np.array([0]), bins=2).counts.tolist() == [1, 0]
    assert reliability(np.array([[1.0, 0.0]]), np.array([0]), bins=2).counts.tolist() == [0, 1]


def test_unknown_classes_are_wrong() -> None:
    assert expected_calibration_error(np.array([[1.0, 0.0]]), np.array([-1])) == 1.0
    assert np.isnan(expected_calibration_error(np.zeros((0, 2)), np.zeros(0, np.int64)))


def test_debiasing_takes_two_fifths_of_the_chance_error_off() -> None:
    plain, debiased = [], []
    for seed in range(40):
        logits, labels = drawn(300, 5, 1.0, seed)
        probabilities = apply_temperature(logits, 1.0)
        plain.append(expected_calibration_error(probabilities, labels))
        debiased.append(expected_calibration_error(probabilities, labels, debiased=True))
    assert 0.5 < np.mean(debiased) / np.mean(plain) < 0.7


def test_debiasing_agrees_with_kumar_by_sampling() -> None:
    logits, labels = drawn(2000, 5, 1.6)
    probabilities = apply_temperature(logits, 1.0)
    table = reliability(probabilities, labels, 15)
    scatter = np.sqrt(table.accuracy * (1 - table.accuracy) / np.maximum(table.counts, 1))
    samples = np.random.default_rng(0).normal(table.accuracy, scatter, (100_000, 15))
    noisy = (np.abs(samples - table.confidence).mean(axis=0) * table.counts).sum() / 2000
    plain = expected_calibration_error(probabilities, labels)
    assert expected_calibration_error(probabilities, labels, debiased=True) == pytest.approx(2 * plain - noisy, abs=2e-4)
