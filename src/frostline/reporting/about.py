"""The report's sections on what was done: objective, data, architecture, preprocessing, training."""

from __future__ import annotations

from typing import Any

from frostline.auditing.duplicates import limits
from frostline.reporting.document import Block, Code, Figure, Figures, Heading, Items, Section, Table, Text, table
from frostline.reporting.facts import Facts, Record, by_run
from frostline.reporting.verdict import label_errors
from frostline.reporting.words import DASH, counted, listed, or_dash, ranging, size

#: Classes whose counts are listed one by one; of more only the ends are shown.
MOST_CLASSES = 30


def objective(facts: Facts) -> Section:
    """What was wanted, and from what."""
    best = facts.best
    classes = best.predictions[facts.split].classes
    source = best.data.get("source") or "data whose name is not recorded"
    text = (
        f"To tell which of {len(classes)} classes an image is of: {listed(classes, 12)}. The images are those of {source}. "
        f"{counted(len(facts.runs), 'trained model')} {'is' if len(facts.runs) == 1 else 'are'} looked at here: "
        f"{listed([run.label for run in facts.runs], 12)}."
    )
    return Section("objective", "Objective", (Text(text),))


def data(facts: Facts) -> Section:
    """The images: how many of what, in which split, and what was left out."""
    best = facts.best
    blocks: list[Block] = []
    if counts := best.data.get("counts"):
        blocks += [_splits_table(counts), *_class_table(counts), *_history(best.data)]
    else:
        blocks.append(Text(f"{best.name} keeps no record of its data: only the images it was judged on can be counted."))
    return Section("data", "Data", (*blocks, *_inspected(facts)))


def _splits_table(counts: Record) -> Table:
    rows = []
    for split in (name for name in ("train", "validation", "test") if name in counts):
        ordered = sorted(counts[split]["classes"].items(), key=lambda item: (item[1], item[0]))
        ends = [f"{name}: {count:,}" for name, count in (ordered[0], ordered[-1])] if ordered else [DASH, DASH]
        rows.append([split, f"{counts[split]['images']:,}", str(len(ordered)), *ends])
    return table("Images of each split", ("split", "images", "classes", "smallest class", "largest class"), rows)


def _class_table(counts: Record) -> list[Block]:
    names = list(next(iter(counts.values()))["classes"])
    if len(names) > MOST_CLASSES:
        return [Text(f"The counts of all {len(names)} classes stand in the run's data.json.")]
    splits = [name for name in ("train", "validation", "test") if name in counts]
    rows = [[name, *(f"{counts[split]['classes'].get(name, 0):,}" for split in splits)] for name in names]
    return [table("Images of each class", ("class", *splits), rows)]


def _history(record: Record) -> list[Block]:
    said = [
        f"{name.capitalize()} was cut from {cut['from']}: {cut['images']:,} images, stratified, with seed {cut['seed']}."
        for name, cut in record.get("cut", {}).items()
    ]
    said += [f"{counted(dropped['images'], 'image')} of {what} left out." for what, dropped in record.get("dropped", {}).items()]
    if record.get("rejected"):
        said.append(f"{counted(record['rejected'], 'file')} of {record['found']:,} could not be used; rejects.csv has the reasons.")
    said += [str(note) for note in record.get("notes", ())]
    if len(record["counts"]) > 1:
        said.append("No image content stands in two splits.")
    return [Items(tuple(said))] if said else []


