"""The web page: Gradio, mounted at "/" of the service. It asks no other host for anything and reports to nobody (extra "page")."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from PIL import Image, ImageDraw

from frostline.serve.metrics import Metrics
from frostline.serve.page_examples import write_drawings
from frostline.serve.page_gradio import RECEIVED, bound_what_waits, gr, private_folder
from frostline.serve.page_guard import Guard
from frostline.serve.page_many import ManyImages
from frostline.serve.page_model import about
from frostline.serve.page_one import OneImage
from frostline.serve.page_parts import Parts
from frostline.serve.predictor import Predictor
from frostline.serve.service import Service
from frostline.serve.settings import ServeSettings

#: Bytes of one upload, and of all files of the page together.
LARGEST_UPLOAD, MOST_KEPT = 256 * 2**20, 2 * 2**30
#: Seconds between two clearings, and after which a file is deleted.
CLEARED_EVERY_S, KEPT_S = 300, 1500
#: Where, in the page's folder, the drawings to try are.
DRAWINGS = "drawings"
_LOOKS = Path(__file__).with_name("page.css")
_SYSTEM_FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "DejaVu Sans", "sans-serif")


def mount_page(app: FastAPI, predictors: Mapping[str, Predictor], settings: ServeSettings) -> FastAPI:
    """The same application with the page at "/". Routes that it has already come first.

    Where ``app.state.service`` is a ``Service``, the page's images go through its queues, else through queues of the page's own.

    Args:
        app: to mount on, last.
        predictors: by name; the first is the default.
        settings: of the service.
    """
    service = getattr(app.state, "service", None) or Service(predictors, settings, Metrics())
    folder = private_folder()
    blocks = _build(Parts(service, folder))
    app = gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        footer_links=[],
        run_history=False,
        allowed_paths=[str(folder / DRAWINGS)],
        favicon_path=str(_icon(folder / "icon.png")),
        show_error=False,
        max_file_size=LARGEST_UPLOAD,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=_theme(),
        css_paths=[_LOOKS],
        js=_MENDED,
    )
    bound_what_waits(blocks)
    mounted = app.routes[-1]
    mounted.app = Guard(  # type: ignore[attr-defined]
        mounted.app,  # type: ignore[attr-defined]
        folder=folder,
        received=folder / RECEIVED,
        largest_upload=LARGEST_UPLOAD,
        most_kept=MOST_KEPT,
        lifetime_s=KEPT_S,
        timeout_s=settings.timeout_s,
        keep=[Path(path) for block in blocks.blocks.values() for path in block.keep_in_cache],
        routes=app.routes[:-1],
    )
    return app


def build_page(predictors: Mapping[str, Predictor], settings: ServeSettings) -> gr.Blocks:
    """The page alone, with queues of its own.

    Args:
        predictors: by name; the first is the default.
        settings: of the service.
    """
    return _build(Parts(Service(predictors, settings, Metrics()), private_folder()))


def _build(parts: Parts) -> gr.Blocks:
    service, names = parts.service, list(parts.service.models)
    drawings = write_drawings(parts.folder / DRAWINGS)
    with gr.Blocks(title="Frostline", analytics_enabled=False, delete_cache=(CLEARED_EVERY_S, KEPT_S)) as blocks:
        gr.HTML(_head(service), elem_id="fl-top")
        choice = gr.Dropdown(names, value=names[0], label="Model", visible=len(names) > 1, interactive=True, elem_id="fl-model")
        with gr.Tabs(elem_id="fl-tabs"):
            with gr.Tab("One image"):
                OneImage(parts).build(choice, drawings)
            with gr.Tab("Many"):
                ManyImages(parts).build(choice)
            with gr.Tab("Model"):
                told = gr.HTML(about(service.default.predictor, service.settings), elem_id="fl-card")
        if len(names) > 1:
            choice.change(_about(parts), choice, told, show_progress="hidden", api_visibility="private")
        gr.HTML(_foot())
    blocks.queue(max_size=service.settings.queue_size, default_concurrency_limit=4)
    return blocks


def _about(parts: Parts) -> Any:
    return lambda name: about(parts.model(name).predictor, parts.service.settings)


def _head(service: Service) -> str:
    classes = service.default.predictor.classes
    known = ", ".join(map(escape, classes[:10])) + (f" and {len(classes) - 10:,} more" if len(classes) > 10 else "")
    which = f"The model tells these apart: {known}." if len(service.models) == 1 else "Choose a model and a picture."
    return f"<header><h1>What is in this picture?</h1><p>{which}</p></header>"


def _foot() -> str:
    kept = f"{(CLEARED_EVERY_S + KEPT_S) // 60} minutes"
    return (
        "<footer><p>Pictures stay on this server: they are used for the answer, deleted after at most "
        f'{kept}, and sent nowhere else. Programs use the <a href="docs">API</a>. Made with Frostline.</p></footer>'
    )


def _theme() -> Any:
    ice = gr.themes.Color(
        "#eef5fa", "#d9e9f4", "#b5d4e9", "#86b8da", "#4f97c6", "#1f78b0", "#0a5f94", "#094f7b", "#083f62", "#062f4a", "#04202f"
    )
    return gr.themes.Base(
        primary_hue=ice,
        secondary_hue=ice,
        neutral_hue="slate",
        font=list(_SYSTEM_FONTS),
        font_mono=["ui-monospace", "DejaVu Sans Mono", "monospace"],
        radius_size="md",
    ).set(
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_700",
        button_primary_text_color="white",
        body_text_color="#1b2733",
        body_text_color_subdued="#51606e",
        body_text_color_subdued_dark="#a9b6c3",
        body_background_fill="#ffffff",
        body_background_fill_dark="#10161d",
        block_background_fill_dark="#161e27",
        background_fill_primary_dark="#161e27",
        background_fill_secondary_dark="#10161d",
        border_color_primary="#d5dde3",
        border_color_primary_dark="#2c3946",
        block_label_text_color="#51606e",
        block_label_text_color_dark="#a9b6c3",
    )


def _icon(path: Path) -> Path:
    """A square with a line across: what is below it is frozen."""
    image = Image.new("RGB", (64, 64), "#0a5f94")
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 34, 64, 64), fill="#dcecf6")
    draw.line((0, 34, 64, 34), fill="#ffffff", width=5)
    image.save(path)
    return path


#: What Gradio's own parts lack for those who do not see them: the answer is said when it changes; of two
#: buttons, one inside the other, only the inner one is a button, and it has a name.
_MENDED = """
() => {
  document.documentElement.lang = 'en';
  for (const id of ['fl-answer', 'fl-summary']) {
    document.getElementById(id)?.setAttribute('aria-live', 'polite');
  }
  const mend = () => document.querySelectorAll('button button').forEach(inner => {
    const outer = inner.parentElement.closest('button');
    outer.role = 'group';
    outer.tabIndex = -1;
    outer.ariaLabel = outer.title = inner.ariaLabel = 'Add files';
  });
  new MutationObserver(mend).observe(document.body, {childList: true, subtree: true});
}
"""
