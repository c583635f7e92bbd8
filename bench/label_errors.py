"""How well wrong labels are found: 1 % of the training labels exchanged at random, and the ranking of `frostline inspect` judged.

    python bench/label_errors.py --data cifar10:FOLDER --weights FOLDER [--backbone densenet169] [--seed 0]

The data's own errors, which nobody has marked, count as mistakes of the ranking. Appends rows to results/label_errors.csv: our
ranking, and cleanlab's (`get_label_quality_scores`, its default) on the out-of-fold probabilities of the linear heads, and on those
of heads and neighbours together, which are ours: average precision, precision at recall 0.8, share of the exchanged labels within
the first 2 % of images; and of those called likely errors the number, precision and recall. Seconds count from cached features to
the end of the ranking.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from cleanlab.rank import get_label_quality_scores
from common import append_rows
from inputs import versions
from sklearn.metrics import average_precision_score

from frostline.auditing.features import features_of
from frostline.auditing.label_errors import folds_of, likely_errors, out_of_fold, surprise
from frostline.config import Settings
from frostline.data.sources import load_source

SHARE, RECALL, FIRST = 0.01, 0.8, 0.02


def exchanged(labels: np.ndarray, classes: int, seed: int) -> np.ndarray:
    """Labels of which 1 %, drawn at random, are another class, each as likely."""
    rng = np.random.default_rng([seed, len(labels)])
    rows = rng.choice(len(labels), round(SHARE * len(labels)), replace=False)
    changed = labels.copy()
    changed[rows] = (labels[rows] + rng.integers(1, classes, len(rows))) % classes
    return changed


def figures(score: np.ndarray, wrong: np.ndarray) -> dict[str, float]:
    """What a ranking is worth: the highest score first."""
    hits = np.cumsum(wrong[np.argsort(-score, kind="stable")])
    needed = int(np.ceil(RECALL * wrong.sum()))
    return {
        "average_precision": round(float(average_precision_score(wrong, score)), 4),
        "precision_at_recall_0.8": round(needed / (int(np.searchsorted(hits, needed)) + 1), 4),
        "in_first_2_percent": round(float(hits[round(FIRST * len(wrong)) - 1] / wrong.sum()), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights", default="")
    parser.add_argument("--backbone", default="densenet169")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    images = load_source(asked.data).sets["train"]
    features = features_of([images], Settings(backbone=asked.backbone, weights=asked.weights))
    labels = exchanged(images.labels, len(images.classes), asked.seed)
    wrong = labels != images.labels
    started, computing = time.monotonic(), time.process_time()
    found = out_of_fold(features, labels, len(images.classes), folds_of(labels, images.digests), images.digests)
    score = surprise(found.log_p, labels)
    seconds, computing = time.monotonic() - started, time.process_time() - computing
    likely = likely_errors(found.log_p, labels)
    common = {"images": len(labels), "backbone": asked.backbone, "seed": asked.seed, "exchanged": int(wrong.sum()), "l2": found.l2}
    called = {
        "called": int(likely.sum()),
        "precision": round(float(wrong[likely].mean()), 4) if likely.any() else None,
        "recall": round(float(likely[wrong].mean()), 4),
        "seconds": round(seconds, 1),
        "processor_seconds": round(computing, 1),  # of all cores; what other processes on the machine took is not in it
    }
    rows = [
        {**common, "ranking": "frostline", **figures(score, wrong), **called, "versions": versions()},
    ]
    for name, log_p in (("cleanlab, heads alone", found.heads_log_p), ("cleanlab, the same probabilities", found.log_p)):
        probabilities = np.exp(log_p.astype(np.float64))
        plain = -get_label_quality_scores(labels, probabilities / probabilities.sum(axis=1, keepdims=True))
        rows.append({**common, "ranking": name, **figures(plain, wrong), **dict.fromkeys(called), "versions": versions()})
    append_rows("label_errors", rows)
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
