"""What the page says: in words that fit the numbers, and nothing in a name becomes HTML."""

import numpy as np
import pytest

from frostline.serve import page_words as words
from frostline.serve.answers import answer
from frostline.serve.page_words import Pictured
from frostline.serve.refusals import Refused

CLASSES = ("cat", "<b>dog</b>", "owl")


def said(*p, sure_from=0.9):
    return answer(np.array(p, np.float32), CLASSES, 3, sure_from, name="<i>.jpg")


@pytest.mark.parametrize(
    ("p", "text"),
    [(0.5, "50.0 %"), (0.99951, "over 99.9 %"), (1.0, "100.0 %"), (0.0004, "under 0.1 %"), (0.0, "0.0 %"), (0.973, "97.3 %")],
)
def test_percents_are_never_falsely_certain(p, text):
    assert words.percent(p) == text.replace(" %", "\N{NO-BREAK SPACE}%")


def test_a_sure_answer_is_said_by_name():
    html = words.said(said(0.95, 0.03, 0.02), 0.9, 3)
    assert '<p class="fl-verdict">cat</p>' in html
    assert "99 of 100" in html
    assert html.count("<li>") == 3
    assert "width:95.00%" in html


def test_a_doubtful_answer_says_so_first():
    html = words.said(said(0.3, 0.6, 0.1), 0.9, 3)
    assert '<p class="fl-verdict">Not sure</p>' in html
    assert "only from 90.0\N{NO-BREAK SPACE}% on" in html
    assert "&lt;b&gt;dog&lt;/b&gt;" in html
    assert "<b>" not in html


@pytest.mark.parametrize("p", [(0.95, 0.03, 0.02), (0.3, 0.6, 0.1)])
def test_a_threshold_that_somebody_has_set_promises_nothing(p):
    html = words.said(said(*p, sure_from=0.9), 0.9, 3, measured=False)
    assert "from 90.0\N{NO-BREAK SPACE}% on" in html
    assert "99 of 100" not in html
    assert "stands by" not in html


def test_without_a_threshold_nothing_is_promised():
    html = words.said(said(0.95, 0.03, 0.02, sure_from=None), None, 3)
    assert "no threshold" in html
    assert "99 of 100" not in html


def test_a_refusal_gives_its_reason():
    html = words.refused(Refused(415, "No <image>.", "a JPEG", "text", "another file").told())
    for part in ("Not read", "No &lt;image&gt;.", "Expected: a JPEG", "Received: text", "Try: another file"):
        assert part in html


def test_tables_hold_the_first_rows_and_count_the_rest(monkeypatch):
    monkeypatch.setattr(words, "SHOWN_ROWS", 2)
    bad = answer(np.array([1.0], np.float32), ("a",), 1)
    rows = [said(0.95, 0.03, 0.02), *[said(0.3, 0.6, 0.1)] * 2, bad]
    html = words.table(rows)
    assert html.count("<tr>") == 3
    assert "2 more rows are in the CSV file." in html
    assert "&lt;i&gt;.jpg" in html
    assert words.summary(rows) == '<p class="fl-summary"><strong>4</strong> answered · <strong>2</strong> of them not sure</p>'


def test_a_gallery_has_a_text_for_every_picture():
    html = words.gallery([Pictured(said(0.3, 0.6, 0.1), "data:x"), Pictured(said(0.95, 0.03, 0.02), "data:y")], 2)
    assert html.count("<img") == html.count("alt=") == 2
    assert "&lt;i&gt;.jpg: cat, 95.0\N{NO-BREAK SPACE}%" in html
    assert ", not sure" in html
    assert words.gallery([], 0) == ""
