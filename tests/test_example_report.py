"""The example that is committed: what `make example-report` last wrote."""

import re
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "example-report"


def test_it_is_small_and_self_contained():
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) <= 2_000_000
    page = (FOLDER / "report.html").read_text("utf-8")
    assert set(re.findall(r"https?://[^\"'\s<]+", page)) == {"http://www.w3.org/2000/svg"}
    assert not re.findall(r"(?:src|href)=\"(?!#|data:image/png;base64,)", page)


def test_it_is_made_of_digits_and_shows_a_frost_line():
    text = (FOLDER / "report.md").read_text("utf-8")
    assert "# Classifiers of digits" in text
    assert "cifar" not in text.lower()
    assert "The frost line lies below layer2.0" in text
    shown = set(re.findall(r"\]\((pictures/[^)]+)\)", text))
    assert shown == {f"pictures/{path.name}" for path in (FOLDER / "pictures").iterdir()}