def _inspected(facts: Facts) -> list[Block]:
    record = facts.inspection
    if not record:
        return [
            Text(
                "Samples are left out: runs keep no images. An inspection of the data brings them, with duplicates and odd images."
            ),
            Code("To add them", "frostline inspect DATA --out inspection\nfrostline report RUN… --inspection inspection --out DIR"),
        ]
    odd = {
        what: sum(row["what"] == what for row in record.get("odd", ())) for what in ("dark", "bright", "blank", "blurred", "far")
    }
    rows = [
        ("pairs that are nearly the same", f"{record.get('pairs', len(record.get('duplicates', ()))):,}"),
        ("of these across splits that the data declare", f"{record.get('across', 0):,}"),
        ("of these under two classes", f"{record.get('contradictions', 0):,}"),
        *_across(facts),
        *((f"{what} images" if what != "far" else "images unlike all others", f"{count:,}") for what, count in odd.items()),
        ("likely label errors", f"{label_errors(record):,}" if record.get("label_errors") else "not looked for"),
    ]
    found = [table(f"What the inspection of {record['source']} found", ("what", "count"), rows)]
    said = (*limits(record), *(facts.across.untold if facts.across else ()), *facts.unchecked)
    unsaid = [Items(said)] if said else []
    return [Heading("Inspection"), *_sizes_table(record), *found, *unsaid, *_pictures(facts, str(record["source"]))]


def _sizes_table(record: Record) -> list[Block]:
    """Sizes of images and files; of an inspection that did not look at them nothing."""
    rows = [
        (name, *(ranging(split.get(side)) for side in ("width", "height")), ranging(split.get("bytes"), size))
        for name, split in record["splits"].items()
        if split.get("width")
    ]
    caption = f"Sizes of the images of {record['source']}"
    return [table(caption, ("split", "width in px", "height in px", "size of a file"), rows)] if rows else []


def _across(facts: Facts) -> list[tuple[str, str]]:
    """The pairs that stand in two splits of the run to ship, which may have cut them from what the data declare as one."""
    found, row = facts.across, f"of these across the run's own splits ({facts.best.name})"
    if found is None:
        return [(row, "not known: the run does not tell which image is in which split")]
    return [(row, f"{found.least}{found.pairs:,}"), ("test images in such a pair", f"{found.least}{len(found.test):,}")]


def _pictures(facts: Facts, source: str) -> list[Block]:
    words = {
        "samples.png": (f"Samples of {source}, at most ten a class", "Sample images of each class, with the class above each."),
        "duplicates.png": (
            f"Images of {source} that are nearly the same, in twos",
            "Pairs of near duplicates, with split and class.",
        ),
        "label_errors.png": (
            f"Likely label errors of {source}",
            "Images whose label may be wrong, the likeliest first, with the given class.",
        ),
    }
    blocks: list[Block] = []
    for name, (caption, alt) in words.items():
        content = facts.pictures.get(name)
        if content is not None:
            blocks.append(Figures((Figure(f"data-{name.removesuffix('.png')}", caption, alt, png=content),)))
    if not facts.pictures:
        blocks.append(Text("The inspection's folder holds no pictures, so samples are left out."))
    return blocks


_FITS = {
    "squash": "the whole image, its aspect ratio changed",
    "pad": "the whole image, with bars",
    "crop": "its centre",
}


def preprocessing(facts: Facts) -> Section:
    """How an image becomes a network's input."""
    text = "Preprocessing is saved with each model and applied by one function: training, judging and serving see the same pixels."
    known = [run.card.get("preprocess", {}) for run in facts.runs]
    if unknown := [run.name for run, each in zip(facts.runs, known, strict=True) if not each]:
        text = (
            f"{'' if len(unknown) == len(known) else text + ' '}How images became the input of {listed(unknown)} is not recorded."
        )
    rows = [
        ("stored at", *(_pair(each.get("stored")) for each in known)),
        ("the network sees", *(_pair(each.get("size")) for each in known)),
        ("photos keep", *(_FITS.get(str(each.get("fit")), DASH) for each in known)),
        ("kernel", *(or_dash(each.get("kernel")) for each in known)),
        ("mean of R, G, B", *(_triple(each.get("mean")) for each in known)),
        ("deviation of R, G, B", *(_triple(each.get("std")) for each in known)),
    ]
    return Section("preprocessing", "Preprocessing", (Text(text), by_run("From an image to the input", facts, rows)))


def _pair(value: Any) -> str:
    return f"{value[0]}×{value[1]} px" if value else DASH


def _triple(value: Any) -> str:
    return ", ".join(f"{each:.4g}" for each in value) if value else DASH
