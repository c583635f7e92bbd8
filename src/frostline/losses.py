"""What training minimises: a loss of logits and labels, and the penalties that layers carry."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from frostline.config import Settings
from frostline.models.layers import PenalisedLinear

#: (N, K) logits and what they should say, (N,) labels or a teacher's (N, K) probabilities, to the mean loss, a scalar, in nats.
Loss = Callable[[Tensor, Tensor], Tensor]


def make_loss(settings: Settings, labels: Tensor | None = None) -> Loss:
    """The loss of the settings: ``taught`` where there is a teacher.

    Else that of ``loss``, ``focal_gamma``, ``label_smoothing`` and, with ``balance="loss"``, class weights.

    Args:
        labels: (N,) of the training rows; needed for class weights alone.
    """
    if settings.teacher:
        return lambda logits, answers: taught(logits.float(), answers, settings.teacher_temperature)
    weights = balanced_weights(labels) if settings.balance == "loss" and labels is not None else None
    if settings.loss == "focal":
        return lambda logits, labels: focal(logits.float(), labels, settings.focal_gamma, settings.label_smoothing, weights)

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        if weights is not None:
            return focal(logits.float(), labels, 0.0, settings.label_smoothing, weights)
        return functional.cross_entropy(logits.float(), labels, label_smoothing=settings.label_smoothing)

    return loss


def focal(logits: Tensor, labels: Tensor, gamma: float, smoothing: float, weights: Tensor | None = None) -> Tensor:
    """Mean over rows of w_y Σ_k t_k (1 − p_k)^γ (−log p_k): the focal loss of Lin et al. 2017, eq. 4; γ = 0: cross-entropy.

    t is one-hot, mixed with 1/K by ``smoothing`` (Szegedy et al. 2016); w is 1 where no class weights are given.
    """
    log_p = functional.log_softmax(logits, dim=1)
    classes = logits.shape[1]
    targets = functional.one_hot(labels, classes).to(log_p.dtype).mul(1 - smoothing).add(smoothing / classes)
    # not quite 0: the slope of a root is infinite there
    rows = -(targets * (1 - log_p.exp()).clamp(min=1e-6).pow(gamma) * log_p).sum(dim=1)
    if weights is None:
        return rows.mean()
    return (rows * weights.to(rows)[labels]).mean()


def taught(logits: Tensor, answers: Tensor, temperature: float) -> Tensor:
    """Mean over rows of T² Σ_k a_k (log a_k − log softmax(z / T)_k): a student beside its teacher (Hinton et al. 2015, section 2).

    It is 0 where both say the same; its slopes are those of the cross-entropy.

    Args:
        logits: (N, K), the student's z.
        answers: (N, K) probabilities a, softened by the same temperature T.
        temperature: T; slopes shrink by T², which the factor makes good.
    """
    return temperature**2 * functional.kl_div(functional.log_softmax(logits / temperature, dim=1), answers, reduction="batchmean")


def balanced_weights(labels: Tensor, classes: int = 0) -> Tensor:
    """(K,) class weights N / (k n_c) for the k classes that have rows, so that their mean over rows is 1; 0 for the others.

    K is ``classes``, or the highest label there is and one."""
    counts = torch.bincount(labels.cpu(), minlength=classes).double()
    present = counts > 0
    return torch.where(present, counts.sum() / (present.sum() * counts.clamp(min=1)), 0.0).float().to(labels.device)


def make_penalty(network: nn.Module) -> Callable[[], Tensor | float]:
    """The sum of the penalties of the network's layers, as a function to be called each step; 0.0 where there are none."""
    layers = [module for module in network.modules() if isinstance(module, PenalisedLinear)]

    def penalty() -> Tensor | float:
        return torch.stack([layer.penalty() for layer in layers]).sum() if layers else 0.0

    return penalty
