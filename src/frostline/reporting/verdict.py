"""The verdict in three sentences, and the reasons for it; every number in it is computed from the facts."""

from __future__ import annotations

import numpy as np

from frostline.compare import ALPHA
from frostline.metrics import wilson_interval
from frostline.reporting.facts import Facts, Judged, Record, all_wrong, counts_matrix
from frostline.reporting.inspected import Across
from frostline.reporting.words import counted, listed, percent, size, with_interval

#: The largest class over the smallest from which it is said.
UNEVEN = 5.0


def verdict(facts: Facts) -> tuple[tuple[str, str], ...]:
    """Which model to ship and why; what it confuses; what to fix in the data."""
    return ("Ship", ship(facts)), ("It confuses", confuses(facts)), ("Fix in the data", fix(facts))


def ship(facts: Facts) -> str:
    """The first sentence."""
    best = facts.best
    scores = best.scores[facts.split]
    right = f"{with_interval(scores['accuracy'], scores['interval'])} of {scores['n']:,}"
    if scores["interval"][0] <= (blind := majority(best, facts.split)):
        return (
            f"None of these yet: the best, {best.name}, is right on {right} {facts.split} images, "
            f"and always answering the most frequent class would give {percent(blind)}."
        )
    if facts.split != "test":
        return (
            f"{best.name}, but only after a test: it is right on {right} validation images, on which it was also chosen, "
            "and no test split has judged it."
        )
    return f"{best.name}: it is right on {right} test images{_read(facts)}{_because(facts)}."


def _read(facts: Facts) -> str:
    """What else has read the test images, as far as the records tell."""
    if len(facts.runs) > 1 and facts.chosen_on == "test":
        have = "has" if len(facts.unvalidated) == 1 else "have"
        return f", on which it was also chosen, for {listed(facts.unvalidated)} {have} no validation predictions"
    return (
        " that had no part in its training or in choosing it"
        if facts.best.tells_training
        else ", and no record tells whether anything else has read them"
    )


def majority(judged: Judged, split: str) -> float:
    """Share of the most frequent class: what a model that never looks would get."""
    support = [row["support"] for row in judged.scores[split]["per_class"]]
    return max(support) / judged.scores[split]["n"]


def _because(facts: Facts) -> str:
    if len(facts.runs) == 1:
        return "; no other model was given to compare it with"
    better, worse, same = against(facts)
    parts = [_place(facts)] if facts.chosen_on == "validation" else []
    if better:
        parts.append(f"better than {listed(better)} on the same images")
    if same:
        parts.append(f"not to be told apart from {listed(same)}")
    text = ", and it was " + ", ".join(parts)
    return text + (f"; but {listed(worse)} is better on test, so look at both" if worse else "")


def _place(facts: Facts) -> str:
    """What the chosen run was on validation."""
    accuracies = [run.scores["validation"]["accuracy"] for run in facts.runs]
    alone = accuracies.count(max(accuracies)) == 1
    of = f"of {len(facts.runs)} on validation"
    return f"the best {of}" if alone else f"among the best {of}, and the surest of these"


def against(facts: Facts) -> tuple[list[str], list[str], list[str]]:
    """Names of the runs that the chosen one is better than, worse than, and cannot be told apart from (p corrected)."""
    groups: tuple[list[str], list[str], list[str]] = ([], [], [])
    for pair in facts.pairs:
        if facts.best.name not in (pair["a"], pair["b"]):
            continue
        first = pair["a"] == facts.best.name
        ahead = (pair["difference"] > 0) == first
        groups[2 if pair["p_holm"] >= ALPHA else 0 if ahead else 1].append(pair["b"] if first else pair["a"])
    return groups


def confuses(facts: Facts) -> str:
    """The second sentence."""
    best, scores = facts.best, facts.best.scores[facts.split]
    mistakes = scores["n"] - round(scores["accuracy"] * scores["n"])
    if not mistakes:
        high = 1 - wilson_interval(scores["n"], scores["n"])[0]
        return (
            f"Nothing that these {scores['n']:,} images show: it made no mistake on them, which allows for up to {percent(high)}."
        )
    pairs = mixed_up(scores, [row["class"] for row in scores["per_class"]])
    weakest = min((row for row in scores["per_class"] if row["support"]), key=lambda row: row["f1"], default=None)
    most = pairs_in_words(pairs) or "only images of classes that it does not know"
    if weakest is None:
        weak = f"none of these is of a class that {best.name} knows"
    else:
        weak = f"the weakest class of {best.name} is {weakest['class']}, with an F1 of {weakest['f1']:.3f}"
    return f"{most}; it made {counted(mistakes, 'mistake')} on {scores['n']:,} images, and {weak}."


def pairs_in_words(pairs: list[tuple[str, str, int]], most: int = 3) -> str:
    """As in "cat with dog (12 times) and 3 with 9 (once)"; empty without any."""
    return listed([f"{one} with {other} ({'once' if count == 1 else f'{count:,} times'})" for one, other, count in pairs[:most]])


def mixed_up(scores: Record, classes: list[str]) -> list[tuple[str, str, int]]:
    """Two classes, and how often one was taken for the other, either way; the most frequent first."""
    matrix = counts_matrix(scores)
    both = np.triu(matrix + matrix.T, 1)
    order = np.argsort(-both, axis=None, kind="stable")
    cells = [divmod(int(cell), len(classes)) for cell in order[: np.count_nonzero(both)]]
    return [(classes[i], classes[j], int(both[i, j])) for i, j in cells]


