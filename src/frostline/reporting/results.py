"""The report's sections on what came of it: metrics, stages and models compared."""

from __future__ import annotations

from frostline.abstaining import at_threshold, coverage_curve, thresholds
from frostline.calibrate import reliability
from frostline.compare import pareto_front
from frostline.paired import paired
from frostline.reporting import charts, galleries
from frostline.reporting.document import Block, Figure, Figures, Heading, Items, Section, Table, Text, table
from frostline.reporting.facts import Facts, Judged, Record, calibration, counts_matrix, uncalibrated
from frostline.reporting.verdict import mixed_up, pairs_in_words
from frostline.reporting.words import between, counted, duration, listed, number, percent, signed, size, with_interval

#: Classes whose rows the table of classes shows; of more the weakest.
MOST_ROWS = 40


def metrics(facts: Facts) -> Section:
    """Every score of every run, and the pictures of each."""
    agree = ", and agree with the recorded ones" if all(facts.evidence(run)["scores"] for run in facts.runs) else ""
    intro = (
        f"All scores are computed anew from the saved predictions of the {facts.split} images{agree}. "
        "Intervals are of 95 % (Wilson): about the images as a sample, not about seeds or other cameras."
    )
    blocks: list[Block] = [Text(intro), _overall(facts)]
    for i, run in enumerate(facts.runs, 1):
        blocks += [Heading(f"Scores of {run.label}"), Figures(tuple(_pictures(i, run, facts.split))), _classes(run, facts.split)]
        if notes := run.scores[facts.split]["notes"]:
            blocks.append(Items(tuple(notes)))
        for place, gallery in enumerate(facts.galleries, 1):
            blocks += galleries.shown(gallery, place, run.label) if gallery.run == i - 1 else []
    return Section("metrics", "Metrics", tuple(blocks))


def _overall(facts: Facts) -> Table:
    every = [run.scores[facts.split] for run in facts.runs]
    errors = [calibration(run.predictions[facts.split]) for run in facts.runs]
    tops = sorted({int(top) for scores in every for top in scores["top_k"]})
    rows = [
        ("accuracy", *(with_interval(scores["accuracy"], scores["interval"]) for scores in every)),
        ("images", *(f"{scores['n']:,}" for scores in every)),
        *((f"truth in the top {top}", *(percent(scores["top_k"].get(str(top))) for scores in every)) for top in tops),
        *(
            (f"macro {name.replace('f1', 'F1')}", *(number(scores["macro"][name]) for scores in every))
            for name in ("precision", "recall", "f1")
        ),
        ("weighted F1", *(number(scores["weighted"]["f1"]) for scores in every)),
        ("balanced accuracy", *(percent(scores["balanced_accuracy"]) for scores in every)),
        ("Matthews coefficient", *(number(scores["matthews"]) for scores in every)),
        ("log loss, nats", *(number(scores["log_loss"]) for scores in every)),
        ("Brier score, 0 to 2", *(number(scores["brier_score"]) for scores in every)),
        ("ROC area, one class against the rest", *(number(scores["roc_auc"]) for scores in every)),
        ("calibration error, 15 bins", *(number(plain) for plain, _ in errors)),
        ("the same, debiased", *(number(debiased) for _, debiased in errors)),
    ]
    return table(f"Scores on the {facts.split} images", ("", *(run.name for run in facts.runs)), rows)


def _pictures(i: int, run: Judged, split: str) -> list[Figure]:
    return [_confusion(i, run, split), *_shares(i, run, split), _reliability(i, run, split), *_coverage(i, run, split)]


def _confusion(i: int, run: Judged, split: str) -> Figure:
    scores, classes = run.scores[split], run.predictions[split].classes
    matrix = counts_matrix(scores)
    pairs = pairs_in_words(mixed_up(scores, list(classes)))
    most = f" Most often mixed up: {pairs}." if pairs else " No class was taken for another."
    alt = f"Confusion matrix of {run.label}: {int(matrix.trace()):,} of {int(matrix.sum()):,} {split} images on the diagonal.{most}"
    caption = f"{run.label}: confusion matrix, {scores['n']:,} {split} images; colour is the share of the true class.{most}"
    return Figure(f"{i}-confusion", caption, alt, charts.confusion(matrix, classes, alt))


