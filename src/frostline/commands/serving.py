"""``frostline serve``."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from frostline.commands.options import PrecisionOption


def serve(
    model: Annotated[
        list[str] | None,
        typer.Option(help="A run or a model directory, or NAME=FOLDER; several may be given. Default: the classifier inside."),
    ] = None,
    host: Annotated[str, typer.Option(help="Where to listen. 0.0.0.0: reachable from the network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8000,
    workers: Annotated[int, typer.Option(min=1, help="Processes; the cores are shared among them.")] = 1,
    api_key: Annotated[
        str,
        typer.Option(envvar="FROSTLINE_API_KEY", help="What clients must show; better set in the environment."),
    ] = "",
    page: Annotated[
        bool | None, typer.Option("--page/--no-page", help="The page at /. Default: with one worker, where the extra 'page' is.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Classes named for each image.")] = 3,
    sure: Annotated[float | None, typer.Option(min=0, max=1, help='Below this: "not sure". Default: the model\'s.')] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images computed together.")] = 4,
    wait_ms: Annotated[float, typer.Option(min=0, max=60_000, help="How long a batch waits for images that are being read.")] = 2.0,
    queue: Annotated[int, typer.Option(min=1, help="Images waiting at most; more are refused with 503.")] = 256,
    max_request_mb: Annotated[int, typer.Option(min=1, help="Largest request, in MiB.")] = 32,
    max_images: Annotated[int, typer.Option(min=1, help="Images in one request at most.")] = 64,
    max_megapixels: Annotated[float, typer.Option(min=0.01, max=10_000, help="Largest image, in millions of pixels.")] = 50,
    timeout: Annotated[float, typer.Option(min=0.1, max=86_400, help="Seconds for a request to arrive, and for its answer.")] = 30,
    cors: Annotated[list[str] | None, typer.Option(help="An origin whose pages may call the service. Default: none.")] = None,
    log_level: Annotated[Literal["debug", "info", "warning", "error"], typer.Option(help="What is logged.")] = "info",
    precision: PrecisionOption = None,
) -> None:
    """Serve models over HTTP: POST /predict, the Open Inference Protocol at /v2, /docs, and a page."""
    from frostline.inside import MODEL
    from frostline.progress import say
    from frostline.serve import running
    from frostline.serve.settings import ServeSettings

    with_page = (running.page_installed() and workers == 1) if page is None else page
    if page is None and not with_page:
        say("Without the page: it needs a single worker." if workers > 1 else "Without the page: pip install 'frostline[page]'.")
    settings = ServeSettings(
        host=host,
        port=port,
        top=top,
        sure_from=sure,
        max_request_bytes=max_request_mb * 2**20,
        max_images=max_images,
        max_pixels=int(max_megapixels * 1_000_000),
        queue_size=queue,
        batch=batch,
        wait_ms=wait_ms,
        timeout_s=timeout,
        api_key=api_key,
        workers=workers,
        page=with_page,
        cors_origins=tuple(cors or ()),
    )
    models = running.named(model or [MODEL])
    running.serve(running.Application(models, precision or "auto", settings, log_level))