def fix(facts: Facts) -> str:
    """The third sentence."""
    wishes = [*_from_inspection(facts.inspection, facts.across), *_from_data(facts)]
    if not facts.inspection:
        asked = "no inspection of the data was given ('frostline inspect DATA --out DIR', then --inspection DIR)"
        wishes.append(asked if wishes else f"nothing that the runs alone show; {asked}")
    text = "; ".join(wishes) if wishes else "nothing that the inspection or the runs show"
    return f"{text[0].upper()}{text[1:]}."


def _from_inspection(record: Record, own: Across | None) -> list[str]:
    wishes = []
    if errors := label_errors(record):
        wishes.append(f"look at the {counted(errors, 'likely label error')}, the most likely first")
    if record.get("contradictions"):
        pairs = counted(record["contradictions"], "pair of images that are", "pairs of images that are")
        wishes.append(f"look at {pairs} nearly the same under two classes, and settle which is right")
    if across := own.pairs if own else record.get("across"):
        pairs = counted(across, "pair of near duplicates that stands", "pairs of near duplicates that stand")
        judged = f" ({counted(len(own.test), 'test image')} {'is' if len(own.test) == 1 else 'are'} among them)" if own else ""
        wishes.append(f"keep {own.least if own else ''}{pairs} in two splits in one of them{judged}")
    if odd := len(record.get("odd", ())):
        wishes.append(
            f"look at {counted(odd, 'image that is', 'images that are')} dark, bright, blank, blurred or unlike all others"
        )
    return wishes


def label_errors(record: Record) -> int:
    """How many labels an inspection calls likely errors; 0 where it did not look for them."""
    found = record.get("label_errors")
    return int(found["estimated"]) if found else 0


def _from_data(facts: Facts) -> list[str]:
    best, wishes = facts.best, []
    missed = all_wrong(facts.runs, facts.split) if len(facts.runs) > 1 else []
    if missed:
        name, truth, said, _ = missed[0]
        wishes.append(
            f"check the labels of {counted(len(missed), 'image')} that every run gets wrong, such as {name} "
            f"({truth}, taken for {said})"
        )
    if best.data.get("rejected"):
        wishes.append(f"mend or remove {counted(best.data['rejected'], 'unusable file')}")
    counts = best.data.get("counts", {}).get("train", {}).get("classes", {})
    there = {name: count for name, count in counts.items() if count}
    if there and max(there.values()) >= UNEVEN * min(there.values()):
        rare = min(there, key=lambda name: there[name])
        wishes.append(
            f"gather more images of {rare}, which has {there[rare]:,} in training where {max(there.values()):,} is the most"
        )
    return wishes


def justification(facts: Facts) -> list[str]:
    """Why this one, in sentences: how it was chosen, what speaks against it, what a smaller one would cost."""
    best = facts.best
    if len(facts.runs) == 1:
        return [f"{best.name} is the only run given, so nothing was chosen here.", *_leaked(facts)]
    said = [_rule(facts)]
    better, worse, same = against(facts)
    if better:
        said.append(f"On the same {facts.split} images it is better than {listed(better)} (exact McNemar test, corrected).")
    if worse:
        said.append(
            f"Against the choice: on the {facts.split} images {listed(worse)} is better. A choice made on them would flatter it."
        )
    if same:
        said.append(f"It cannot be told apart from {listed(same)} on these images: that is no proof that they are equal.")
    return said + _cheaper(facts, same) + _leaked(facts)


def _leaked(facts: Facts) -> list[str]:
    """What the accuracy is without the test images that are nearly the same as an image of train or validation."""
    own, best = facts.across, facts.best
    if own is None or not own.test or facts.split != "test":
        return []
    judged = best.predictions["test"]
    left = ~np.isin(judged.ids, sorted(own.test))
    n, right = int(left.sum()), int(judged.correct[left].sum())
    rest = f"without them it is right on {with_interval(right / n, wilson_interval(right, n))} of {n:,}" if n else "none is left"
    of = f"{counted(len(left) - n, 'test image is', 'test images are')} nearly the same as an image of train or validation"
    return [f"Against the figures of {best.name}: {own.least}{of}; {rest}."]


def _rule(facts: Facts) -> str:
    if facts.chosen_on != "validation":
        return (
            f"{facts.best.name} is the best on {facts.split}; a run without validation predictions left nothing else to choose by."
        )
    rows = ", ".join(f"{run.name} {percent(run.scores['validation']['accuracy'])}" for run in facts.runs)
    alike = len({run.data.get("fingerprints", {}).get("validation") for run in facts.runs}) == 1
    note = "" if alike else " Their validation images are not the same, so small differences there mean little."
    return f"The choice was made on validation, not on test: {rows}. Equal accuracies are settled by log loss, then by size.{note}"


def _cheaper(facts: Facts, same: list[str]) -> list[str]:
    """Runs that cost less and cannot be told apart."""
    said, best = [], facts.best.row
    for run in facts.runs:
        row = run.row
        if run.name not in same or None in (row["model_bytes"], best["model_bytes"]) or row["model_bytes"] >= best["model_bytes"]:
            continue
        said.append(
            f"{run.name} takes {size(row['model_bytes'])} instead of {size(best['model_bytes'])}: where room matters more than "
            "a difference that these images cannot show, it is worth a look."
        )
    return said
