"""The report's sections on the networks and their training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from frostline.reporting import charts, drawing
from frostline.reporting.document import Block, Figure, Figures, Items, Section, Text, table
from frostline.reporting.facts import Facts, Judged, Record, by_run
from frostline.reporting.words import DASH, counted, duration, number, or_dash, percent

#: Settings of the training loop, of pretrained networks, and of all.
_LOOP = ("epochs", "batch_size", "optimizer", "lr", "schedule", "weight_decay", "loss", "label_smoothing", "mixup", "cutmix", "ema")
_PRETRAINED = ("head", "train_from", "train_batchnorm")
_ANY = ("seed", "augment", "balance", "patience", "stop_at", "budget")
#: Heads that are solved for, not trained in the loop.
_SOLVED = ("logistic", "ridge")


def architecture(facts: Facts) -> Section:
    """The networks: what they are, where the frost line is, and their layers."""
    rows = [("network", *(_network(run) for run in facts.runs))]
    for title, key, form in (
        ("weights from", "weights", str),
        ("head", "head", str),
        ("features", "features", "{:,}".format),
        ("parameters", "parameters", "{:,}".format),
        ("of these trained", "trainable_parameters", "{:,}".format),
        ("trains from", "train_from", str),
    ):
        rows.append((title, *(or_dash(run.architecture.get(key), form) for run in facts.runs)))
    rows.append(("views averaged", *(or_dash(run.card.get("views")) for run in facts.runs)))
    rows.append(("precision of computing", *(or_dash(run.card.get("precision")) for run in facts.runs)))
    blocks: list[Block] = [by_run("The networks", facts, rows)]
    blocks.append(Figures(tuple(_drawn(number, run) for number, run in enumerate(facts.runs, 1) if run.blocks)))
    for run in facts.runs:
        blocks += _layers(run)
    return Section("architecture", "Architecture", tuple(blocks))


def _network(run: Judged) -> str:
    built = run.architecture
    return str(built.get("backbone") or built.get("network") or DASH)


def _drawn(number: int, run: Judged) -> Figure:
    built, preprocess = run.architecture, run.card.get("preprocess", {})
    height, width = preprocess.get("stored", ("?", "?"))
    classes = len(run.card.get("classes", ()))
    trained = sum(block["trained"] or 0 for block in run.blocks)
    total = sum(block["parameters"] for block in run.blocks)
    line = next((block["name"] for block in run.blocks if block["trained"]), None)
    if any(block["trained"] is None for block in run.blocks):
        where = "Which blocks trained is not recorded."
    elif line is None:
        where = "Nothing of it was trained."
    elif line == run.blocks[0]["name"]:
        where = "There is no frost line: everything trained."
    else:
        where = f"The frost line lies below {line}: what is above it trained, what is below stayed frozen."
    drawn = f"{_network(run)} as a stack of blocks from the image to {classes} probabilities"
    alt = f"{drawn}; {trained:,} of {total:,} parameters trained. {where}"
    svg = drawing.network(run.blocks, f"{height}×{width} px", classes, int(run.card.get("views") or 1), alt)
    size = preprocess.get("size")
    shown = f" It sees {size[0]}×{size[1]} px." if size else ""
    return Figure(f"{number}-network", f"{run.label}: {built.get('kind', 'network')}. {where}{shown}", alt, svg)


def _layers(run: Judged) -> list[Block]:
    if not run.blocks:
        return [Text(f"{run.name} keeps no model, so its layers cannot be listed.")]
    words = {True: "trained", False: "frozen"}
    rows = []
    for block in run.blocks:
        trained = block["trained"]
        state = DASH if trained is None else words[trained > 0] if trained in (0, block["parameters"]) else f"{trained:,} trained"
        rows.append((block["name"], block["holds"], f"{block['parameters']:,}", state))
    total = sum(block["parameters"] for block in run.blocks)
    imported = run.architecture.get("kind") == "imported"
    trained = None if imported else run.architecture.get("trainable_parameters")
    rows.append(("all", "", f"{total:,}", or_dash(trained, "{:,} trained".format)))
    blocks: list[Block] = [
        table(f"Layers of {run.label}, from the input to the output", ("block", "holds", "parameters", "state"), rows)
    ]
    if imported:
        blocks.append(Text("How an imported network was trained is not known here: its layers stand in the order of its file."))
    elif "blocks" not in run.record:
        blocks.append(Text("This run is older than the record of its layers: they stand in the order that their names tell."))
    return blocks


def training(facts: Facts) -> Section:
    """How each model was trained, what was chosen on validation, and its curves."""
    keys = (*_ANY[:1], *_PRETRAINED, *_LOOP, *_ANY[1:])
    rows = [("way", *(or_dash(run.architecture.get("kind")) for run in facts.runs))]
    rows += [(key.replace("_", " "), *(_setting(_as_used(run), key) for run in facts.runs)) for key in keys]
    teachers = [run.training.get("teacher") or {} for run in facts.runs]
    rows.append(("taught by", *(f"{each['name']} ({each['digest'][:8]})" if each else DASH for each in teachers)))
    rows.append(("temperature of its answers", *(number(each.get("temperature"), "g") for each in teachers)))
    rows.append(("mixtures of images that it was asked of", *(number(each.get("mixtures"), ",d") for each in teachers)))
    rows.append(("it agrees with the labels", *(percent(each.get("agrees_with_labels")) for each in teachers)))
    rows.append(("l2, chosen", *(or_dash(run.training.get("l2")) for run in facts.runs)))
    rows.append(("temperature, fitted", *(number(run.card.get("temperature"), ".3f") for run in facts.runs)))
    rows.append(("best validation accuracy", *(percent(run.training.get("validation_accuracy")) for run in facts.runs)))
    rows.append(("ended", *(or_dash(run.record.get("ended")) for run in facts.runs)))
    rows.append(("to the saved model", *(duration(run.record.get("training_seconds")) for run in facts.runs)))
    blocks: list[Block] = [by_run("Training", facts, [row for row in rows if not set(row[1:]) <= {"0", "none", DASH}])]
    if figures := [figure for i, run in enumerate(facts.runs, 1) for figure in _curves(i, run)]:
        blocks.append(Figures(tuple(figures)))
    said = [f"{run.name} keeps no history, so it has no curves." for run in facts.runs if not run.history]
    said += [f"{run.name} was refitted on {run.training['refitted_on']}." for run in facts.runs if run.training.get("refitted_on")]
    said += [f"{run.name}: {run.training['more_images']}" for run in facts.runs if run.training.get("more_images")]
    blocks += [Items(tuple(said))] if said else []
    if stages := sorted({stage for run in facts.runs for stage in run.timings}, key=_first_seen(facts)):
        times = [(stage, *(duration(run.timings.get(stage)) for run in facts.runs)) for stage in stages]
        blocks.append(by_run("Where the time went", facts, times))
    return Section("training", "Training strategy", tuple(blocks))


def _first_seen(facts: Facts) -> Any:
    seen = [stage for run in facts.runs for stage in run.timings]
    return seen.index


def _as_used(run: Judged) -> Record:
    """The settings, as they took effect: an open patience is what this way of training makes of it, a teacher replaces labels."""
    left_open = run.settings.get("patience") == -1
    made = {"patience": run.training.get("patience", 0)} if left_open else {}
    if run.training.get("teacher"):
        made |= {"loss": "divergence from a teacher's answers", "label_smoothing": 0.0}
    return {**run.settings, **made}


def _setting(settings: Mapping[str, Any], key: str) -> str:
    """A setting in words; a dash where this way of training does not look at it."""
    scratch = settings.get("kind") == "scratch"
    solved = not scratch and settings.get("train_from") == "head" and settings.get("head") in _SOLVED
    if (solved and key in _LOOP) or (scratch and key in _PRETRAINED):
        return DASH
    value = settings.get(key)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else or_dash(value)


def _curves(number: int, run: Judged) -> list[Figure]:
    epochs = [row for row in run.history if "epoch" in row and row.get("stage") != "head"]
    figures = []
    for what in ("accuracy", "loss") if len(epochs) > 1 else ():
        told = {
            split: [(float(row["epoch"]), row[f"{split}_{what}"]) for row in epochs if row.get(f"{split}_{what}") is not None]
            for split in ("train", "validation")
        }
        series = {f"{split} {what}": points for split, points in told.items() if points}
        if series:
            figures.append(_curve(f"{number}-{what}", run, what, series, _kept(run, epochs)))
    seen = [
        (float(row["images"]), row["validation_accuracy"])
        for row in run.history
        if row.get("images") and row.get("validation_accuracy") is not None
    ]
    if len(seen) > 1:
        first, last = (f"{percent(accuracy)} after {images:,.0f} images" for images, accuracy in (seen[0], seen[-1]))
        alt = f"Validation accuracy of {run.label}: {first}, {last}."
        svg = charts.lines({"validation accuracy": seen}, ("training images seen", "accuracy (%)"), alt, shares=True, log=True)
        figures.append(
            Figure(f"{number}-images", f"{run.label}: accuracy as images were seen, before the head was chosen", alt, svg)
        )
    return figures


def _kept(run: Judged, epochs: list[Record]) -> float | None:
    """The epoch whose weights the model has: the one that gave the validation scores on its card; None where none did."""
    scores = {key: run.training.get(key) for key in ("validation_accuracy", "validation_loss")}
    if None in scores.values():
        return None
    return next((float(row["epoch"]) for row in epochs if all(row.get(key) == scores[key] for key in scores)), None)


def _curve(name: str, run: Judged, what: str, series: dict[str, list[tuple[float, float]]], kept: float | None) -> Figure:
    ends = ", ".join(f"{split} {_value(points[-1][1], what)}" for split, points in series.items())
    alt = f"{what.capitalize()} of {run.label} over {counted(len(next(iter(series.values()))), 'epoch')}; at the end {ends}."
    unit = "accuracy (%)" if what == "accuracy" else "loss (nats)"
    svg = charts.lines(series, ("epoch", unit), alt, shares=what == "accuracy", kept=kept)
    return Figure(name, f"{run.label}: {what} over the epochs", alt, svg)


def _value(value: float, what: str) -> str:
    return percent(value) if what == "accuracy" else f"{value:.3f}"
