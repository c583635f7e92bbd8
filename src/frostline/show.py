"""What commands print for a person: tables of results, and what to type next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from shlex import quote
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from frostline.auditing.duplicates import limits
from frostline.conformal import percentage
from frostline.reporting.words import ranging, size, threshold
from frostline.run_folder import interrupted
from frostline.runs import PLOTS, SETTINGS, Run

#: Names of files and classes are shown as they are: brackets in them are no markup.
_STYLE: Any = {"highlight": False, "soft_wrap": True, "markup": False, "emoji": False}
console = Console(**_STYLE)

#: Of a table, in characters.
MOST_COLUMNS = 1000
MIB = 2**20


def print_table(table: Table) -> None:
    """A table with all that stands in it: in a narrower terminal its lines wrap, rather than lose their ends."""
    needed = Measurement.get(console, console.options.update(width=MOST_COLUMNS), table).maximum
    Console(**_STYLE, width=max(console.width, needed)).print(table)


def finished(run: Run, data: str) -> None:
    """Where a run's results are, and what to type next."""
    console.print()
    if "test" in run.splits:
        scores(run.scores("test"))
        sure(run.record.get("abstaining", ()))
    seconds, memory = run.record["total_seconds"], run.record["peak_memory"]["anonymous_bytes"]
    console.print(f"\nTime {seconds:.0f} s in all, {run.record['training_seconds']:.0f} s to the saved model; ", end="")
    console.print(f"peak memory {memory / MIB:,.0f} MiB." if memory else "peak memory not known.")
    rows = [
        ("the run", run.folder, "settings, scores, predictions, timings, history"),
        ("the model", run.model_folder, "graph, weights, preprocessing, classes"),
        ("pictures", run.folder / PLOTS, "curves and confusion matrix"),
    ]
    for what, folder, holds in rows:
        if folder.is_dir():
            console.print(f"  {what:<10} {folder}  ({holds})")
    goes_on = f"\n  frostline train --resume {quote(str(run.folder))}  (goes on from the last whole epoch)"
    console.print(f"Type next:{goes_on if interrupted(run.folder) else ''}")
    console.print(f"  frostline predict PHOTO.jpg --model {quote(str(run.folder))}")
    # without it, evaluate would refuse the test images that this run has counted as mistakes
    asked = run.read(SETTINGS) if SETTINGS in run.names() else {}
    unknown = " --unknown-as-wrong" if asked.get("unknown_as_wrong") else ""
    console.print(f"  frostline evaluate {quote(str(run.folder))} {quote(data)}{unknown}")


def sure(rows: Iterable[Mapping[str, Any]]) -> None:
    """How often a model that may say "not sure" answers, and how rightly."""
    for row in rows:
        if row["accuracy"] is not None:
            low, high = row["interval"]
            right = f"right in {row['accuracy']:.2%} ({low:.2%} to {high:.2%})"
            told = f"Answering only from a probability of {threshold(row['threshold'])}"
            console.print(f"{told}: {row['coverage']:.1%} answered, {right}.")


def reached(record: Mapping[str, Any]) -> None:
    """What the threshold for a wanted accuracy, and label sets of a coverage, did on the images that were judged."""
    for row in record.get("abstaining", ()):
        told = f"For {percentage(row['wanted'])} right answers validation gives"
        if row["threshold"] is None:
            console.print(f"{told} no threshold: however sure the model was, fewer were right.")
        elif row["accuracy"] is None:
            console.print(f"{told} the threshold {threshold(row['threshold'])}: none of these {row['n']:,} images is answered.")
        else:
            low, high = row["interval"]
            right = f"{row['accuracy']:.2%} of these right ({low:.2%} to {high:.2%})"
            answered = f"{row['coverage']:.1%} of {row['n']:,} images answered"
            console.print(f"{told} the threshold {threshold(row['threshold'])}: {answered}, {right}.")
    for row in record.get("label_sets", ()):
        low, high = row["interval"]
        held = f"{row['covered']:.2%} of {row['n']:,} images ({low:.2%} to {high:.2%})"
        sizes = f"{row['size']:.2f} classes in the mean, {row['single']:.1%} of the sets are a single class"
        console.print(f"Sets promised to hold the truth in {percentage(row['promised'])} hold it in {held}; {sizes}.")


