"""The page as people and programs use it: in headless Chromium, and by Gradio's own client."""

from __future__ import annotations

import asyncio
import csv
import io
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from browsing import chromium
from drawing import png_bomb
from served import live
from truth_images import COUNT, truth_images

from frostline.serve.answers import PLACES
from frostline.serve.predictor import Predictor
from frostline.serve.settings import ServeSettings

pytest.importorskip("gradio", reason="the page is the extra 'page'")

WIDE, PHONE = 1280, 360
#: Gradio holds responses and event loops that only the collector closes, after the test that opened them.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:.future.no_silent_downcasting. is deprecated"),  # Gradio asks pandas for it
]


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    """A second one of the same model: the one of the service belongs to the service."""
    return Predictor("inside", precision="f32", batch=4)


@pytest.fixture(scope="module")
def app() -> Any:
    from frostline.serve.api import create_app

    models = {"small": Predictor("inside", precision="f32", batch=4)}
    return create_app(models, ServeSettings(page=True, max_request_bytes=20_000_000))


@pytest.fixture(scope="module")
def blocks(app: Any) -> Any:
    """What Gradio serves."""
    return app.routes[-1].app.app.get_blocks()


@pytest.fixture(scope="module")
def page(app: Any) -> Iterator[str]:
    with live(app) as port:
        yield f"http://127.0.0.1:{port}/"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream") as found:
        yield found


@pytest.fixture
def drawings(tmp_path: Path) -> dict[str, Path]:
    from frostline.serve.page_examples import write_drawings

    return write_drawings(tmp_path / "drawings")


@pytest.fixture
def archive(tmp_path: Path, drawings: dict[str, Path]) -> Path:
    path = tmp_path / "holiday.zip"
    with zipfile.ZipFile(path, "w") as packed:
        for name, file in drawings.items():
            packed.write(file, f"photos/{name}.png")
        packed.writestr("photos/<b>broken</b>.jpg", b"\xff\xd8\xff\xe0 nothing more")
        packed.writestr("photos/bomb.png", png_bomb())
        packed.writestr("notes.txt", "no picture")
    return path


def opened(browser: Any, address: str, width: int = WIDE, theme: str = "light") -> tuple[Any, list[str]]:
    """A visit, and every address that it asks for."""
    visit = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=theme).new_page()
    asked: list[str] = []
    visit.on("request", lambda request: asked.append(request.url))
    visit.goto(address)
    visit.wait_for_selector("#fl-picture input[type=file]", state="attached")
    return visit, asked


