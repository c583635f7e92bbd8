"""``frostline predict``."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from frostline.commands.options import PrecisionOption

#: What a shell reports of a program that a closed pipe has ended.
CLOSED_PIPE = 141


def predict(
    paths: Annotated[
        list[str],
        typer.Argument(
            help="Images, folders, quoted patterns, .zip, .tar and .tar.gz archives; - reads paths from standard input."
        ),
    ],
    model: Annotated[
        Path | None, typer.Option(help="A run, a model directory or a ZIP of one. Default: the classifier inside.")
    ] = None,
    recursive: Annotated[bool, typer.Option("--recursive/--no-recursive", help="Look into the folders of folders.")] = True,
    top: Annotated[int, typer.Option(min=1, help="Classes to show for each image.")] = 3,
    form: Annotated[
        str | None,
        typer.Option("--format", help="table, json, jsonl, csv or parquet. Default: by the ending of --output, else table."),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Write to this file, which appears when it is whole.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an --output (jsonl or csv) that was interrupted.")] = False,
    sure: Annotated[
        float | None,
        typer.Option(min=0, max=1, help='Below this probability: "not sure". Default: what gave 99 % right answers on validation.'),
    ] = None,
    sets: Annotated[
        float | None,
        typer.Option(help="Add the set of classes that holds the truth this often: a coverage of the model's card, such as 0.95."),
    ] = None,
    precision: PrecisionOption = None,
) -> None:
    """Classify images with a saved model; exit code 1 if some could not be read."""
    from frostline.inside import MODEL
    from frostline.predicting.batch import Asked, answered
    from frostline.predicting.listing import LIST, check_not_among, listed
    from frostline.predicting.row_formats import form_of
    from frostline.progress import say
    from frostline.serve.predictor import Predictor

    chosen = form_of(form, output)
    if resume and output is None:
        raise typer.BadParameter("--resume continues an --output; there is none.")
    if model is None:
        say("Model: the classifier inside, for CIFAR-10's ten classes; --model RUN is for your own.")
    if output is not None:
        check_not_among(output, paths)
    predictor = Predictor(model or MODEL, precision or "auto")
    sure_from = predictor.card.sure_from if sure is None else sure
    promise = None if sets is None else predictor.promise(sets)
    if promise is not None:
        say(str(promise))
    stdin = sys.stdin.buffer if LIST in paths else None
    items = partial(listed, paths, recursive=recursive, stdin=stdin)
    asked = Asked(items, top, sure_from, chosen, promise, counted=stdin is None)
    try:
        found = answered(predictor, asked, output, resume)
    except BrokenPipeError:  # whoever reads has had enough; the interpreter would complain when it flushes
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(CLOSED_PIPE) from None
    if found.failed:
        raise typer.Exit(1)
