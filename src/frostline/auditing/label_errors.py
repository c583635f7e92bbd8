"""Labels that are probably wrong: what is said of images by a linear head and by neighbours that have not learned from them.

Out-of-fold probabilities by logistic regression on cached features, corrected by the labels of the nearest other images: a head
misjudges images of rare kinds, whose neighbours know better. Images are ranked by the probability of the class that they
were given. Where labels are exchanged at random and probabilities are true, no other order finds more of them sooner. How many are
wrong is estimated by confident learning (Northcutt, Jiang and Chuang 2021, section 3.1), as the library cleanlab does it.
Legend: N rows, D features, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.errors import UserError
from frostline.feature_neighbours import Directions, nearest
from frostline.files import scratch_array
from frostline.linear import CHUNK, Linear, Logistic, Moments, log_softmax, sweep
from frostline.progress import Stage, stage

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]
Digests = NDArray[np.bytes_]

#: Folds; a class with fewer different images than that cannot be judged.
FOLDS = 5
#: Classes below which the estimate of the number of errors is calibrated.
FEW = 4
#: Penalties that are tried on the first fold.
L2 = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
#: Neighbours that vote, how much nearer ones count, a class that nobody votes for, and the powers of the heads' and the votes'
#: probabilities. Chosen on CIFAR-10 with draws of exchanged labels that no reported figure uses (docs/log.md). The heads' power
#: is below 1 because both experts are sure of the same images: what they say together is otherwise too sure of itself.
VOTERS, SHARPNESS, UNHEARD, POWERS = 25, 15.0, 0.1, (0.85, 0.4)


@dataclass(frozen=True)
class OutOfFold:
    """What is said of rows by those that have not learned from them.

    Attributes:
        log_p: (N, K) log-probabilities by heads and neighbours together.
        heads_log_p: (N, K) by the heads alone, of each row by that of its fold.
        heads: for each fold one, trained on all the others.
        voters: the neighbours.
        l2: the penalty, chosen on the first fold.
    """

    log_p: Floats
    heads_log_p: Floats
    heads: tuple[Linear, ...]
    voters: Voters
    l2: float

    def others(self, features: Floats, digests: Digests) -> Floats:
        """(M, K) log-probabilities of rows beside those, (M, D): the mean over the heads, and their neighbours.

        Args:
            features: of the other rows.
            digests: (M,) of their content. Where another row has the content of one of those, it is judged as that one is: by the
                head and the neighbours that have not learned from it.
        """
        fold_of = dict(zip(self.voters.digests.tolist(), self.voters.folds.tolist(), strict=True))
        folds = np.array([fold_of.get(digest, -1) for digest in digests.tolist()], np.int64)
        mean = np.mean([_log_p(head, features) for head in self.heads], axis=0)
        for fold, head in enumerate(self.heads):
            if len(rows := np.flatnonzero(folds == fold)):
                mean[rows] = _log_p(head, features, rows)
        return together(mean, self.voters.log_shares(self.voters.directions(features), digests))


@dataclass(frozen=True)
class Voters:
    """Labelled rows whose nearest ones vote, one for each content. Legend: C contents, W coordinates.

    Attributes:
        directions: of features.
        points: (C, W) directions of the rows.
        labels: (C,); where rows of one content have several labels, the first one's.
        classes: K.
        digests: (C,) of content.
        folds: (C,).
    """

    directions: Directions
    points: Floats
    labels: Labels
    classes: int
    digests: Digests
    folds: Labels

    def log_shares(self, points: Floats, digests: Digests) -> Floats:
        """(M, K) log shares of the votes for (M, W) points, of rows of another content than theirs (M,).

        The nearest ``VOTERS`` vote with exp(``SHARPNESS`` · cosine) each; a vote that nobody gives counts ``UNHEARD``.
        """
        count = min(VOTERS, len(self.points) - 1)
        found, cosines = nearest(points, self.points, count + 1)
        votes = np.full((len(points), self.classes), UNHEARD)
        weights = np.exp(SHARPNESS * cosines.astype(np.float64))
        weights[self.digests[found] == digests[:, None]] = 0
        weights[(weights > 0).cumsum(axis=1) > count] = 0
        weights *= count / weights.sum(axis=1, keepdims=True)
        np.add.at(votes, (np.arange(len(points))[:, None], self.labels[found]), weights)
        return np.asarray(np.log(votes / votes.sum(axis=1, keepdims=True)), np.float32)


def together(log_p: Floats, log_shares: Floats) -> Floats:
    """(N, K) log-probabilities of a product of experts to their ``POWERS`` (Hinton 2002, equation 1)."""
    return log_softmax(POWERS[0] * log_p + POWERS[1] * log_shares)


def folds_of(labels: Labels, digests: Digests, count: int = FOLDS, seed: int = 0) -> Labels:
    """(N,) a fold in [0, ``count``) for each row: stratified by label, and the rows of one content in one fold.

    Args:
        labels: (N,).
        digests: (N,) of content. Where rows of one content have several labels, the first one's decides.
        count: folds.
        seed: of the order within a class.
    """
    _, first, content = np.unique(digests, return_index=True, return_inverse=True)
    random = np.random.default_rng([seed, len(labels)]).random(len(first))
    order = np.lexsort((random, labels[first]))
    fold = np.empty(len(first), np.int64)
    fold[order] = np.arange(len(first)) % count
    return fold[content]


def out_of_fold(
    features: Floats, labels: Labels, classes: int, folds: Labels, digests: Digests, l2: Sequence[float] = L2
) -> OutOfFold:
    """Probabilities of every row by heads and neighbours that have not learned from it.

    Every head is fitted from the start: one that began where another fold's ended would remember rows that it is to judge.

    Args:
        features: (N, D) float32, possibly memory-mapped.
        labels: (N,) in [0, K), every class in at least two folds.
        classes: K.
        folds: (N,) from 0 on, as ``folds_of`` makes them.
        digests: (N,) of content: nobody votes on an image of his own.
        l2: penalties, of which the first fold's log loss chooses.
    """
    with stage("label errors", int(folds.max()) + 2) as bar:
        heads, chosen = _heads(_Rest(features, labels, classes, folds), l2, bar)
        log_p = np.empty((len(labels), classes), np.float32)
        for fold, head in enumerate(heads):
            rows = np.flatnonzero(folds == fold)
            log_p[rows] = _log_p(head, features, rows)
        directions = Directions.of(features)
        points = directions(features)
        first = np.sort(np.unique(digests, return_index=True)[1])
        voters = Voters(directions, points[first], labels[first], classes, digests[first], folds[first])
        both = together(log_p, voters.log_shares(points, digests))
        bar.advance()
    return OutOfFold(both, log_p, tuple(heads), voters, chosen)


def _log_p(head: Linear, features: Floats, rows: Labels | None = None) -> Floats:
    rows = np.arange(len(features)) if rows is None else rows
    parts = [log_softmax(head.logits(features[rows[i : i + CHUNK]])) for i in range(0, len(rows), CHUNK)]
    return np.concatenate(parts) if parts else np.zeros((0, len(head.bias)), np.float32)


def _heads(rest: _Rest, l2: Sequence[float], bar: Stage) -> tuple[list[Linear], float]:
    held = np.flatnonzero(rest.folds == 0)
    tried = sweep(rest.problem(0), l2, rest.features[held], rest.labels[held])
    chosen, head = min(tried, key=lambda item: item[3])[:2]
    heads = [head]
    bar.advance()
    for fold in range(1, int(rest.folds.max()) + 1):
        heads.append(rest.problem(fold).fit(chosen))
        bar.advance()
    return heads, chosen


class _Rest:
    """The rows outside a fold, copied into one array that serves all folds in turn."""

    def __init__(self, features: Floats, labels: Labels, classes: int, folds: Labels) -> None:
        self.features, self.labels, self.folds = features, labels, folds
        self._room = scratch_array(features.shape, np.dtype(np.float32))
        self._moments = [self._of(np.flatnonzero(folds == fold), classes) for fold in range(int(folds.max()) + 1)]

    def _of(self, rows: Labels, classes: int) -> Moments:
        moments = Moments(self.features.shape[1], classes)
        for start in range(0, len(rows), CHUNK):
            some = rows[start : start + CHUNK]
            moments.add(self.features[some], self.labels[some])
        return moments

    def problem(self, fold: int) -> Logistic:
        """The regression on the rows outside ``fold``."""
        rows = np.flatnonzero(self.folds != fold)
        for start in range(0, len(rows), CHUNK):
            some = rows[start : start + CHUNK]
            self._room[start : start + len(some)] = self.features[some]
        first, *others = [part for number, part in enumerate(self._moments) if number != fold]
        for part in others:
            first = first.added(part)
        return Logistic(self._room[: len(rows)], self.labels[rows], first)


def surprise(log_p: Floats, labels: Labels) -> Floats:
    """(N,) −log p(given class), in nats: the higher, the more likely the label is wrong."""
    return np.asarray(-log_p[np.arange(len(labels)), labels], np.float32)


def suggestions(log_p: Floats, labels: Labels) -> Labels:
    """(N,) the likeliest class that is not the given one."""
    others = log_p.copy()
    others[np.arange(len(labels)), labels] = -np.inf
    return np.asarray(others.argmax(axis=1), np.int64)


def likely_errors(log_p: Floats, labels: Labels) -> NDArray[np.bool_]:
    """(N,) which labels are called likely errors: the most surprising, as many as are estimated, where another class leads.

    The number is that of the confident joint's off-diagonal counts (cleanlab's ``num_label_issues``): rows whose probability of
    another class is at least as high as is usual for rows of that class. For fewer than ``FEW`` classes it is calibrated to the
    labels' frequencies, as cleanlab advises, for the counts are too low there. Assumes out-of-fold probabilities.

    Args:
        log_p: (N, K) log-probabilities.
        labels: (N,) in [0, K).

    Raises:
        UserError: cleanlab is not installed.
    """
    p = np.exp(log_p.astype(np.float64))
    p /= p.sum(axis=1, keepdims=True)
    method = "off_diagonal_calibrated" if p.shape[1] < FEW else "off_diagonal"
    count = int(cleanlab("count").num_label_issues(labels, p, estimation_method=method))
    worst = np.argsort(-surprise(log_p, labels), kind="stable")[:count]
    called = np.zeros(len(labels), bool)
    called[worst] = True
    return called & (p.argmax(axis=1) != labels)


def cleanlab(part: str) -> Any:
    """A module of the library. Raises ``UserError`` where it is not installed."""
    try:
        return import_module(f"cleanlab.{part}")
    except ImportError as error:
        raise UserError("Label errors are estimated by cleanlab.", hint="pip install 'frostline[audit]'") from error