def violations(visit: Any) -> list[tuple[str, str]]:
    """What axe finds serious or worse."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(visit).response["violations"]
    return [(row["id"], row["nodes"][0]["html"]) for row in found if row["impact"] in ("serious", "critical")]


def narrow(visit: Any, width: int) -> bool:
    return visit.evaluate("document.documentElement.scrollWidth") <= width


def test_a_picture_gets_its_three_likeliest_classes(
    browser: Any, page: str, drawings: dict[str, Path], predictor: Predictor
) -> None:
    visit, asked = opened(browser, page, PHONE)
    visit.set_input_files("#fl-picture input[type=file]", drawings["Ship"])
    visit.wait_for_selector(".fl-heat img")
    told = visit.locator(".fl-bars li").all_inner_texts()
    p = predictor.predict(drawings["Ship"])[0]
    best = np.argsort(-p)[:3]
    assert [text.split("\n")[0] for text in told] == [predictor.classes[k] for k in best]
    assert told[0].split("\n")[-1] == f"{100 * p[best[0]]:.1f}\N{NO-BREAK SPACE}%"
    assert visit.inner_text(".fl-verdict").lower() == "ship"
    assert "what speaks for ship" in visit.get_attribute(".fl-heat img", "alt")
    assert narrow(visit, PHONE)
    visit.locator("#fl-picture button[aria-label]").first.click()  # nothing chosen: nothing said
    visit.wait_for_selector("#fl-answer .fl-empty")
    visit.set_input_files("#fl-picture input[type=file]", {"name": "x.jpg", "mimeType": "image/jpeg", "buffer": b"<html>no</html>"})
    visit.wait_for_selector(".fl-refused")
    assert "not an image: an HTML page" in visit.inner_text(".fl-refused")
    assert [url for url in asked if not url.startswith((page, "data:", "blob:"))] == []
    visit.context.close()


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, WIDE])
def test_every_tab_fits_and_stops_no_screen_reader(browser: Any, page: str, archive: Path, width: int, theme: str) -> None:
    visit, asked = opened(browser, page, width, theme)
    visit.get_by_role("button", name="Cup").click()
    visit.wait_for_selector(".fl-heat img")
    assert visit.inner_text(".fl-verdict") == "Not sure"
    assert (violations(visit), narrow(visit, width)) == ([], True)
    visit.get_by_role("tab", name="Many").click()
    visit.set_input_files("#fl-files input[type=file]", archive)
    visit.locator("#fl-files .download-link").wait_for()
    visit.get_by_role("button", name="Look at all of them").click()
    visit.wait_for_selector(".fl-gallery")
    assert (violations(visit), narrow(visit, width)) == ([], True)
    visit.get_by_role("tab", name="Model").click()
    visit.wait_for_selector(".fl-facts")
    assert (violations(visit), narrow(visit, width)) == ([], True)
    assert [url for url in asked if not url.startswith((page, "data:", "blob:"))] == []
    visit.context.close()


@pytest.mark.slow
def test_a_batch_gives_a_table_a_gallery_and_a_csv(browser: Any, page: str, archive: Path, drawings: dict[str, Path]) -> None:
    visit, _ = opened(browser, page)
    visit.get_by_role("tab", name="Many").click()
    visit.set_input_files("#fl-files input[type=file]", [archive, drawings["Car"]])
    visit.locator("#fl-files .download-link").nth(1).wait_for()
    visit.get_by_role("button", name="Look at all of them").click()
    visit.wait_for_selector(".fl-gallery")
    rows = visit.locator(".fl-table tbody tr").all_inner_texts()
    assert len(rows) == 9
    assert rows[6].startswith("holiday.zip/photos/<b>broken</b>.jpg\tNot read: ")
    assert "over-large" in rows[7] or "too large" in rows[7]
    shares = [
        float(text.split("\N{NO-BREAK SPACE}")[0].removeprefix("over "))
        for text in visit.locator(".fl-card .fl-number").all_inner_texts()
    ]
    assert shares == sorted(shares)
    assert len(shares) == 7
    with visit.expect_download() as coming:
        visit.get_by_role("link", name="Download CSV").or_(visit.get_by_role("button", name="Download CSV")).first.click()
    table = list(csv.DictReader(io.StringIO(Path(coming.value.path()).read_text())))
    assert table[0]["path"] == "holiday.zip/photos/Ship.png"
    assert sum(bool(row["error"]) for row in table) == 2
    visit.context.close()


@pytest.mark.slow
def test_camera_clipboard_and_keyboard_are_ways_in_too(browser: Any, page: str) -> None:
    visit, _ = opened(browser, page)
    visit.context.grant_permissions(["camera", "clipboard-read", "clipboard-write"])
    visit.get_by_label("Capture from camera").click()
    visit.get_by_text("Click to Access Webcam").click()
    visit.wait_for_function("document.querySelector('#fl-picture video')?.videoWidth > 0")
    visit.get_by_label("capture photo").click()
    visit.wait_for_selector(".fl-bars")
    visit.reload()
    visit.wait_for_selector("#fl-answer .fl-empty")
    visit.evaluate(
        """async () => {
          const canvas = document.createElement('canvas');
          const blob = await new Promise(done => canvas.toBlob(done, 'image/png'));
          await navigator.clipboard.write([new ClipboardItem({'image/png': blob})]);
        }"""
    )
    visit.get_by_label("Paste from clipboard").click()
    visit.wait_for_selector(".fl-bars")
    visit.reload()
    visit.wait_for_selector("#fl-answer .fl-empty")
    for _ in range(13):  # three tabs, four ways to a picture, then the drawings
        visit.keyboard.press("Tab")
    assert visit.evaluate("document.activeElement.innerText.trim()") == "Cup"
    visit.keyboard.press("Enter")
    visit.wait_for_selector(".fl-unsure")
    visit.context.close()


def test_gradios_own_client_drives_it(page: str, drawings: dict[str, Path], archive: Path, predictor: Predictor) -> None:
    from gradio_client import Client, handle_file

    client = Client(page, verbose=False, analytics_enabled=False)
    told = client.predict(handle_file(drawings["Bird"]), "small", api_name="/predict")
    p = predictor.predict(drawings["Bird"])[0]
    assert told["top"][0] == {"class": "bird", "probability": pytest.approx(float(p.max()), abs=1e-4)}
    assert told["sure"] is True
    rows = client.predict([handle_file(archive)], "small", api_name="/predict_many")
    assert [row["name"] for row in rows][:2] == ["holiday.zip/photos/Ship.png", "holiday.zip/photos/Airplane.png"]
    assert [bool(row.get("error")) for row in rows] == [False] * 6 + [True] * 2
    for path in ("http://127.0.0.1:1/x.png", "/etc/hostname"):
        call = {"data": [{"path": path, "meta": {"_type": "gradio.FileData"}}, "small"]}
        assert httpx.post(f"{page}gradio_api/call/predict", json=call).status_code == 422
    assert str(Path.cwd()) not in str(client.view_api(return_format="dict"))


@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.slow), 10])
def test_the_page_says_what_the_predictor_says(page: str, predictor: Predictor, tmp_path: Path, every: int) -> None:
    """One truth: 200 images of all formats and sizes, or a tenth of them."""
    from gradio_client import Client, handle_file

    with zipfile.ZipFile(tmp_path / "truth.zip", "w") as packed:
        files = dict(list(truth_images().items())[::every])
        for name, data in files.items():
            packed.writestr(name, data)
    rows = Client(page, verbose=False, analytics_enabled=False).predict(
        [handle_file(tmp_path / "truth.zip")], "small", api_name="/predict_many"
    )
    assert len(rows) == COUNT // every
    wanted = predictor.predict(list(files.values()))
    for row, p in zip(rows, wanted, strict=True):
        for each in row["top"]:
            assert abs(each["probability"] - p[predictor.classes.index(each["class"])]) <= 1e-4 + 10**-PLACES


def test_what_was_sent_is_cleared_and_the_drawings_stay(page: str, drawings: dict[str, Path], blocks: Any) -> None:
    from gradio.route_utils import delete_files_created_by_app
    from gradio_client import Client, handle_file

    from frostline.serve.page_gradio import RECEIVED, private_folder

    picture = drawings["Car"].rename(drawings["Car"].with_name("private.png"))
    Client(page, verbose=False, analytics_enabled=False).predict(handle_file(picture), "small", api_name="/predict")
    assert len(list((private_folder() / RECEIVED).rglob("private.png"))) == 1
    delete_files_created_by_app(blocks, age=None)
    assert list((private_folder() / RECEIVED).rglob("private.png")) == []
    assert len(list((private_folder() / "drawings").glob("*.png"))) == len(drawings)
    icons = [each.icon["path"] for each in blocks.blocks.values() if getattr(each, "icon", None)]
    assert len(icons) == len(drawings)
    assert [icon for icon in icons if not Path(icon).is_file()] == []


def test_files_lie_in_a_private_folder_of_the_process(page: str) -> None:
    from frostline.serve.page_gradio import private_folder

    folder = private_folder()
    assert os.environ["GRADIO_TEMP_DIR"] == str(folder / "received")
    assert folder.parent == Path(tempfile.gettempdir()).resolve()
    assert folder.stat().st_mode & 0o077 == 0


def test_several_processes_are_refused() -> None:
    from frostline.errors import UserError

    with pytest.raises(UserError, match="single process"):
        ServeSettings(page=True, workers=2)


def test_without_gradio_the_extra_is_named() -> None:
    code = "import sys; sys.modules['gradio'] = None; import frostline.serve.page_gradio"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'frostline[page]'" in ran.stderr


def test_a_spreadsheet_takes_no_name_for_a_formula() -> None:
    from frostline.serve.answers import Answer
    from frostline.serve.page_many import _row

    row = _row(Answer((("=2+2", 0.9), ("cat", 0.1)), name='=HYPERLINK("x").png'))
    assert (row.path, row.top) == ('\'=HYPERLINK("x").png', (("'=2+2", 0.9), ("cat", 0.1)))


def _collected(steps: Any) -> list[Any]:
    async def collect() -> list[Any]:
        return [step async for step in steps]

    # a thread of its own: once a browser has been driven, this one has a loop that runs
    with ThreadPoolExecutor(1) as own:
        return own.submit(asyncio.run, collect()).result()


def test_what_was_answered_before_a_refusal_is_kept(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from frostline.serve.answers import Answer
    from frostline.serve.page_many import ManyImages
    from frostline.serve.page_parts import Parts
    from frostline.serve.page_words import Pictured
    from frostline.serve.refusals import Overloaded

    async def rows(*_: Any) -> Any:
        yield [Pictured(Answer((("cat", 0.9),), name="one.png"), "")]
        raise Overloaded(3)

    monkeypatch.setattr(ManyImages, "rows", rows)
    from frostline.serve.page_gradio import private_folder

    many = ManyImages(Parts(app.state.service, private_folder()))
    *_, last = _collected(many.said([{"path": "x"}], None))
    assert "The service is busy" in last[0]
    assert "one.png" in last[1]
    assert Path(last[2]["value"]).read_text().splitlines()[1].startswith("one.png,1,cat")
