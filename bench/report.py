"""How long `frostline report` takes, how large its page is, and what a browser finds amiss in it.

    python bench/report.py RUN RUN RUN

The command runs in a process of its own, imports included; then headless Chromium opens the page at 360 and 1,280 px. Appends a
row to results/report.csv: runs, test images of each, seconds, bytes of the HTML, requests that leave the page, violations that
axe-core calls serious or critical, px by which the page is wider than the screen.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from common import append_rows
from inputs import versions
from playwright.sync_api import Browser, sync_playwright

from frostline.runs import Run


def looked_at(browser: Browser, page: Path, width: int) -> tuple[int, int, int]:
    """Requests outside, serious violations, px too wide."""
    tab = browser.new_page(viewport={"width": width, "height": 800})
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(page.as_uri())
    found = Axe().run(tab).response["violations"]
    wider = tab.evaluate("document.documentElement.scrollWidth") - width
    outside = [url for url in asked if url != page.as_uri() and not url.startswith("data:")]
    return len(outside), sum(row["impact"] in ("serious", "critical") for row in found), max(0, wider)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+")
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as out, sync_playwright() as playwright:
        started = time.monotonic()
        subprocess.run([sys.executable, "-m", "frostline", "report", *runs, "--out", out], check=True)
        seconds = time.monotonic() - started
        page = Path(out) / "report.html"
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        outside, violations, wider = (
            max(each) for each in zip(*(looked_at(browser, page, width) for width in (360, 1280)), strict=True)
        )
        size = page.stat().st_size
        browser.close()
    row = {
        "runs": len(runs),
        "images": len(Run.open(Path(runs[0])).predictions("test")),
        "seconds": round(seconds, 2),
        "bytes": size,
    }
    row |= {"requests": outside, "violations": violations, "px_too_wide": wider, "versions": versions()}
    append_rows("report", [row])


if __name__ == "__main__":
    main()
