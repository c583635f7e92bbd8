"""The tab for many images: files or ZIPs in; a table, a CSV file and a gallery out. Bad files are rows with their reason."""

from __future__ import annotations

import asyncio
import io
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from frostline.decode import BadImage, decode_rgb
from frostline.files import write_text
from frostline.predicting.batch import write_rows
from frostline.predicting.row_formats import Row
from frostline.serve import page_words as words
from frostline.serve.answers import Answer
from frostline.serve.page_gradio import RECEIVED, gr
from frostline.serve.page_parts import Parts
from frostline.serve.page_uploads import images, received
from frostline.serve.page_words import Pictured
from frostline.serve.refusals import Refused, of_image
from frostline.serve.service import Model, Wish

#: Images that are read and computed together, and the bytes from which on fewer are.
AT_ONCE, HEAVY = 16, 2**26
#: Pictures shown, and their pixels a side.
MOST_SHOWN, SIDE = 120, 112
Sent = Sequence[Mapping[str, Any]] | None
_NOTHING = words.empty("The answers appear here: a table, a CSV file to keep, and the pictures, least sure first.")


class ManyImages:
    """What the tab does; see ``OneImage``."""

    def __init__(self, parts: Parts) -> None:
        self.parts, self.download = parts, gr.DownloadButton(render=False)

    async def rows(self, files: Sequence[Mapping[str, Any]], name: str | None) -> AsyncIterator[list[Pictured]]:
        """Answers for all images of these files, in blocks, in order.

        Raises:
            Refused: a file is not here any more, there is no such model, there are too many, or the service stays busy.
        """
        model = self.parts.model(name)
        found = images([received(each, self.parts.folder) for each in files], self.parts.service.settings.max_request_bytes)
        most = min(AT_ONCE, model.batcher.queue_size)  # a block that the queue never has room for would wait for ever
        while block := await asyncio.to_thread(_next, found, most):
            yield await self._block(model, block)

    async def _block(self, model: Model, block: Sequence[tuple[str, bytes | BadImage]]) -> list[Pictured]:
        service, good = self.parts.service, [data for _, data in block if isinstance(data, bytes)]
        found = iter(await self.parts.probabilities(model, good) if good else ())
        rows = [of_image(data) if isinstance(data, BadImage) else next(found) for _, data in block]
        wish = Wish(service.settings.top)
        told = [service.say(model, row, name, wish) for row, (name, _) in zip(rows, block, strict=True)]
        return await asyncio.to_thread(self._pictured, told, [data for _, data in block])

    def _pictured(self, told: Sequence[Answer], sent: Sequence[bytes | BadImage]) -> list[Pictured]:
        most = self.parts.service.settings.max_pixels
        return [
            Pictured(answer, _small(data, most) if answer.error is None and isinstance(data, bytes) else "")
            for answer, data in zip(told, sent, strict=True)
        ]

    async def said(self, files: Sent, name: str | None) -> AsyncIterator[tuple[Any, ...]]:
        """Summary, table, CSV file and gallery, as HTML; the summary counts while the batch is at work."""
        if not files:
            yield _NOTHING, "", gr.update(visible=False), ""
            return
        shown = _Shown()
        try:
            async for block in self.rows(files, name):
                shown.add(block)
                yield words.progress(len(shown.answers)), gr.skip(), gr.skip(), gr.skip()
        except Refused as refused:
            said = words.refused(refused.told())
            if not shown.answers:
                yield said, "", gr.update(visible=False), ""
                return
            said += words.note("These were answered before:")
        else:
            said = ""
        path = await asyncio.to_thread(self._csv, shown.answers)
        ready = gr.update(value=str(path), visible=True)
        yield said + words.summary(shown.answers), words.table(shown.answers), ready, words.gallery(*shown.sorted())

    async def as_json(self, files: Sent, name: str | None) -> list[dict[str, Any]]:
        """The answers as ``POST /predict`` gives them, for programs."""
        try:
            return [each.answer.as_json() async for block in self.rows(files or (), name) for each in block]
        except Refused as refused:
            return [Answer(error=refused.told()).as_json()]

    def _csv(self, answers: Sequence[Answer]) -> Path:
        """The file to download, as ``frostline predict --format csv`` writes it, among the page's files: deleted as they are.

        People open it with a spreadsheet, which takes names that begin so for formulas: these get an apostrophe.
        """
        text = io.StringIO()
        write_rows((_row(answer) for answer in answers), "csv", text)
        path = Path(tempfile.mkdtemp(dir=self.parts.folder / RECEIVED)) / "frostline.csv"
        write_text(path, text.getvalue())
        self.download.temp_files.add(str(path))
        return path

    # what is seen

    def build(self, choice: gr.Dropdown) -> None:
        """The tab's components and what they do."""
        files = gr.File(
            label="Your pictures",
            file_count="multiple",
            file_types=["image", ".zip"],
            height=200,
            elem_id="fl-files",
        )
        with gr.Row():
            start = gr.Button("Look at all of them", variant="primary", elem_id="fl-start", scale=0, min_width=220)
            self.download = gr.DownloadButton("Download CSV", visible=False, elem_id="fl-csv", scale=0, min_width=180)
        summary = gr.HTML(_NOTHING, elem_id="fl-summary")
        table = gr.HTML("", elem_id="fl-rows")
        gallery = gr.HTML("", elem_id="fl-pictures")
        result = gr.JSON(visible=False)
        ask: dict[str, Any] = {"inputs": [files, choice], "preprocess": False, "concurrency_limit": 2, "concurrency_id": "many"}
        outputs = [summary, table, self.download, gallery]
        running = start.click(self.said, outputs=outputs, show_progress="hidden", api_visibility="private", **ask)
        choice.change(_cleared, outputs=outputs, show_progress="hidden", api_visibility="private", cancels=[running])
        gr.Button(visible=False).click(self.as_json, outputs=result, api_name="predict_many", **ask)