def _shares(i: int, run: Judged, split: str) -> list[Figure]:
    """The normalised matrix, where there is room for its numbers; where there is not, the other one's colours show it."""
    matrix, classes = counts_matrix(run.scores[split]), run.predictions[split].classes
    if len(classes) > charts.MOST_COUNTED:
        return []
    recalls = [(each["recall"], each["class"]) for each in run.scores[split]["per_class"] if each["support"]]
    low = f" Lowest on the diagonal: {min(recalls)[1]}, {percent(min(recalls)[0], 1)}." if recalls and min(recalls)[0] < 1 else ""
    alt = f"Normalised confusion matrix of {run.label} on {split}: each row in percent of its true class.{low}"
    caption = f"{run.label}: the same in percent of each true class; the diagonal is the recall.{low}"
    return [Figure(f"{i}-confusion-percent", caption, alt, charts.confusion(matrix, classes, alt, percent=True))]


def _reliability(i: int, run: Judged, split: str) -> Figure:
    after = run.predictions[split]
    tables, errors = {}, [f"{number(calibration(after)[0])} as served"]
    if (temperature := run.card.get("temperature")) is not None:
        before = uncalibrated(run, split)
        error = number(calibration(before)[0])
        tables[f"before the temperature: error {error}"] = reliability(before.probabilities, before.labels)
        errors.insert(0, f"{error} before the temperature ({temperature:.3f})")
    tables[f"as served: error {number(calibration(after)[0])}"] = reliability(after.probabilities, after.labels)
    known = "" if len(tables) == 2 else " The run keeps no temperature, so there is no before."
    alt = f"Reliability diagram of {run.label}, accuracy against confidence in 15 bins; calibration error {', '.join(errors)}."
    caption = (
        f"{run.label}: is a confidence of 80 % right four times in five? On the dashed line it is. Marks grow with their images."
    )
    return Figure(f"{i}-reliability", caption + known, alt, charts.reliability_diagram(tables, alt))


def _coverage(i: int, run: Judged, split: str) -> list[Figure]:
    curve = coverage_curve(run.predictions[split])
    if curve.n < 20:
        return []
    rows = (
        thresholds(run.predictions["validation"], run.predictions[split])
        if split == "test" and "validation" in run.predictions
        else []
    )
    marks = [(row["coverage"], row["accuracy"]) for row in rows if row["accuracy"] is not None]
    half = at_threshold(curve, float(curve.thresholds[int((curve.coverage < 0.5).sum())]))
    ends = f"{percent(half['accuracy'])} of the surest half, {percent(curve.accuracy[-1])} of all"
    alt = f"Accuracy of {run.label} against the share answered: {ends}."
    told = " Diamonds are thresholds that validation gives for 90, 95, 98, 99 and 99.5 %." if marks else ""
    caption = f"{run.label}: how right it is when it answers only where it is sure. The band is the 95 % interval.{told}"
    return [Figure(f"{i}-coverage", caption, alt, charts.coverage_chart(curve, marks, alt))]


def _classes(run: Judged, split: str) -> Table:
    every = run.scores[split]["per_class"]
    shown = every if len(every) <= MOST_ROWS else sorted(every, key=lambda row: row["f1"])[:MOST_ROWS]
    rows = [
        (
            row["class"],
            *(f"{row[key]:.3f}" for key in ("precision", "recall", "f1")),
            number(row["roc_auc"], ".4f"),
            f"{row['support']:,}",
        )
        for row in shown
    ]
    there = [i for i, row in enumerate(shown) if row["support"]]
    alike = len({shown[i]["f1"] for i in there}) < 2
    weakest = -1 if alike else min(there, key=lambda i: shown[i]["f1"])
    marked = "" if alike else "; the weakest is marked"
    which = "Classes" if len(shown) == len(every) else f"The {len(shown)} weakest of {len(every)} classes"
    header = ("class", "precision", "recall", "F1", "ROC area", "images")
    return table(f"{which} of {run.label}{marked}", header, rows, weakest)


def stages(facts: Facts) -> Section:
    """A model against the stages before it, on the same images."""
    rows, said = [], []
    for run in facts.runs:
        for stage in run.stages if facts.split == "test" else ():
            earlier, after = run.predictions[f"test-{stage}"], run.predictions["test"]
            both = paired("finished", after, stage, earlier)
            before, now = run.scores[f"test-{stage}"], run.scores["test"]
            cells = (with_interval(each["accuracy"], each["interval"]) for each in (before, now))
            rows.append((f"{run.name}: {stage}, then finished", *cells, _points(both), f"{both['p']:.2g}"))
            said.append(_per_class_change(run, stage))
    if not rows:
        return Section("stages", "Stages compared", (Text("No run has more than one stage: nothing to compare."),))
    header = ("run", "first stage", "finished", "points gained (95 %)", "p")
    text = "What training above the frost line added to the head alone, on the same test images (exact McNemar test)."
    return Section("stages", "Stages compared", (Text(text), table("Stages", header, rows), Items(tuple(said))))


