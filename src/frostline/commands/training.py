"""``frostline train`` and ``frostline tune``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from frostline.commands.options import DATA_HELP, Data, Json, PrecisionOption, Strict, Unknown, print_json

if TYPE_CHECKING:
    from frostline.config import Settings

# the longer options of ``train``
Recipe = Annotated[str | None, typer.Option(help="A named experiment; see 'frostline recipes'. Default: chosen, and said.")]
Weights = Annotated[str | None, typer.Option(help="Folder with config.json and model.safetensors, or a .safetensors file.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the run in --out, once the new one has finished.")]
Seeds = Annotated[int | None, typer.Option(min=2, help="Train so many times, with seeds from --seed on; shows the spread.")]
TrainFrom = Annotated[
    str | None, typer.Option(help="Fine-tune from here on: layer4, block5, a stage's index, last:50, all; head: nothing more.")
]
Augment = Annotated[
    str | None,
    typer.Option(help="Change pixels anew each epoch: any of mirror,zoom,gamma,contrast,channels,erase,randaugment,trivial."),
]
Teacher = Annotated[
    str | None, typer.Option(help="Finished run or model whose answers to the training images are learned in place of labels.")
]
Memory = Annotated[
    str | None, typer.Option(help="For arrays, such as 1G: those over an eighth of it lie in files. Libraries take 1 GiB more.")
]
Exclude = Annotated[
    Path | None,
    typer.Option(help="CSV with a column id: images to leave out of train and validation, as 'inspect' lists them."),
]
Relabel = Annotated[
    Path | None, typer.Option(help="CSV with columns id and suggested: images of train and validation that get another class.")
]


def train(
    data: Annotated[str | None, typer.Argument(help=DATA_HELP)] = None,
    recipe: Recipe = None,
    weights: Weights = None,
    out: Annotated[Path | None, typer.Option(help="The run directory. Default: a new one under runs/.")] = None,
    overwrite: Overwrite = False,
    seed: Annotated[int | None, typer.Option(help="Of the split, the order and the weights.")] = None,
    seeds: Seeds = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps.")] = None,
    precision: PrecisionOption = None,
    views: Annotated[int | None, typer.Option(help="1; 2: the mirror image averaged in; 6, from scratch: moved ones too.")] = None,
    train_from: TrainFrom = None,
    augment: Augment = None,
    teacher: Teacher = None,
    stop_at: Annotated[float | None, typer.Option(help="Validation accuracy, such as 0.9, at which training ends.")] = None,
    budget: Annotated[str | None, typer.Option(help="Time after which training ends: 60s, 5m or 1h.")] = None,
    memory: Memory = None,
    group: Annotated[str | None, typer.Option(help="Column of a table whose equal values stay in one split.")] = None,
    exclude: Exclude = None,
    relabel: Relabel = None,
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
    from frostline import choosing
    from frostline.amounts import parse_gigabytes, parse_seconds

    if data is None and resume is None:
        raise typer.BadParameter("Missing data to train on (or --resume RUN).")
    _check_together(resume, seeds, out, overwrite)
    asked: dict[str, Any] = {"recipe": recipe, "weights": weights, "seed": seed, "device": device, "precision": precision}
    asked |= {"views": views, "fit": fit, "teacher": teacher, "train_from": train_from, "augment": augment, "group": group}
    asked |= {"stop_at": stop_at, "budget": parse_seconds(budget), "memory": parse_gigabytes(memory)}
    asked |= {"strict": strict or None, "unknown_as_wrong": unknown_as_wrong or None}
    asked |= {"exclude": _text(exclude), "relabel": _text(relabel)}
    data, settings = choosing.asked_for(data, resume, config, set_ or [], asked)
    if seeds is not None:
        _train_seeds(data, settings, seeds, out, csv=csv, tensorboard=tensorboard)
    else:
        _train_once(data, settings, out, resume, overwrite=overwrite, csv=csv, tensorboard=tensorboard)


def _train_seeds(data: str, settings: Settings, seeds: int, out: Path | None, **written: bool) -> None:
    from frostline import experiment, show
    from frostline.repeat import train_seeds

    folder = out or experiment.free_folder(settings, data)
    show.spread(train_seeds(data, settings, seeds, folder, **written), folder)


def _train_once(data: str, settings: Settings, out: Path | None, resume: Path | None, **how: bool) -> None:
    """A new run in ``out``, or the rest of the one in ``resume``."""
    from frostline import experiment, show
    from frostline.progress import say
    from frostline.run_folder import is_finished
    from frostline.runs import Run

    if resume is not None and is_finished(resume):
        say(f"{resume} is finished: nothing is left to train.")
        run = Run.open(resume)
    else:
        run = experiment.train(data, settings, resume or out, resume=resume is not None, **how)
    show.finished(run, data)


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _check_together(resume: Path | None, seeds: int | None, out: Path | None, overwrite: bool) -> None:
    """Options of ``train`` that exclude one another."""
    if resume is not None and (seeds is not None or out is not None):
        raise typer.BadParameter("--resume goes on with one run, where it is: leave out --seeds and --out.")
    if seeds is not None and overwrite:
        raise typer.BadParameter("--seeds goes on with what is in --out: leave out --overwrite, or name another folder.")


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
    from frostline.recipes import RECIPES

    names, places = ([item for item in (text or "").split(",") if item] for text in (search, cuts))
    # the settings of training above the line wherever one of the places is above it, in whatever order they are named
    place = {"train_from": next((each for each in places if each != "head"), "head")} if places else {}
    asked = {**({"weights": weights} if weights else {}), **place}
    settings = choosing.settings_from(recipe, config, set_ or [], asked, data)
    rows = tuning.tune(experiment.load_data(data, settings), settings, names, places, trials, out)
    print_json(rows) if json else show.trials(rows, out, data, settings.recipe if settings.recipe in RECIPES else "")
