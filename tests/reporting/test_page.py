"""The page in a real browser: nothing is asked for, nothing is wider than a phone, nothing stops a screen reader."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import chromium
from reported import finished_run

from frostline.reporting.document import Document, Heading, Section, Text, table
from frostline.reporting.page import markdown
from frostline.reporting.write import report


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("report")
    runs = [
        finished_run(root / "a-run-of-a-rather-long-name", 2.0),
        finished_run(root / "b", 3.0),
        finished_run(root / "c", staged=True),
    ]
    return report(runs, root / "out")[0]


@pytest.mark.parametrize("width", [360, 1280])
def test_a_browser_asks_for_nothing_and_finds_nothing_amiss(browser: Any, written: Path, width: int) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page = browser.new_page(viewport={"width": width, "height": 800})
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(written.as_uri())
    found = Axe().run(page).response["violations"]
    assert [url for url in asked if not url.startswith("data:")] == [written.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert [(row["id"], row["nodes"][0]["html"]) for row in found if row["impact"] in ("serious", "critical")] == []
    page.close()


def test_a_phone_shows_drawings_at_their_own_size(browser: Any, written: Path) -> None:
    page = browser.new_page(viewport={"width": 360, "height": 800})
    page.goto(written.as_uri())
    sizes = page.eval_on_selector_all("figure svg", "all => all.map(svg => svg.getBoundingClientRect().width)")
    assert len(sizes) > 15
    assert min(sizes) >= 320  # of 340: letters of 10 px stay above 9
    page.close()


def test_a_wide_table_scrolls_in_its_own_box_by_keyboard(browser: Any, written: Path) -> None:
    page = browser.new_page(viewport={"width": 360, "height": 800})
    page.goto(written.as_uri())
    box = page.locator("#models .scroll").first
    box.focus()
    assert box.evaluate("box => box.scrollWidth > box.clientWidth")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.activeElement.scrollLeft > 0")
    assert page.evaluate("window.scrollX") == 0
    page.close()


def test_nothing_in_a_name_becomes_markdown() -> None:
    section = Section(
        "key", "A *b*", (Heading("[c](d)"), Text("e\n# f <g>"), table("h|i", ("", "j_k"), [("l`m", "1 | 2")], emphasis=0))
    )
    text = markdown(Document("T", "S", (("Ship", "it"),), (section,)))
    assert text.splitlines()[-9:] == [
        "### \\[c\\](d)",
        "",
        "e \\# f \\<g\\>",
        "",
        "**h\\|i**",
        "",
        "|  | j\\_k |",
        "|---|---|",
        "| **l\\`m** | **1 \\| 2** |",
    ]
    assert "## A \\*b\\*" in text
    assert "1. **Ship:** it" in text
