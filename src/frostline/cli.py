"""The commands. Each is wiring: parse, call one stage, print. Everything heavy is imported inside the command that needs it."""

from __future__ import annotations

import json as json_module
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from frostline import __version__
from frostline.errors import UserError

app = typer.Typer(
    name="frostline",
    help="Trains, judges and ships image classifiers on the hardware you have.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

#: The exit code that Typer gives where Ctrl-C ended a command.
INTERRUPTED = 130
#: Packages of the extra "train" that whole modules stand on; others are asked for where they are used.
TRAINING = ("torch", "torchvision", "timm", "lightning_fabric", "huggingface_hub")

DATA_HELP = "cifar10, cifar10:PATH, digits, a folder of class folders, or a table of path,label"
Data = Annotated[str, typer.Argument(help=DATA_HELP)]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
Strict = Annotated[bool, typer.Option("--strict", help="An unusable image is an error instead of being left out and listed.")]
Unknown = Annotated[bool, typer.Option("--unknown-as-wrong", help="Count images of classes that training lacks as mistakes.")]
PrecisionOption = Annotated[str | None, typer.Option("--precision", help="auto, bf16 or f32, of computing.")]


def _version(show: bool) -> None:
    if show:
        typer.echo(f"frostline {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None: ...


@app.command()
def train(
    data: Annotated[str | None, typer.Argument(help=DATA_HELP)] = None,
    recipe: Annotated[
        str | None, typer.Option(help="A named experiment; see 'frostline recipes'. Default: chosen, and said.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="Folder with config.json and model.safetensors, or a .safetensors file.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The run directory. Default: a new one under runs/.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a finished run in --out.")] = False,
    seed: Annotated[int | None, typer.Option(help="Of the split, the order and the weights.")] = None,
    seeds: Annotated[
        int | None, typer.Option(min=2, help="Train so many times, with seeds from --seed on; shows the spread.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps.")] = None,
    precision: PrecisionOption = None,
    views: Annotated[int | None, typer.Option(help="1; 2: the mirror image averaged in; 6, from scratch: moved ones too.")] = None,
    train_from: Annotated[
        str | None, typer.Option(help="Fine-tune from here on: layer4, block5, a stage's index, last:50, all; head: nothing more.")
    ] = None,
    augment: Annotated[
        str | None,
        typer.Option(help="Change pixels anew each epoch: any of mirror,zoom,gamma,contrast,channels,erase,randaugment,trivial."),
    ] = None,
    stop_at: Annotated[float | None, typer.Option(help="Validation accuracy, such as 0.9, at which training ends.")] = None,
    budget: Annotated[str | None, typer.Option(help="Time after which training ends: 60s, 5m or 1h.")] = None,
    memory: Annotated[str | None, typer.Option(help="Memory that training may take: 500M, 1G; the rest lies in files.")] = None,
    group: Annotated[str | None, typer.Option(help="Column of a table whose equal values stay in one split.")] = None,
    fit: Annotated[str | None, typer.Option(help="How photos get the network's shape: squash, crop or pad.")] = None,
    strict: Strict = False,
    unknown_as_wrong: Unknown = False,
    config: Annotated[Path | None, typer.Option(help="TOML file of settings.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="key=value, any setting; may be repeated.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with this interrupted run, from its last whole epoch.")] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Write the history as CSV too.")] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write the history for TensorBoard too.")] = False,
) -> None:
    """Train a classifier on labelled images, judge it on the test split, and save it."""
    from frostline import choosing, experiment, show
    from frostline.config import parse_gigabytes, parse_seconds

    chosen: dict[str, Any] = {
        "weights": weights,
        "seed": seed,
        "device": device,
        "precision": precision,
        "views": views,
        "fit": fit,
    }
    chosen |= {"train_from": train_from, "augment": augment, "memory": parse_gigabytes(memory), "group": group}
    chosen |= {"stop_at": stop_at, "budget": parse_seconds(budget)}
    chosen |= {"strict": strict or None, "unknown_as_wrong": unknown_as_wrong or None}
    values = {key: value for key, value in chosen.items() if value is not None}
    _check_together(resume, seeds, out, overwrite)
    if resume is not None:
        values |= {"recipe": recipe} if recipe else {}
        data, settings = choosing.resumed(resume, config, set_ or [], values, data)
        out = resume
    elif data is None:
        raise typer.BadParameter("Missing data to train on (or --resume RUN).")
    else:
        settings = choosing.settings_from(recipe, config, set_ or [], values, data)
    if seeds is not None:
        from frostline.repeat import train_seeds

        folder = out or experiment.free_folder(settings, data)
        show.spread(train_seeds(data, settings, seeds, folder, csv=csv, tensorboard=tensorboard), folder)
        return
    run = experiment.train(data, settings, out, overwrite=overwrite, resume=resume is not None, csv=csv, tensorboard=tensorboard)
    show.finished(run, data)


def _check_together(resume: Path | None, seeds: int | None, out: Path | None, overwrite: bool) -> None:
    """Options of ``train`` that exclude one another."""
    if resume is not None and (seeds is not None or out is not None):
        raise typer.BadParameter("--resume goes on with one run, where it is: leave out --seeds and --out.")
    if seeds is not None and overwrite:
        raise typer.BadParameter("--seeds goes on with what is in --out: leave out --overwrite, or name another folder.")


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(help="A run or a model directory.")],
    data: Data,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    json: Json = False,
    save: Annotated[Path | None, typer.Option(help="Write the predictions to this .npz file.")] = None,
    corruptions: Annotated[
        Path | None, typer.Option(help="Judge on corrupted images instead; the record and its pictures go to this folder.")
    ] = None,
    most: Annotated[int, typer.Option(min=0, help="With --corruptions: so many images only. 0: all.")] = 0,
    precision: PrecisionOption = None,
    strict: Strict = False,
    unknown_as_wrong: Unknown = False,
) -> None:
    """Judge a saved model on a split of some data."""
    from frostline import show
    from frostline.judge import evaluate as judge

    options: dict[str, Any] = {"precision": precision or "auto", "strict": strict, "unknown_as_wrong": unknown_as_wrong}
    if corruptions is not None:
        from frostline.shift import judge_shift, keep

        record = judge_shift(model, data, split, most=most, **options)
        keep(record, corruptions, model.name)
        typer.echo(json_module.dumps(record, ensure_ascii=False)) if json else show.shift(record, corruptions)
        return
    predictions, scores = judge(model, data, split, **options)
    if save is not None:
        predictions.save(save)
    typer.echo(json_module.dumps(scores, ensure_ascii=False)) if json else show.scores(scores)


@app.command()
def inspect(
    data: Data,
    out: Annotated[Path, typer.Option(help="Where the record, the tables and the pictures go.")] = Path("inspection"),
    json: Json = False,
    strict: Strict = False,
) -> None:
    """Look at data before training: counts, near duplicates within and across splits, odd images."""
    from frostline import audit, show
    from frostline.data.sources import load_source

    source = load_source(data, strict=strict, training=False)
    record = audit.inspect(source)
    audit.keep(record, source, out)
    typer.echo(json_module.dumps(record, ensure_ascii=False)) if json else show.inspection(record, out)


@app.command()
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


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run directories.")],
    plot: Annotated[Literal["time"] | None, typer.Option(help="A picture: validation accuracy against seconds.")] = None,
    output: Annotated[Path, typer.Option(help="Where the picture goes.")] = Path("compare.png"),
    json: Json = False,
) -> None:
    """Compare finished runs on the same test images: a table, and a paired test for each two."""
    from frostline import show
    from frostline.compare import pairs, stated, table
    from frostline.runs import Run

    opened = [Run.open(folder) for folder in runs]
    rows, tests = table(opened), pairs(opened) if len(opened) > 1 else []
    known = stated(opened)
    if json:
        typer.echo(json_module.dumps({"runs": rows, "stated": known, "pairs": tests}))
    else:
        show.comparison([*rows, *known], tests)
    if plot is not None:
        from frostline.compare import curves
        from frostline.plots_compare import accuracy_against_seconds
        from frostline.progress import say

        accuracy_against_seconds(curves(opened), output, "Accuracy against time")
        say(f"Picture: {output}")


@app.command()
def tune(
    data: Data,
    recipe: Annotated[str | None, typer.Option(help="Where the search starts. Default: chosen, and said.")] = None,
    weights: Annotated[str | None, typer.Option(help="As for train.")] = None,
    trials: Annotated[int, typer.Option(min=1, help="Trials in all.")] = 20,
    search: Annotated[
        str | None, typer.Option(help="Settings to search, such as lr,weight_decay,mixup. Default: the usual.")
    ] = None,
    cuts: Annotated[str | None, typer.Option(help="Places to fine-tune from to choose between, such as layer3,layer4.")] = None,
    out: Annotated[Path, typer.Option(help="Holds the study; the same command goes on from it.")] = Path("tuning"),
    config: Annotated[Path | None, typer.Option(help="TOML file of settings.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="key=value, any setting; may be repeated.")] = None,
    json: Json = False,
) -> None:
    """Search settings on validation only, with Optuna; writes the best for 'train --config'."""
    from frostline import choosing, experiment, show
    from frostline import tune as tuning

    settings = choosing.settings_from(recipe, config, set_ or [], {"weights": weights} if weights else {}, data)
    names, places = ([item for item in (text or "").split(",") if item] for text in (search, cuts))
    rows = tuning.tune(experiment.load_data(data, settings), settings, names, places, trials, out)
    typer.echo(json_module.dumps(rows)) if json else show.trials(rows, out, data, settings.recipe)


@app.command()
def recipes() -> None:
    """List the named experiments."""
    from frostline import show

    show.recipes()


@app.command()
def models() -> None:
    """List the backbones and the scratch networks."""
    from frostline import show

    show.models()


@app.command()
def cache(clear: Annotated[bool, typer.Option("--clear", help="Delete all cached features and compiled graphs.")] = False) -> None:
    """Show the size of the feature cache, or clear it."""
    from frostline import show

    show.cleared() if clear else show.cache()


def _fail(error: UserError) -> None:
    typer.secho(f"Error: {error}", fg="red", err=True)
    sys.exit(2)


def main() -> Any:
    """Run a command; a user's mistake is said without a traceback and gives exit code 2."""
    try:
        app(prog_name="frostline")
    except UserError as error:
        _fail(error)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in TRAINING:
            raise
        hint = "pip install 'frostline[train]'"
        _fail(UserError(f"This needs {package}, which the base install leaves out.", hint=hint))
    except SystemExit as ended:
        if ended.code == INTERRUPTED:
            typer.secho("Aborted. Cached features are kept, and the last whole epoch: train --resume RUN.", fg="yellow", err=True)
        raise


if __name__ == "__main__":
    main()
