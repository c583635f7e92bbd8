from __future__ import annotations

import pytest

from frostline.reporting import words
from frostline.reporting.document import Figure, table


def test_columns_of_numbers_are_known() -> None:
    rows = [
        ("a", "1,234", "99.44 % (96.92 to 99.90 %)", "12.1 s", "conv", "–", "6e-08", "−4.44 (−9.63 to +0.84)"),
        ("b", "–", "85.00 %", "1.0 MB", "3.1", "–", "0.13", "+1.00 (0.00 to +2.00)"),
    ]
    assert table("t", tuple("abcdefgh"), rows).numeric == (False, True, True, True, False, False, True, True)


def test_a_row_of_another_length_is_an_error() -> None:
    with pytest.raises(ValueError, match="do not have 2 cells"):
        table("t", ("a", "b"), [("1",)])


def test_a_picture_knows_its_file() -> None:
    assert Figure("a", "", "", svg="<svg/>").file == "a.svg"
    assert Figure("a", "", "", png=b"x").file == "a.png"


def test_words() -> None:
    assert [words.percent(0.98765), words.percent(None), words.percent(1.0, 0)] == ["98.77 %", "–", "100 %"]
    assert words.with_interval(0.9, (0.85, 0.94)) == "90.00 % (85.00 to 94.00 %)"
    assert words.with_interval(0.9, None) == "90.00 %"
    assert [words.between((0.5, 1)), words.between(None)] == ["50.00 to 100.00 %", "–"]
    assert [words.duration(s) for s in (None, 42.06, 100, 7199, 7200)] == ["–", "42.1 s", "1.7 min", "120.0 min", "2.0 h"]
    assert [words.size(n) for n in (None, 340, 3_400_000, 25_300_000_000)] == ["–", "0.3 kB", "3.4 MB", "25.3 GB"]
    assert [words.listed(["a", "b", "c"][:n]) for n in range(4)] == ["", "a", "a and b", "a, b and c"]
    assert words.listed("abcdefgh", 3) == "a, b, c and 5 more"
    assert [words.counted(1, "image"), words.counted(1200, "image"), words.counted(2, "pair that is", "pairs that are")] == [
        "1 image",
        "1,200 images",
        "2 pairs that are",
    ]
    assert [words.signed(1.5), words.signed(-0.25)] == ["+1.50", "−0.25"]
    assert [words.number(None), words.number(0.12345), words.or_dash(""), words.or_dash(0)] == ["–", "0.1235", "–", "0"]