def _points(pair: Record) -> str:
    """A difference of accuracies with its interval, in points."""
    low, high = (signed(100 * end) for end in pair["interval"])
    return f"{signed(100 * pair['difference'])} ({low} to {high})"


def _per_class_change(run: Judged, stage: str) -> str:
    """Which class gained most, and which lost most, in F1."""
    before, now = (run.scores[name]["per_class"] for name in (f"test-{stage}", "test"))
    gains = [(after["f1"] - first["f1"], after["class"]) for first, after in zip(before, now, strict=True)]
    (most, gained), (least, lost) = max(gains), min(gains)
    better, worse = (
        f"{gained} gained most ({signed(most, 3)})",
        f"{lost} lost most ({signed(least, 3)})" if least < 0 else "no class lost",
    )
    return f"F1 by class, {run.name}: {better}, {worse}."


def models(facts: Facts) -> Section:
    """The runs side by side, what others state, and a paired test for each two."""
    rows = [run.row for run in facts.runs]
    cells = [
        (
            row["name"],
            percent(row["accuracy"]),
            between(row["interval"]),
            number(row["macro_f1"]),
            number(row["log_loss"]),
            number(row["calibration_error"]),
            number(row["parameters"], ",d"),
            size(row["model_bytes"]),
            number(row["images_per_second"], ",.0f"),
            number(row["latency_ms"], ",.2f"),
            duration(row["training_seconds"]),
            duration(row["seconds_to_90"]),
        )
        for row in [*rows, *_stated(facts)]
    ]
    header = (
        "model",
        "accuracy",
        "95 % interval",
        "macro F1",
        "log loss",
        "ECE",
        "parameters",
        "on disk",
        "images/s",
        "ms for one",
        "trained in",
        "to 90 %",
    )
    note = f"All on the same {facts.split} images. A dash is what a record does not tell; to 90 %: the time to 90 % on validation."
    blocks: list[Block] = [Text(note), table("Models compared; the one to ship is marked", header, cells, facts.chosen)]
    if facts.stated:
        blocks.append(Text("“Stated” are results of the projects that Frostline grew from; nobody has verified them."))
    return Section("models", "Models compared", (*blocks, Figures(tuple(_compared(facts))), *_tests(facts)))


def _stated(facts: Facts) -> list[Record]:
    """What others state, marked as such."""
    return [{**row, "name": f"{row['name']}, stated"} for row in facts.stated]


def _compared(facts: Facts) -> list[Figure]:
    shown = [(row["name"], row["accuracy"], row["interval"]) for row in [*(run.row for run in facts.runs), *_stated(facts)]]
    said = "; ".join(f"{name} {with_interval(accuracy, interval)}" for name, accuracy, interval in shown)
    names = listed([run.label for run in facts.runs])
    figures = [
        Figure(
            "accuracies",
            f"Accuracy with 95 % intervals: {names}",
            f"Accuracies: {said}.",
            charts.intervals(shown, f"Accuracies: {said}."),
        )
    ]
    for key, label, name in (
        ("training_seconds", "seconds to the saved model", "seconds"),
        ("latency_ms", "milliseconds for one image", "latency"),
    ):
        known = [run.row for run in facts.runs if run.row[key]]
        if len(known) < 2:
            continue
        points = [(str(row["name"]), (float(row[key]), float(row["accuracy"]))) for row in known]
        best = pareto_front([point for _, point in points])
        front = listed([known[i]["name"] for i in best])
        alt = f"Accuracy against {label}, logarithmic. Nothing beats {front} in both."
        figures.append(
            Figure(
                f"front-{name}", f"Accuracy against {label}. On the front: {front}.", alt, charts.front(points, best, label, alt)
            )
        )
    return figures


def _tests(facts: Facts) -> list[Block]:
    if not facts.pairs:
        return [Text("With one run there is nothing to compare.")]
    rows = [
        (
            f"{pair['a']} against {pair['b']}",
            f"{pair['only_a']:,}",
            f"{pair['only_b']:,}",
            _points(pair),
            f"{pair['p']:.2g}",
            f"{pair['p_holm']:.2g}",
        )
        for pair in facts.pairs
    ]
    header = ("pair", "only the first right", "only the second right", "difference in points (95 %)", "p", "p, corrected")
    corrected = f", corrected for {counted(len(rows), 'pair')} (Holm)" if len(rows) > 1 else ""
    n = facts.pairs[0]["n"]
    said = f"Exact McNemar tests on the same {n:,} images{corrected}; intervals of 95 % after Bonett and Price (2012)."
    return [table("Paired tests", header, rows), Text(said), Items(tuple(pair["verdict"] + "." for pair in facts.pairs))]
