"""The report's last sections: justification, deployment, insights, limits, and how it was measured."""

from __future__ import annotations

from collections.abc import Iterator
from shlex import quote
from typing import Any

from frostline.abstaining import thresholds
from frostline.conformal import promised
from frostline.reporting.document import Block, Code, Heading, Items, Section, Text, table
from frostline.reporting.facts import Facts, all_wrong, calibration, tells, uncalibrated
from frostline.reporting.verdict import against, justification, mixed_up
from frostline.reporting.words import DASH, counted, listed, number, or_dash, percent, size, threshold, with_interval

#: Images that every run gets wrong, listed by name.
MOST_LISTED = 10


def reasons(facts: Facts) -> Section:
    """Why the chosen model."""
    return Section("justification", "Why this model", (Items(tuple(justification(facts))),))


def deployment(facts: Facts) -> Section:
    """What it takes to use the chosen model, and what it promises where it may abstain."""
    best = facts.best
    if not best.card:
        return Section("deployment", "Deployment", (Text(f"{best.name} keeps no model, so there is none to serve."), *_sure(facts)))
    speed = best.record.get("speed") or {}
    rows = [
        ("size on disk", size(best.row["model_bytes"])),
        ("one image after another", f"{speed['latency_ms']:.2f} ms" if speed else "not measured by this run"),
        ("many at once", f"{speed['images_per_second']:,.0f} images/s" if speed else "not measured by this run"),
        ("measured with", _how_fast(speed)),
        ("precision of computing", str(best.card.get("precision", DASH))),
        ("model's digest", str(best.record.get("model_digest", DASH))),
    ]
    folder = quote(best.name)
    commands = f"frostline predict PHOTO.jpg --model {folder}\nfrostline evaluate {folder} DATA"
    text = (
        "The model directory holds the compiled graph with its preprocessing, the classes, the temperature and a self-test that is "
        "replayed whenever it is loaded. It needs no torch; in Python: frostline.load_model."
    )
    blocks: list[Block] = [Text(text), table(f"{best.label}, as it is served", ("", "value"), rows), Code("To use it", commands)]
    return Section("deployment", "Deployment", (*blocks, *_sure(facts)))


def _how_fast(speed: dict[str, Any]) -> str:
    if not speed:
        return DASH
    height, width = speed["size"]
    threads = counted(speed["threads"], "thread")
    return f"{threads}, {speed['precision']}, drawn images of {height}×{width} px; blocks of {speed['batch']} images where many"


def _sure(facts: Facts) -> list[Block]:
    best = facts.best
    if facts.split != "test" or "validation" not in best.predictions:
        return [Text("Thresholds and label sets need predictions of both validation and test.")]
    validation, test = best.predictions["validation"], best.predictions["test"]
    answers = [
        (percent(row["wanted"], 1), threshold(row["threshold"]), percent(row["coverage"], 1), _right(row))
        for row in thresholds(validation, test)
    ]
    sets = [
        (
            percent(row["promised"], 0),
            with_interval(row["covered"], row["interval"], 1),
            f"{row['size']:.2f}",
            percent(row["single"], 1),
        )
        for row in promised(validation, test)
    ]
    blocks: list[Block] = [Heading("When it may say “not sure”")]
    if answers:
        header = ("wanted", "answer from", "answered", "right of these, on test")
        blocks.append(table("Thresholds from validation, and what they do on test", header, answers))
    else:
        blocks.append(Text("Validation gives no threshold: the accuracies people ask for are reached without one, or by none."))
    if sets:
        header = ("promised", "held, on test", "classes in a set, mean", "sets of one")
        blocks.append(table("Sets of classes that hold the truth (split conformal prediction)", header, sets))
    return blocks


def _right(row: dict[str, Any]) -> str:
    return DASH if row["accuracy"] is None else with_interval(row["accuracy"], row["interval"])


def insights(facts: Facts) -> Section:
    """What can be learned beyond the scores."""
    said = tuple(_mistakes(facts) + _confidence(facts) + _curves(facts))
    return Section("insights", "Insights", (Items(said) if said else Text("The records show nothing beyond the scores."),))


