"""Drawings are well-formed, of one width, say what they are, and place what they show where it belongs."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from judged import predictions

from frostline.abstaining import coverage_curve
from frostline.calibrate import reliability
from frostline.reporting import charts, drawing
from frostline.reporting.svg import WIDTH, Scale, Svg

SPACE = "{http://www.w3.org/2000/svg}"


def read(svg: str) -> ElementTree.Element:
    root = ElementTree.fromstring(svg)
    assert root.get("viewBox", "").split()[2] == f"{WIDTH:g}"
    assert root.get("aria-label") == "alt"
    height = float(root.get("viewBox", "").split()[3])
    for mark in root.iter(f"{SPACE}text"):
        assert -1 <= float(mark.get("x", "")) <= WIDTH + 1
        assert 0 <= float(mark.get("y", "")) <= height
    for mark in root.iter(f"{SPACE}circle"):
        assert 0 <= float(mark.get("cx", "")) <= WIDTH
        assert 0 <= float(mark.get("cy", "")) <= height
    return root


def texts(root: ElementTree.Element) -> list[str]:
    return [mark.text or "" for mark in root.iter(f"{SPACE}text")]


def test_a_confusion_matrix_shows_counts_and_names() -> None:
    root = read(charts.confusion(np.array([[5, 1], [0, 1234]]), ["cat", "a name of very many letters"], "alt"))
    shown = texts(root)
    assert {"5", "1", "1234", "cat", "predicted", "true"} <= set(shown)
    assert "0" not in shown
    assert sum("…" in word for word in shown) == 2


def test_a_normalised_confusion_matrix_shows_percentages() -> None:
    counts = np.array([[7, 1, 0], [0, 0, 0], [0, 0, 3]])
    shown = texts(read(charts.confusion(counts, ["a", "b", "c"], "alt", percent=True)))
    assert [word for word in shown if word[0].isdigit()] == ["87.5", "12.5", "100.0"]
    assert "predicted, % of the true class" in shown


@pytest.mark.parametrize(("k", "counted", "named"), [(20, True, True), (30, False, True), (60, False, False), (250, False, False)])
def test_many_classes_lose_counts_then_names(k: int, counted: bool, named: bool) -> None:
    svg = charts.confusion(np.eye(k, dtype=np.int64) * 7, [f"c{i}" for i in range(k)], "alt")
    shown = texts(read(svg))
    assert ("7" in shown) == counted
    assert ("c1" in shown) == named
    assert len(svg) < 60_000


def test_reliability_and_coverage_draw_what_the_predictions_give() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 400)
    probabilities = rng.dirichlet([1, 1, 1], 400)
    p = predictions(labels, probabilities)
    table = reliability(p.probabilities, p.labels)
    root = read(charts.reliability_diagram({"before": table, "after": table}, "alt"))
    assert len(list(root.iter(f"{SPACE}circle"))) == 2 * np.count_nonzero(table.counts)
    assert {"before", "after", "confidence (%)", "right (%)"} <= set(texts(root))
    curve = coverage_curve(p)
    root = read(charts.coverage_chart(curve, [(0.5, float(curve.accuracy[-1]))], "alt"))
    assert "answered (%)" in texts(root)
    assert len(list(root.iter(f"{SPACE}path"))) == 3


def test_lines_mark_what_was_kept() -> None:
    svg = charts.lines(
        {"train": [(1, 0.5), (2, 0.9)], "validation": [(1, 0.4), (2, 0.8)]}, ("epoch", "%"), "alt", shares=True, kept=2
    )
    shown = texts(read(svg))
    assert {"train", "validation", "kept", "epoch", "1", "2"} <= set(shown)
    assert "1.5" not in shown
    read(charts.lines({"flat": [(1.0, 0.5)]}, ("images", "%"), "alt", shares=False, log=True))


def test_intervals_and_fronts() -> None:
    root = read(charts.intervals([("a", 0.9, (0.8, 0.95)), ("stated", 0.85, None)], "alt"))
    assert {"a: 90.00 %", "stated: 85.00 %"} <= set(texts(root))
    root = read(charts.front([("a", (1.0, 0.8)), ("b", (10.0, 0.9)), ("c", (20.0, 0.7))], [0, 1], "seconds", "alt"))
    assert {"1  a", "2  b", "3  c", "seconds"} <= set(texts(root))
    bold = [mark.text for mark in root.iter(f"{SPACE}text") if mark.get("font-weight") and "  " in (mark.text or "")]
    assert bold == ["1  a", "2  b"]


def blocks(*trained: int | None) -> list[dict[str, object]]:
    return [{"name": f"layer{i}", "holds": "", "parameters": 100, "trained": each} for i, each in enumerate(trained)]


def test_the_frost_line_stands_between_what_is_frozen_and_what_trained() -> None:
    root = read(drawing.network(blocks(0, 0, 100), "8×8 px", 10, 2, "alt"))
    heights = {mark.text: float(mark.get("y", "")) for mark in root.iter(f"{SPACE}text")}
    assert heights["layer2"] < heights["FROST LINE"] < heights["layer1"] < heights["layer0"]
    assert heights["probabilities of 10 classes"] < heights["layer2"]
    assert heights["layer0"] < heights["image, 8×8 px, seen as 2 views"]
    for trained in ((100, 100), (0, 0), (None, None)):
        assert "FROST LINE" not in texts(read(drawing.network(blocks(*trained), "8×8 px", 10, 1, "alt")))


def test_many_blocks_are_drawn_as_few_on_their_side_of_the_line() -> None:
    joined = drawing._joined(blocks(*[0] * 30, *[100] * 10))
    assert len(joined) == drawing.MOST_BLOCKS
    assert sum(block["parameters"] for block in joined) == 4000
    assert sum(block["trained"] for block in joined) == 1000
    assert all(block["trained"] in (0, block["parameters"]) for block in joined)
    assert joined[0]["name"].startswith("layer0 … layer")
    assert joined[-1]["name"].endswith("layer39")


def test_text_is_escaped() -> None:
    drawn = Svg(20)
    drawn.text(1, 10, "<a & b>")
    root = ElementTree.fromstring(drawn.render('"quoted" & <angled>'))
    assert texts(root) == ["<a & b>"]
    assert root.get("aria-label") == '"quoted" & <angled>'


def test_scales_have_round_ticks() -> None:
    assert Scale(0, 1, 0, 100).ticks() == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert Scale(1, 12, 0, 100).ticks(5, whole=True) == [3, 6, 9, 12]
    assert Scale(1, 1000, 0, 90, log=True).ticks() == [1, 10, 100, 1000]
    assert Scale(512, 1455, 0, 90, log=True).ticks() == pytest.approx([700, 1000])
    assert Scale(1, 100, 10, 30, log=True)(10) == pytest.approx(20)
    assert Scale(5, 5, 0, 10)(5) == 5
