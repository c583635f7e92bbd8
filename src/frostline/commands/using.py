"""``frostline predict``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from frostline.commands.options import PrecisionOption


def predict(
    paths: Annotated[list[Path], typer.Argument(help="Image files and folders of them.")],
    model: Annotated[Path | None, typer.Option(help="A run or a model directory. Default: the classifier inside.")] = None,
    top: Annotated[int, typer.Option(min=1, help="Classes to show for each image.")] = 3,
    form: Annotated[str, typer.Option("--format", help="table, json or csv.")] = "table",
    sure: Annotated[
        float | None,
        typer.Option(min=0, max=1, help='Below this probability: "not sure". Default: what gave 99 % right answers on validation.'),
    ] = None,
    precision: PrecisionOption = None,
) -> None:
    """Classify images with a saved model; exit code 1 if some could not be read."""
    from frostline.batch import predict_files, write_rows
    from frostline.inside import MODEL
    from frostline.progress import say
    from frostline.serve.predictor import Predictor

    if model is None:
        say("Model: the classifier inside, for CIFAR-10's ten classes; --model RUN is for your own.")
    predictor = Predictor(model or MODEL, precision or "auto")
    rows = predict_files(predictor, paths, top, predictor.card.sure_from if sure is None else sure)
    if write_rows(rows, form, sys.stdout):
        raise typer.Exit(1)
