"""Linear heads on features: closed-form ridge and multinomial logistic regression. NumPy, with SciPy's Cholesky and torch's L-BFGS.

Both see features x centred by their mean and divided by their standard deviations s, so that ``l2`` means the same for every
feature and every backbone: DenseNet169's features differ in size a million times, and with one scale for all, the small ones,
which are as telling, would be penalised away (89.6 instead of 91.6 % on validation). N rows, D features, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.errors import UserError

Floats = NDArray[np.floating[Any]]
Labels = NDArray[np.int64]
#: Rows of a pass over the features that are held as float32 at once: they stay in the processor's cache between two products.
CHUNK = 2048
#: A feature's scale is at least this share of the typical one.
SMALLEST = 1e-4
#: Differences below this share of a feature's mean are rounding, of its storage in float16 and of gradients in float32.
RESOLVED = 1e-3
#: The least that ridge regression adds to the diagonal of the correlations: sums of float32 products are no more exact.
LEAST_RIDGE = 1e-5


def log_softmax(logits: Floats) -> NDArray[np.float32]:
    """(N, K) log-probabilities of logits (N, K)."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)), np.float32)


@dataclass(frozen=True)
class Linear:
    """Logits = x W + b on raw features: ``weight`` (D, K) and ``bias`` (K,), float32."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]

    def logits(self, features: Floats) -> NDArray[np.float32]:
        """(N, D) to (N, K)."""
        return np.asarray(features, np.float32) @ self.weight + self.bias


class Moments:
    """Running sums over features as they arrive: the normal equations of ridge regression on one-hot labels.

    Constant memory: D x D and D x K in float64. Features are counted from ``origin``, the mean of the first rows: products of
    large values in float32 would bury the variance of features that differ little from their mean.
    """

    def __init__(self, features: int, classes: int) -> None:
        self.n = 0
        self.origin = np.zeros(features, np.float32)
        self.x = np.zeros(features)
        self.y = np.zeros(classes)
        self.xx = np.zeros((features, features))
        self.xy = np.zeros((features, classes))

    def add(self, features: NDArray[np.float32], labels: Labels) -> None:
        """Take up rows (n, D) with labels (n,)."""
        onehot = np.eye(len(self.y), dtype=np.float32)[labels]
        if not self.n:
            self.origin = features.mean(0, dtype=np.float64).astype(np.float32)
        features = features - self.origin
        self.n += len(labels)
        self.x += features.sum(0, dtype=np.float64)
        self.y += onehot.sum(0)
        self.xx += features.T @ features
        self.xy += features.T @ onehot

    def added(self, other: Moments) -> Moments:
        """The sums over both."""
        total = Moments(len(self.x), len(self.y))
        total.n, total.origin, total.y = self.n + other.n, self.origin, self.y + other.y
        moved = other.origin.astype(np.float64) - self.origin
        total.x = self.x + other.x + other.n * moved
        total.xx = self.xx + other.xx + np.outer(other.x, moved) + np.outer(moved, other.x) + other.n * np.outer(moved, moved)
        total.xy = self.xy + other.xy + np.outer(moved, other.y)
        return total

    @property
    def mean(self) -> NDArray[np.float64]:
        """(D,) mean features."""
        return self.origin + self._x

    @property
    def _x(self) -> NDArray[np.float64]:
        return self.x / max(self.n, 1)

    def covariance(self) -> NDArray[np.float64]:
        """(D, D), divided by N."""
        centred: NDArray[np.float64] = self.xx / self.n - np.outer(self._x, self._x)
        return centred

    def scales(self) -> NDArray[np.float64]:
        """s, (D,): the features' standard deviations, none below ``SMALLEST`` of what is typical or ``RESOLVED`` of its mean.

        A feature that hardly ever differs from its mean would otherwise decide everything on the day that it does.
        """
        deviations: NDArray[np.float64] = np.sqrt(np.maximum(np.diag(self.covariance()), 0))
        typical = float(np.sqrt(np.mean(deviations**2)))
        smallest = np.maximum(SMALLEST * typical, RESOLVED * np.abs(self.mean))
        return np.maximum(deviations, smallest) if typical > 0 else np.ones_like(deviations)

    def ridge(self, l2: float) -> Linear:
        """argmin mean |x W + b - onehot|² + l2 |W|², by Cholesky (Hoerl & Kennard 1970); b is not penalised."""
        s = self.scales()
        system = self.covariance() / np.outer(s, s)
        system[np.diag_indices_from(system)] += max(l2, LEAST_RIDGE)
        target = (self.xy / self.n - np.outer(self._x, self.y / self.n)) / s[:, None]
        solved: Any = _scipy("linalg").solve(system, target, assume_a="pos", overwrite_a=True) / s[:, None]
        return _as_linear(solved, self.y / self.n - self.mean @ solved)


def _as_linear(weight: NDArray[np.float64], bias: NDArray[np.float64]) -> Linear:
    return Linear(weight.astype(np.float32), bias.astype(np.float32))


class Logistic:
    """Multinomial logistic regression by preconditioned L-BFGS.

    Minimises mean cross-entropy + l2/2 |W|² over features as above. The Hessian is at most ½ (I - 11ᵀ/K) ⊗ (XᵀX/N) + l2
    (Böhning 1992, eq. 2.4), so the search runs in coordinates in which a tenth of that bound's feature part is the identity
    (most rows are sure, and add little): tens of passes over the data instead of hundreds.

    Args:
        features: (N, D) float32 or float16, possibly memory-mapped; read in chunks.
        labels: (N,) in [0, K).
        moments: of the same rows.
        weights: (K,) of each class' rows in the loss, whose mean over the rows is 1; all 1 where None.
    """

    def __init__(self, features: Floats, labels: Labels, moments: Moments, weights: NDArray[np.float32] | None = None) -> None:
        self.features, self.labels = features, labels
        self.weights = np.ones(len(moments.y), np.float32) if weights is None else weights
        self.mean, self.scales = moments.mean, moments.scales()[:, None]
        self.classes = len(moments.y)
        counts = moments.y * self.weights
        self.prior = np.log((counts + 1) / (counts.sum() + self.classes))
        self.covariance = moments.covariance() / (self.scales * self.scales.T)

    def fit(self, l2: float, start: Linear | None = None, tolerance: float = 1e-5) -> Linear:
        """The head for one ``l2``.

        Args:
            l2: the penalty.
            start: a warm start, for example the head of a neighbouring ``l2``.
            tolerance: gain per iteration, in nats, below which the search ends; at 1e-5 accuracy no longer moves.
        """
        linalg = _scipy("linalg")
        bound = self.covariance / 20
        bound[np.diag_indices_from(bound)] += l2 + 1e-6
        L = linalg.cholesky(bound, lower=True, overwrite_a=True)
        P = linalg.solve_triangular(L, np.eye(len(L)), lower=True).T.astype(np.float32)  # (D, D): scaled W = P V

        def objective(V: NDArray[np.float64], b: NDArray[np.float64]) -> tuple[float, list[Floats]]:
            W = P @ V.astype(np.float32)
            loss, dW, db = self._loss(W, b.astype(np.float32))
            return loss + 0.5 * l2 * float(np.vdot(W, W)), [P.T @ (dW + l2 * W), db]

        V0 = np.zeros((len(self.mean), self.classes)) if start is None else L.T @ (start.weight * self.scales)
        b0 = self.prior if start is None else start.bias + self.mean @ start.weight
        V, b = minimized(objective, [V0, b0], tolerance)
        W = (P @ V) / self.scales
        return _as_linear(W, b - self.mean @ W)

    def _loss(self, W: NDArray[np.float32], b: NDArray[np.float32]) -> tuple[float, NDArray[np.float32], NDArray[np.float32]]:
        """Mean cross-entropy at scaled weights W (D, K), with its gradients."""
        scales = self.scales.astype(np.float32)
        raw = W / scales
        bias = b - self.mean.astype(np.float32) @ raw
        loss, dW, db = 0.0, np.zeros_like(W), np.zeros(self.classes, np.float32)
        for start in range(0, len(self.labels), CHUNK):
            x = np.asarray(self.features[start : start + CHUNK], np.float32)
            y = self.labels[start : start + CHUNK]
            log_p = log_softmax(x @ raw + bias)
            rows, weights = np.arange(len(y)), self.weights[y]
            loss -= float((weights * log_p[rows, y]).sum(dtype=np.float64))
            residual = np.exp(log_p)
            residual[rows, y] -= 1
            residual *= weights[:, None]
            dW += x.T @ residual
            db += residual.sum(0)
        n = np.float32(len(self.labels))
        # gradient by scaled, centred weights: (x - mean)ᵀ r / s
        return loss / len(self.labels), (dW - np.outer(self.mean.astype(np.float32), db)) / (n * scales), db / n


def minimized(
    objective: Callable[..., tuple[float, list[Floats]]], start: list[NDArray[np.float64]], tolerance: float
) -> list[NDArray[np.float64]]:
    """Where a smooth function has its least value: torch's L-BFGS (Nocedal and Wright 2006, algorithm 7.5, strong Wolfe).

    SciPy's is not used: its own BLAS threads wait actively beside NumPy's, which makes every pass twice as slow on two cores.

    Args:
        objective: of arrays of the shapes of ``start``; its value and the gradient by each.
        tolerance: the search ends when an iteration gains less.
    """
    import torch

    found = [torch.from_numpy(np.array(values, np.float64)) for values in start]
    options: dict[str, Any] = {"max_iter": 500, "max_eval": 1000, "history_size": 20, "line_search_fn": "strong_wolfe"}
    search = torch.optim.LBFGS(found, tolerance_change=tolerance, tolerance_grad=1e-7, **options)

    def evaluate() -> Any:
        value, gradients = objective(*(values.numpy() for values in found))
        for values, gradient in zip(found, gradients, strict=True):
            values.grad = torch.from_numpy(np.asarray(gradient, np.float64))
        return torch.tensor(value, dtype=torch.float64)

    search.step(evaluate)
    return [values.numpy() for values in found]


def sweep(problem: Logistic, l2: Sequence[float], validation: Floats, labels: Labels) -> list[tuple[float, Linear, float, float]]:
    """Heads for values of ``l2`` around the best: (l2, head, accuracy, log loss) on validation, in increasing ``l2``.

    Log loss on validation has one valley along ``l2``, so the search starts in the middle and walks down to either side until it
    rises, each head started from its neighbour: four fits where the whole list would take seven, and never the costly far ends.
    """
    values = sorted(l2)
    tried: dict[int, tuple[float, Linear, float, float]] = {}

    def loss(index: int, neighbour: int) -> float:
        if not 0 <= index < len(values):
            return float("inf")
        if index not in tried:
            start = tried[neighbour][1] if neighbour in tried else None
            head = problem.fit(values[index], start)
            tried[index] = (values[index], head, *judge(head, validation, labels))
        return tried[index][3]

    middle = len(values) // 2
    loss(middle, middle)
    for step in (-1, 1):
        at = middle
        while loss(at + step, at) < loss(at, at):
            at += step
    return [tried[index] for index in sorted(tried)]


def judge(head: Linear, features: Floats, labels: Labels) -> tuple[float, float]:
    """Accuracy and mean cross-entropy on rows (N, D) with labels (N,)."""
    log_p = log_softmax(head.logits(features))
    known = labels >= 0
    loss = -float(log_p[known, labels[known]].mean()) if known.any() else 0.0
    return float((log_p.argmax(1) == labels).mean()), loss


def _scipy(part: str) -> Any:
    try:
        return import_module(f"scipy.{part}")
    except ImportError as error:
        raise UserError("Fitting needs SciPy.", hint="pip install 'frostline[train]'") from error
