"""The tab for one image: drop, paste or webcam; the answer in words and bars; where the model looks."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from frostline.decode import BadImage
from frostline.serve import page_words as words
from frostline.serve.answers import Answer
from frostline.serve.page_gradio import gr
from frostline.serve.page_parts import Parts
from frostline.serve.page_uploads import one, received
from frostline.serve.reading import read_one
from frostline.serve.refusals import Refused, of_image
from frostline.serve.service import Wish

Payload = Mapping[str, Any] | None


class OneImage:
    """What the tab does; every handler takes what the browser sent and never raises for it.

    Args:
        parts: see ``Parts``.
    """

    def __init__(self, parts: Parts) -> None:
        self.parts = parts

    async def answer(self, picture: Payload, name: str | None) -> Answer | None:
        """What the model says; None without a picture."""
        if not picture:
            return None
        try:
            model, data = self.parts.model(name), await asyncio.to_thread(self._bytes, picture)
            row = (await self.parts.probabilities(model, [data]))[0]
        except Refused as refused:
            return Answer(error=refused.told())
        return self.parts.service.say(model, row, str(picture.get("orig_name") or ""), Wish(self.parts.service.settings.top))

    async def said(self, picture: Payload, name: str | None) -> str:
        """The answer as HTML."""
        found = await self.answer(picture, name)
        if found is None:
            return words.WAITING
        model = self.parts.service.default if found.error else self.parts.model(name)
        service = self.parts.service
        return words.said(found, service.sure_from(model), len(model.predictor.classes), service.settings.sure_from is None)

    async def as_json(self, picture: Payload, name: str | None) -> dict[str, Any]:
        """The answer as ``POST /predict`` gives it, for programs."""
        found = await self.answer(picture, name)
        return found.as_json() if found else Answer(error=Refused(400, "There is no image.").told()).as_json()

    async def looked(self, picture: Payload, name: str | None) -> tuple[str, Any]:
        """Where the model looks for its best class, and the likeliest classes to choose from."""
        return await asyncio.to_thread(self._looked, picture, name, None)

    async def looked_for(self, picture: Payload, name: str | None, wanted: str | None) -> str:
        """Where the model looks for a class."""
        return (await asyncio.to_thread(self._looked, picture, name, wanted))[0]

    def _looked(self, picture: Payload, name: str | None, wanted: str | None) -> tuple[str, Any]:
        nothing = "", gr.update(choices=[], value=None, visible=False)
        if not picture:
            return nothing
        try:
            model = self.parts.model(name)
            stored = read_one(self._bytes(picture), model.predictor.card.preprocess, self.parts.service.settings.max_pixels)
            found = "" if isinstance(stored, Refused) else self.parts.explained(model, stored, wanted)
        except Refused:
            return nothing
        if isinstance(found, str):
            return words.note(found), nothing[1]
        choices = [each for each, _ in found.top]
        return words.heat(found, model.predictor.card.preprocess.stored), gr.update(
            choices=choices, value=found.explained[0], visible=len(choices) > 1
        )

    def _bytes(self, picture: Mapping[str, Any]) -> bytes:
        _, path = received(picture, self.parts.folder)
        try:
            return one(path, self.parts.service.settings.max_request_bytes)
        except BadImage as error:
            raise of_image(error) from error

    # what is seen

    def build(self, choice: gr.Dropdown, drawings: Mapping[str, Path]) -> None:
        """The tab's components and what they do."""
        with gr.Row(equal_height=False, elem_classes="fl-columns"):
            with gr.Column(scale=5, min_width=280):
                picture = gr.Image(
                    label="Your picture",
                    sources=["upload", "clipboard", "webcam"],
                    type="filepath",
                    image_mode=None,
                    height=340,
                    buttons=[],
                    elem_id="fl-picture",
                    alt_text="The picture that you chose",
                    placeholder="Drop a picture here, or click to choose one",
                )
                gr.HTML('<p class="fl-small fl-or">No picture at hand? Try a drawing:</p>')
                with gr.Row(elem_classes="fl-drawings"):
                    buttons = {name: _button(name, path) for name, path in drawings.items()}
            with gr.Column(scale=6, min_width=280):
                answer = gr.HTML(words.WAITING, elem_id="fl-answer")
                seen = gr.HTML("", elem_id="fl-seen")
                wanted = gr.Radio([], label="Show what speaks for", visible=False, elem_id="fl-wanted")
        result = gr.JSON(visible=False)
        ask: dict[str, Any] = {"inputs": [picture, choice], "preprocess": False, "api_visibility": "private"}
        looking = {**ask, "show_progress": "hidden", "concurrency_limit": 1, "concurrency_id": "looks"}
        for event in (picture.change, choice.change):
            answered = event(self.said, outputs=answer, show_progress="minimal", **ask)
            answered.then(self.looked, outputs=[seen, wanted], **looking)
        wanted.input(self.looked_for, outputs=seen, **{**looking, "inputs": [picture, choice, wanted]})
        for name, button in buttons.items():
            button.click(_giving(drawings[name]), outputs=picture, show_progress="hidden", api_visibility="private")
        gr.Button(visible=False).click(self.as_json, inputs=[picture, choice], outputs=result, preprocess=False, api_name="predict")


def _button(name: str, path: Path) -> gr.Button:
    button = gr.Button(name, icon=str(path), size="sm", min_width=90, elem_classes="fl-drawing")
    if button.icon:  # Gradio copies it, and would delete the copy with what people have sent
        button.keep_in_cache.add(button.icon["path"])
    return button


def _giving(path: Path) -> Any:
    return lambda: str(path)