def spread(summary: Mapping[str, Any], folder: Path) -> None:
    """What several seeds gave: each, their mean and its interval."""
    least, most = min(summary["n"]), max(summary["n"])
    images = f"{least:,}" if least == most else f"{least:,} to {most:,}"
    table = Table(title=f"{len(summary['seeds'])} seeds, {images} test images each", title_style="bold")
    for name in ("seed", "accuracy", "macro F1"):
        table.add_column(name, justify="right")
    for row in zip(summary["seeds"], summary["accuracy"]["values"], summary["macro_f1"]["values"], strict=True):
        table.add_row(str(row[0]), _share(row[1]), _share(row[2]))
    table.add_section()
    both = [summary[name] for name in ("accuracy", "macro_f1")]
    table.add_row("mean", *(_share(each["mean"]) for each in both))
    table.add_row("95 % interval", *(f"{_share(each['interval'][0])} to {_share(each['interval'][1])}" for each in both))
    table.add_row("standard deviation", *(f"{100 * each['standard_deviation']:.2f}" for each in both))
    console.print()
    print_table(table)
    console.print(f"The runs are in {folder}, the figures in {folder / 'seeds.json'}.")


def trials(rows: Iterable[Mapping[str, Any]], folder: Path, data: str, recipe: str) -> None:
    """The trials of a tuning, best first, and how to train with the best."""
    ordered = sorted(rows, key=lambda row: (row["state"] != "complete", -(row["validation_accuracy"] or 0)))
    table = Table(title="Trials, by validation accuracy", title_style="bold")
    for name in ordered[0] if ordered else ():
        table.add_column(name.replace("_", " "), justify="right")
    for row in ordered[:20]:
        table.add_row(
            *(f"{value:.4g}" if isinstance(value, float) else str(value if value is not None else "") for value in row.values())
        )
    console.print()
    print_table(table)
    console.print(f"All of them: {folder / 'trials.csv'}, and as a picture {folder / 'trials.png'}.")
    console.print("Type next:")
    named = f" --recipe {recipe}" if recipe else ""
    console.print(f"  frostline train {quote(data)}{named} --config {quote(str(folder / 'best.toml'))}")


def scores(record: Mapping[str, Any]) -> None:
    """Accuracy with its interval, and precision, recall and F1 of each class."""
    low, high = record["interval"]
    table = Table(title=f"Accuracy {record['accuracy']:.2%} ({low:.2%} to {high:.2%}, n = {record['n']:,})", title_style="bold")
    table.add_column("class")
    for name in ("precision", "recall", "F1", "images"):
        table.add_column(name, justify="right")
    shown = (
        record["per_class"] if len(record["per_class"]) <= 40 else sorted(record["per_class"], key=lambda row: row["f1"] or 0)[:20]
    )
    for row in shown:
        table.add_row(row["class"], *(_share(row[key]) for key in ("precision", "recall", "f1")), f"{row['support']:,}")
    table.add_section()
    for name in ("macro", "weighted"):
        row = record[name]
        table.add_row(f"{name} average", *(_share(row[key]) for key in ("precision", "recall", "f1")), f"{record['n']:,}")
    print_table(table)
    if len(shown) < len(record["per_class"]):
        console.print(f"The {len(shown)} weakest of {len(record['per_class'])} classes.")
    if record.get("log_loss") is not None:
        console.print(f"Log loss {record['log_loss']:.4f}.")
    for note in record["notes"]:
        console.print(f"Note: {note}")


def inspection(record: Mapping[str, Any], folder: Path) -> None:
    """Images a split and a class, their sizes, and how many are nearly the same or odd."""
    table = Table("split", title=str(record["source"]), title_style="bold")
    for name in ("images", "classes", "smallest class", "largest class"):
        table.add_column(name, justify="right")
    for name, split in record["splits"].items():
        ordered = sorted(split["classes"].items(), key=lambda item: item[1])
        ends = [f"{label}: {count:,}" for label, count in (ordered[0], ordered[-1])] if ordered else ["–", "–"]
        table.add_row(name, f"{split['images']:,}", f"{len(ordered):,}", *ends)
    print_table(table)
    for name, split in record["splits"].items():
        files = f", in files of {ranging(split['bytes'], size)}" if split["bytes"] else ""
        console.print(f"{name}: images {ranging(split['width'])} px wide and {ranging(split['height'])} px high{files}.")
    if record["rejects"]:
        console.print(
            f"{len(record['rejects']):,} unusable files are left out everywhere; {folder / 'audit.json'} has the reasons."
        )
    same = sum(pair["same_content"] for pair in record["duplicates"])
    console.print(
        f"{record['pairs']:,} pairs of images are nearly the same ({same:,} of them the very same): "
        f"{record['across']:,} across splits, {record['contradictions']:,} with two classes."
    )
    for said in limits(record):
        console.print(said)
    for what in ("dark", "bright", "blank", "blurred", "far"):
        if count := sum(row["what"] == what for row in record["odd"]):
            console.print(f"{count:,} {what if what != 'far' else 'unlike all other'} images.")
    _label_errors(record["label_errors"], folder)
    console.print(f"Tables, pictures and the record are in {folder}.")


