"""``frostline predict``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from frostline.commands.options import PrecisionOption


def predict(
    paths: Annotated[list[Path], typer.Argument(help="Image files and folders of them.")],
    model: Annotated[Path | None, typer.Option(help="A run or a model directory. Default: the newest run under runs/.")] = None,
    top: Annotated[int, typer.Option(min=1, help="Classes to show for each image.")] = 3,
    form: Annotated[str, typer.Option("--format", help="table, json or csv.")] = "table",
    precision: PrecisionOption = None,
) -> None:
    """Classify images with a saved model; exit code 1 if some could not be read."""
    from frostline.batch import predict_files, write_rows
    from frostline.serve.predictor import Predictor, newest_run

    rows = predict_files(Predictor(model or newest_run(), precision or "auto"), paths, top)
    if write_rows(rows, form, sys.stdout):
        raise typer.Exit(1)
