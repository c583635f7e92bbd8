"""``frostline evaluate``, ``compare`` and ``inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from frostline.commands.options import Data, Json, PrecisionOption, Strict, Unknown, print_json


def evaluate(
    model: Annotated[Path, typer.Argument(help="A run or a model directory.")],
    data: Data,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    json: Json = False,
    save: Annotated[Path | None, typer.Option(help="Write the predictions to this .npz file.")] = None,
    corruptions: Annotated[
        bool, typer.Option("--corruptions", help="Judge on corrupted images instead; the record and its pictures go to --out.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="With --corruptions: the folder of the record and its pictures. Default: shift.")
    ] = None,
    most: Annotated[int | None, typer.Option(min=0, help="With --corruptions: so many images only. Default: all.")] = None,
    wanted: Annotated[
        float | None,
        typer.Option(help="An accuracy, such as 0.97: what the threshold that the run's validation gives for it does here."),
    ] = None,
    sets: Annotated[
        float | None, typer.Option(help="A coverage of the model's card, such as 0.95: how often label sets hold the truth here.")
    ] = None,
    precision: PrecisionOption = None,
    strict: Strict = False,
    unknown_as_wrong: Unknown = False,
) -> None:
    """Judge a saved model on a split of some data."""
    from frostline import show
    from frostline.files import check_place
    from frostline.judge import evaluate as judge

    _check_together(corruptions, save, out, most)
    place = (out or Path("shift")) / "shift.json" if corruptions else save
    if place is not None:
        check_place(place)
    options: dict[str, Any] = {"precision": precision or "auto", "strict": strict, "unknown_as_wrong": unknown_as_wrong}
    if corruptions and not (wanted is None and sets is None):
        raise typer.BadParameter("--wanted and --sets are judged on images as they are, without --corruptions.")
    if corruptions:
        from frostline.shifts.shift import judge_shift, keep

        folder = out or Path("shift")
        record = judge_shift(model, data, split, most=most or 0, **options)
        keep(record, folder)
        print_json(record) if json else show.shift(record, folder)
        return
    predictions, scores = judge(model, data, split, wanted=wanted, sets=sets, **options)
    if save is not None:
        predictions.save(save)
    if json:
        print_json(scores)
    else:
        show.scores(scores)
        show.reached(scores)


def _check_together(corruptions: bool, save: Path | None, out: Path | None, most: int | None) -> None:
    """Options of ``evaluate`` that exclude one another."""
    if corruptions and save is not None:
        raise typer.BadParameter("--corruptions keeps no predictions, so there is nothing for --save: leave one of them out.")
    if not corruptions and (out is not None or most is not None):
        raise typer.BadParameter("--out and --most go with --corruptions; predictions are written with --save.")


def inspect(
    data: Data,
    backbone: Annotated[
        str | None,
        typer.Option(help="A network to look for label errors, duplicates and odd images with; see 'frostline models'."),
    ] = None,
    weights: Annotated[str | None, typer.Option(help="As for train; names the network where --backbone does not.")] = None,
    device: Annotated[str | None, typer.Option(help="Of the network: auto, cpu, cuda or mps.")] = None,
    out: Annotated[
        Path,
        typer.Option(help="Where the record, the tables and the pictures go, in place of an earlier inspection's."),
    ] = Path("inspection"),
    json: Json = False,
    strict: Strict = False,
) -> None:
    """Look at data before training: counts, sizes, near duplicates within and across splits, odd images, likely label errors."""
    from frostline import show
    from frostline.auditing import audit, features
    from frostline.data.sources import load_source
    from frostline.files import check_place

    check_place(out / "audit.json")
    settings = features.settings_for(backbone, weights, device)
    source = load_source(data, strict=strict, training=False)
    record = audit.inspect(source) if settings is None else features.inspect(source, settings)
    audit.keep(record, source, out)
    print_json(record) if json else show.inspection(record, out)


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run directories.")],
    plot: Annotated[
        Literal["time", "pareto"] | None,
        typer.Option(help="A picture. time: validation accuracy against seconds; pareto: test accuracy against cost."),
    ] = None,
    output: Annotated[Path, typer.Option(help="Where the picture goes.")] = Path("compare.png"),
    json: Json = False,
) -> None:
    """Compare finished runs on the same test images: a table, and a paired test for each two."""
    from frostline import show
    from frostline.compare import distinct, on_the_same_images, pairs, stated, table, tested
    from frostline.errors import UserError
    from frostline.files import check_place
    from frostline.progress import say
    from frostline.runs import Run

    if plot is not None:
        if output.suffix.lower() != ".png":
            raise UserError("Pictures are PNGs.", expected="a name that ends in .png", received=str(output))
        check_place(output)
    opened = [Run.open(folder) for folder in runs]
    distinct(opened)
    judged = tested(opened) if plot == "time" else opened  # the picture needs no test images
    if len(judged) < len(opened):
        say(f"Not judged on test images: {', '.join(run.name for run in opened if run not in judged)}. The table leaves them out.")
    together = len(judged) > 1 and (plot != "time" or on_the_same_images(judged))
    if len(judged) > 1 and not together:
        say("These runs were judged on different test images: they are not compared in pairs.", "yellow")
    rows, tests = table(judged), pairs(judged) if together else []
    known = stated(opened)
    if json:
        print_json({"runs": rows, "stated": known, "pairs": tests})
    else:
        show.comparison([*rows, *known], tests)
    if plot is not None:
        from frostline.compare import curves
        from frostline.plots_compare import accuracy_against_seconds, pareto

        if plot == "time":
            accuracy_against_seconds(curves(opened), output, "Accuracy against time")
        else:
            pareto(rows, output, "Accuracy against what it costs")
        say(f"Picture: {output}")