def _mistakes(facts: Facts) -> list[str]:
    best = facts.best
    said = []
    if pairs := mixed_up(best.scores[facts.split], list(best.predictions[facts.split].classes)):
        one, other, count = pairs[0]
        total = sum(each for _, _, each in pairs)
        said.append(
            f"{one} and {other} are {count:,} of the {counted(total, 'confusion')} of {best.name}: the pair to look at first."
        )
    if len(facts.runs) > 1:
        missed = all_wrong(facts.runs, facts.split)
        names = listed([f"{name} ({truth}, taken for {wrong})" for name, truth, wrong, _ in missed], MOST_LISTED)
        if missed:
            said.append(f"{counted(len(missed), 'image')} every run gets wrong: {names}. Hard or mislabelled: look at them first.")
        elif all(run.scores[facts.split]["accuracy"] < 1 for run in facts.runs):
            said.append("There is no image that every run gets wrong: their mistakes differ.")
    return said


def _confidence(facts: Facts) -> list[str]:
    said = []
    for run in facts.runs:
        temperature = run.card.get("temperature")
        if temperature is None:
            continue
        before, after = calibration(uncalibrated(run, facts.split))[0], calibration(run.predictions[facts.split])[0]
        was = "too sure of itself" if temperature > 1 else "not sure enough" if temperature < 1 else "left as it was"
        note = f" ({run.training['temperature_note']})" if run.training.get("temperature_note") else ""
        said.append(
            f"{run.name} was {was} on validation (temperature {temperature:.3f}){note}; "
            f"its calibration error on {facts.split} went from {number(before)} to {number(after)}."
        )
    return said


def _curves(facts: Facts) -> list[str]:
    said = []
    for run in facts.runs:
        epochs = [
            row for row in run.history if "epoch" in row and row.get("stage") != "head" and row.get("train_accuracy") is not None
        ]
        judged = [row for row in epochs if row.get("validation_accuracy") is not None]
        if judged and len(epochs) > 1:
            gap = judged[-1]["train_accuracy"] - judged[-1]["validation_accuracy"]
            points, where = f"{abs(100 * gap):.1f}", "training" if gap > 0 else "validation"
            higher = "as much" if points == "0.0" else f"{points} points higher on {where}"
            if run.training.get("teacher"):
                said.append(
                    f"{run.name} said what its teacher says of {percent(judged[-1]['train_accuracy'])} of the training images, as "
                    f"it saw them while learning, and ended with {percent(judged[-1]['validation_accuracy'])} on validation."
                )
                continue
            said.append(
                f"{run.name} ended with {percent(judged[-1]['train_accuracy'])} on training, as it saw it while learning, and "
                f"{percent(judged[-1]['validation_accuracy'])} on validation: {higher}."
            )
    return said


def limits(facts: Facts) -> Section:
    """What these figures do not say."""
    best = facts.best
    n, interval = best.scores[facts.split]["n"], best.scores[facts.split]["interval"]
    half = 50 * (interval[1] - interval[0])
    said = [
        f"{n:,} {facts.split} images give an accuracy to about ± {half:.2f} points; smaller differences need the paired tests.",
        "The intervals are about images drawn like these. Other cameras, places or years are other data: judge on them first.",
        "A model answers with one of its classes whatever it is shown; images of none of them are not noticed.",
    ]
    seeds = sorted(
        {str(run.settings.get("seed", "not recorded")) for run in facts.runs if run.architecture.get("kind") != "imported"}
    )
    if seeds:
        which = f"Each model was trained once (seed {listed(seeds)})"
        said.append(f"{which}: how much another seed would change is not in these figures.")
    rare = [row["class"] for row in best.scores[facts.split]["per_class"] if row["support"] < 30]
    if rare:
        said.append(f"Figures of single classes are rough: {listed(rare, 8)} have fewer than 30 {facts.split} images.")
    if facts.split != "test":
        said.append(
            "There is no test split: models were chosen on the very images that they are judged on here, which flatters them."
        )
    if against(facts)[2]:
        said.append("“Cannot be told apart” means that these images are too few to tell, not that the models are equal.")
    if facts.split == "test" and len(facts.runs) > 1:
        if facts.chosen_on == "test":
            said.append("The model to ship was chosen on the very test images that it is judged on here, which flatters it.")
        runs = f"{len(facts.runs)} runs"
        read = f"Test was read once by each of {runs}" if not facts.silent else f"{runs} were judged on test"
        said.append(f"{read}. The more runs are compared on it, the less it is untouched.")
    return Section("limits", "Limits", (Items(tuple(said)),))


