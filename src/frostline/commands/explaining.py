"""``frostline explain``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from frostline.commands.options import DATA_HELP, Json, PrecisionOption, print_json


def explain(
    model: Annotated[Path, typer.Argument(help="A run or a model directory.")],
    images: Annotated[list[Path] | None, typer.Argument(help="Image files and folders of them.")] = None,
    data: Annotated[str | None, typer.Option(help=f"What it was trained from, where that has moved: {DATA_HELP}.")] = None,
    name: Annotated[str | None, typer.Option("--class", help="The class to explain. Default: the most probable one.")] = None,
    out: Annotated[Path, typer.Option(help="Where the pictures and the record go.")] = Path("explained"),
    method: Annotated[
        Literal["grad-cam", "occlusion"], typer.Option(help="occlusion hides parts of the image: for networks without a last map.")
    ] = "grad-cam",
    neighbours: Annotated[int, typer.Option(min=0, help="Training images to show that are most like it; 0: none.")] = 5,
    gallery: Annotated[
        bool, typer.Option("--gallery", help="Of a run: its most confident mistakes and its least certain hits, as pictures.")
    ] = False,
    split: Annotated[str | None, typer.Option(help="With --gallery: the predictions to look at. Default: test.")] = None,
    count: Annotated[int | None, typer.Option(min=1, help="With --gallery: pictures in each. Default: 24.")] = None,
    precision: PrecisionOption = None,
    json: Json = False,
) -> None:
    """Show why: where the model looks, and the training images most like; exit code 1 if some images could not be read."""
    from frostline import show
    from frostline.explaining import explain as explaining
    from frostline.explaining.galleries import make_galleries
    from frostline.files import check_place
    from frostline.serve.predictor import Predictor

    if gallery == bool(images):
        raise typer.BadParameter("Name images to explain, or --gallery for a run's own.")
    if not gallery and (split is not None or count is not None):
        raise typer.BadParameter("--split and --count go with --gallery.")
    check_place((out if out.exists() else out.parent) / "explain.json")  # a folder is made once there is something for it
    if gallery:
        record = make_galleries(model, data, split or "test", count or 24, out)
        print_json(record) if json else show.galleries(record, out)
        return
    predictor = Predictor(model, precision or "auto")
    if name is not None:
        explaining.class_number(predictor.classes, name)
    near = explaining.near_training_images(predictor, model, data) if neighbours else None
    record, failed = explaining.explain_files(explaining.Explainer(predictor, method, near), images or [], name, out, neighbours)
    print_json(record) if json else show.explanations(record, out)
    if failed:
        raise typer.Exit(1)