def _cleared() -> tuple[Any, ...]:
    """Another model was chosen: what is shown was said by the one before."""
    return _NOTHING, "", gr.update(visible=False), ""


class _Shown:
    """Answers as they come, and the pictures to show: the least and the most sure ones."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self._pictures: list[Pictured] = []

    def add(self, block: Sequence[Pictured]) -> None:
        self.answers += [each.answer for each in block]
        self._pictures += [each for each in block if each.picture]
        self._pictures.sort(key=lambda each: each.confidence)
        if len(self._pictures) > MOST_SHOWN:
            self._pictures[MOST_SHOWN // 2 : -MOST_SHOWN // 2] = []

    def sorted(self) -> tuple[list[Pictured], int]:
        """The pictures, least sure first, and how many answers they are of."""
        return self._pictures, sum(answer.error is None for answer in self.answers)


def _next(found: Iterator[tuple[str, bytes | BadImage]], most: int) -> list[tuple[str, bytes | BadImage]]:
    block: list[tuple[str, bytes | BadImage]] = []
    weight = 0
    for name, data in found:
        block.append((name, data))
        weight += 0 if isinstance(data, BadImage) else len(data)
        if len(block) == most or weight > HEAVY:
            break
    return block


def _small(data: bytes, max_pixels: int) -> str:
    """A picture for the gallery, no larger than it is shown."""
    try:
        image = decode_rgb(data, at_least=(SIDE, SIDE), max_pixels=max_pixels)
    except BadImage:  # it was read a moment ago
        return ""
    image.thumbnail((2 * SIDE, 2 * SIDE))
    return words.data_uri(np.asarray(image), "JPEG")


def _row(answer: Answer) -> Row:
    top = tuple((_no_formula(name), p) for name, p in answer.top)
    return Row(_no_formula(answer.name), top, answer.error["reason"] if answer.error else "", answer.sure)


def _no_formula(text: str) -> str:
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