def measured(facts: Facts) -> Section:
    """How the figures came about: images, splits, seeds, hardware, versions, digests."""
    rows = [
        ("images judged", *(f"{run.scores[facts.split]['n']:,} {facts.split}" for run in facts.runs)),
        ("seed", *(or_dash(run.settings.get("seed")) for run in facts.runs)),
        ("finished", *(or_dash(run.record.get("finished")) for run in facts.runs)),
        ("processor", *(or_dash(tells(run.environment, "cpu", "model")) for run in facts.runs)),
        ("cores", *(or_dash(tells(run.environment, "cpu", "cores")) for run in facts.runs)),
        ("memory", *(size(run.environment.get("memory_bytes")) for run in facts.runs)),
        ("peak memory of training", *(size(tells(run.record, "peak_memory", "anonymous_bytes")) for run in facts.runs)),
        ("Frostline", *(or_dash(run.environment.get("frostline")) for run in facts.runs)),
        ("Python", *(or_dash(run.environment.get("python")) for run in facts.runs)),
        *((name, *(or_dash(tells(run.environment, "packages", name)) for run in facts.runs)) for name in _packages(facts)),
        ("test images' fingerprint", *(_digest(tells(run.data, "fingerprints", "test")) for run in facts.runs)),
        ("run's digest", *(_digest(run.digest) for run in facts.runs)),
    ]
    told = [row for row in rows if any(cell != DASH for cell in row[1:])]
    shown = table("Under which conditions", ("", *(run.name for run in facts.runs)), told)
    return Section("measured", "How it was measured", (Text(_how(facts)), shown))


def _how(facts: Facts) -> str:
    """What chose, what read test when, and what was checked, as far as the records of these runs tell."""
    if facts.split != "test":
        return "These runs have no test split: scores are those of the validation images, on which the models were also chosen."
    return " ".join((*_chose(facts), _test_read(facts), *_checked(facts)))


def _chose(facts: Facts) -> Iterator[str]:
    several = len(facts.runs) > 1
    if not facts.silent:
        ship = ", the temperature, and the model to ship" if several else " and the temperature"
        yield f"Validation chose everything: the epoch, the regularisation{ship}."
        return
    if several and facts.chosen_on == "validation":
        yield "Validation chose the model to ship."
    elif several:
        yield f"These test images chose the model to ship, for there are no validation predictions of {listed(facts.unvalidated)}."
    yield f"What chose in the training of {listed(facts.silent)} is not recorded."


def _test_read(facts: Facts) -> str:
    if not facts.silent:
        return (
            "The test images were read once by each run, after its model was saved, and predicted row by row; scores are computed "
            "from those rows."
        )
    known = [run.name for run in facts.runs if run.tells_training]
    once = f"{listed(known)} read the test images once, after the model was saved. " if known else ""
    them = "them" if known else "the test images"
    return f"{once}How often {listed(facts.silent)} read {them} is not recorded. Scores are computed from the saved predictions."


#: What of a run may be checked (``verified.evidence``): the check, and what is lacking where it cannot be made.
_CHECKS = {
    "scores": ("every recorded score was computed again", "scores"),
    "rows": ("rows were counted", "number of its images"),
    "images": ("images and true classes were compared with the fingerprint of the data", "fingerprint of its data"),
}


def _checked(facts: Facts) -> Iterator[str]:
    evidence = {run.name: facts.evidence(run) for run in facts.runs}
    if done := [words for key, (words, _) in _CHECKS.items() if any(each[key] for each in evidence.values())]:
        what = f"{', '.join(done[:-1])}, and {done[-1]}" if len(done) > 1 else done[0]
        yield f"Before this report was written {what}: a run that fails any of it is refused."
    for name, each in evidence.items():
        if lacking := [f"no {noun}" for key, (_, noun) in _CHECKS.items() if not each[key]]:
            yield f"{name} records {listed(lacking)}, so there was nothing to compare with."


def _packages(facts: Facts) -> list[str]:
    return list(dict.fromkeys(name for run in facts.runs for name in run.environment.get("packages", {})))


def _digest(value: Any) -> str:
    return f"{value[:12]}…" if value else DASH
