from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from frostline import paired


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_agrees_with_scipy(only_a: int, only_b: int) -> None:
    wanted = binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    assert paired.mcnemar(only_a, only_b) == pytest.approx(wanted, rel=1e-9)


def test_mcnemar_of_very_many() -> None:
    assert paired.mcnemar(0, 0) == 1.0
    assert paired.mcnemar(3, 0) == 0.25
    assert paired.mcnemar(10_000, 10_400) == pytest.approx(binomtest(10_000, 20_400).pvalue, rel=1e-9)
    assert paired.mcnemar(0, 20_000) == 0.0


def test_equal_models_are_rarely_called_different() -> None:
    rng = np.random.default_rng(0)
    discordant = rng.binomial(1000, 0.1, 10_000)
    p = np.array([paired.mcnemar(int(a), int(n - a)) for n, a in zip(discordant, rng.binomial(discordant, 0.5), strict=True)])
    assert (p < 0.05).mean() <= 0.05


def test_holm_hand_worked() -> None:
    assert paired.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert paired.holm([0.6, 0.5]) == [1.0, 1.0]
    assert paired.holm([0.2]) == [0.2]
    assert paired.holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_never_lowers_and_keeps_order(p_values: list[float]) -> None:
    corrected = paired.holm(p_values)
    assert all(p <= after <= 1 for p, after in zip(p_values, corrected, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(np.array(corrected)[order]) >= 0).all()


def test_the_interval_of_a_difference_by_hand() -> None:
    # 11 and 1 of 102 after the added images: 10 / 102 ± 1.96 √((12 / 102 − (10 / 102)²) / 102)
    low, high = paired.paired_interval(10, 0, 100)
    assert (low, high) == pytest.approx((0.0342, 0.1618), abs=5e-4)
    assert paired.paired_interval(0, 10, 100) == pytest.approx((-high, -low))
    assert paired.paired_interval(0, 0, 0) == (-1.0, 1.0)


def test_the_interval_of_a_difference_holds_it_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    for a, b, n in [(0.05, 0.02, 200), (0.3, 0.3, 50), (0.02, 0.0, 400)]:
        drawn = rng.multinomial(n, [a, b, 1 - a - b], 4000)
        held = [low <= a - b <= high for low, high in (paired.paired_interval(int(x), int(y), n) for x, y, _ in drawn)]
        assert 0.93 < np.mean(held) < 0.99
