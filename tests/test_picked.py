"""Which rows are worth a look, worked out by hand, and what is said of them."""

import numpy as np
import pytest
from judged import predictions

from frostline.picked import caption, described, least_certain_hits, most_confident_mistakes

#: Right, wrong at .6, wrong at .9, right at .4, unknown at .9, right at .4.
LABELS = [0, 0, 1, 2, -1, 2]
P = np.array([[0.7, 0.2, 0.1], [0.3, 0.6, 0.1], [0.9, 0.1, 0.0], [0.3, 0.3, 0.4], [0.0, 0.9, 0.1], [0.35, 0.25, 0.4]])


@pytest.fixture
def six():
    return predictions(LABELS, P)


def test_mistakes_are_the_most_confident_first_and_equals_in_order(six):
    found = most_confident_mistakes(six, 10)
    assert found.rows.tolist() == [2, 4, 1]
    assert found.labels.tolist() == [1, -1, 0]
    assert found.predicted.tolist() == [0, 1, 1]
    np.testing.assert_array_equal(found.probabilities, P[[2, 4, 1]])
    np.testing.assert_array_equal(found.confidence, [0.9, 0.9, 0.6])
    assert most_confident_mistakes(six, 1).rows.tolist() == [2]


def test_hits_are_the_least_certain_first(six):
    found = least_certain_hits(six, 2)
    assert found.rows.tolist() == [3, 5]
    assert found.labels.tolist() == found.predicted.tolist() == [2, 2]
    assert least_certain_hits(six, 10).rows.tolist() == [3, 5, 0]


def test_none_at_all():
    right, wrong = predictions([0], np.eye(2)[:1]), predictions([1], np.eye(2)[:1])
    assert len(most_confident_mistakes(right, 5)) == len(least_certain_hits(wrong, 5)) == 0
    assert described(most_confident_mistakes(right, 5), right) == []


def test_rows_are_described_and_captioned(six):
    first, unknown, _ = described(most_confident_mistakes(six, 3), six)
    wanted = {"row": 2, "id": "row/2", "true": "b", "predicted": "a", "probability": 0.9}
    assert first == {**wanted, "second": "b", "second_probability": 0.1}
    assert caption(first) == "a 90.0 %\nis b"
    assert unknown["true"] is None
    assert caption(unknown) == "b 90.0 %\nis of another class"
    assert caption(described(least_certain_hits(six, 1), six)[0]) == "c 40.0 %\na 30.0 %"
    one = predictions([0], np.ones((1, 1)))
    assert caption(described(least_certain_hits(one, 1), one)[0]) == "a 100.0 %"