def _label_errors(found: Mapping[str, Any] | None, folder: Path) -> None:
    """How many labels may be wrong, and what can be done with the list."""
    if found is None:
        console.print("Label errors are not sought in pixels: name a network, for example --backbone densenet169.")
        return
    for name, count in found["not_judged"].items():
        console.print(f"Labels of {name} are not judged: {count:,} images, too few different ones.")
    splits = " and ".join(found["learned_from"])
    console.print(
        f"{found['estimated']:,} of {found['judged']:,} labels may be wrong: heads trained on other images of {splits} say another "
        "class. The likeliest come first."
    )
    if found["estimated"]:
        console.print(f"Look through {folder / 'label_errors.csv'}; 'train' takes it as --relabel or --exclude.")


def shift(record: Mapping[str, Any], folder: Path) -> None:
    """Accuracy by corruption and severity, the means, and what others state."""
    low, high = record["interval"]
    clean = f"{record['clean']:.2%} ({low:.2%} to {high:.2%}, n = {record['n']:,})"
    table = Table(title=f"Accuracy on images as they are {clean}; corrupted {record['mean_corrupted']:.2%}", title_style="bold")
    table.add_column("corruption")
    for severity in range(1, 6):
        table.add_column(f"severity {severity}", justify="right")
    table.add_column("mean", justify="right")
    for name, accuracies in record["corruptions"].items():
        table.add_row(name, *(f"{100 * each:.1f}" for each in (*accuracies, record["by_corruption"][name])))
    table.add_section()
    table.add_row("mean", *(f"{100 * each:.1f}" for each in (*record["by_severity"], record["mean_corrupted"])))
    print_table(table)
    for name, (clean_there, corrupted) in record["stated"].items():
        before = "" if clean_there is None else f", {clean_there:.1%} on images as they are"
        console.print(f"Stated for CIFAR-10-C: {name}: {corrupted:.1%}{before}.")
    console.print(f"The record and its pictures are in {folder}.")


def explanations(record: Mapping[str, Any], folder: Path) -> None:
    """Of each image what the model says, what is most like it in training, and where its picture is."""
    for row in record["images"]:
        if "error" in row:
            console.print(f"{row['path']}: not read: {row['error']}")
            continue
        said = "  ".join(f"{each['class']} {each['probability']:.1%}" for each in row["top"])
        console.print(f"{row['path']}: {said}")
        if row["neighbours"]:
            console.print("  like " + ", ".join(f"{each['class']} ({each['distance']:.3f})" for each in row["neighbours"]))
        if row["peak"] is None:
            console.print(f"  nothing in it speaks for {row['explained']['class']}")
    console.print(f"Pictures and explain.json are in {folder}.")


def galleries(record: Mapping[str, Any], folder: Path) -> None:
    """How many mistakes there are, the most confident ones, and where the pictures are."""
    console.print(f"{record['wrong']:,} of {record['n']:,} {record['split']} images of {record['run']} are wrong.")
    for row in record["mistakes"][:10]:
        console.print(f"  {row['id']}: {row['predicted']} {row['probability']:.1%}, is {row['true'] or 'of another class'}")
    console.print(f"The most confident mistakes, the least certain hits and galleries.json are in {folder}.")


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def comparison(rows: Iterable[Mapping[str, Any]], tests: Iterable[Mapping[str, Any]]) -> None:
    """The table of runs, and a sentence for each pair."""
    from frostline.compare import render

    print_table(render(list(rows)))
    for test in tests:
        console.print(test["verdict"])
