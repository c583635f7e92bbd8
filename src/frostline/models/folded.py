"""Frozen BatchNorm folded into the convolution before it while both train: one pass over the activations less, each way.

In inference mode BatchNorm is y = γ (x − μ) / σ + β, so behind a convolution it is one with the weight γ W / σ and a bias.
These are made from the parameters at every step, through which gradients reach W, γ and β as before (Jacob et al. 2018,
section 3.2, without its quantisation).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call

from frostline.models.layers import computed_by

_Norm = nn.modules.batchnorm._BatchNorm


@contextmanager
def folded_batchnorm(graph: fx.GraphModule) -> Iterator[int]:
    """While inside, every convolution of the graph does the work of the BatchNorm that alone follows it.

    BatchNorm must be in inference mode. Yields how many were folded.
    """
    pairs = _pairs(graph)
    folded = [(convolution, _folded(convolution, norm, convolution.forward)) for convolution, norm in pairs]
    with computed_by([*folded, *((norm, _rest(norm)) for _, norm in pairs)]):
        yield len(pairs)


def has_no_statistics(module: nn.Module) -> bool:
    """Whether a module's BatchNorm was folded into its convolutions before its weights were saved.

    Such layers only add a bias: mean 0, one variance for all channels. In training mode they would suddenly normalise. A network
    of random weights has such statistics too, but no biases yet.
    """
    norms = [norm for norm in module.modules() if isinstance(norm, _Norm) and norm.affine and norm.track_running_stats]
    return all(_blank(norm) for norm in norms) and any(bool(norm.bias.any()) for norm in norms)


def _blank(norm: _Norm) -> bool:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return not norm.running_mean.any() and bool((norm.running_var == norm.running_var[0]).all())


def _pairs(graph: fx.GraphModule) -> list[tuple[nn.Conv2d, _Norm]]:
    modules = dict(graph.named_modules())
    calls = [node for node in graph.graph.nodes if node.op == "call_module"]
    found: list[tuple[nn.Conv2d, _Norm]] = []
    for node in calls:
        before = node.args[0] if node.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) > 1:
            continue
        convolution, norm = modules[str(before.target)], modules[str(node.target)]
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, _Norm) and norm.affine and norm.track_running_stats:
            found.append((convolution, norm))
    used = [id(module) for pair in found for module in pair]
    return [pair for pair in found if all(used.count(id(module)) == 1 for module in pair)]  # a shared module has two places


def _folded(convolution: nn.Conv2d, norm: _Norm, plain: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def computed(x: Tensor) -> Tensor:
        assert norm.running_var is not None
        assert norm.running_mean is not None
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        bias = norm.bias - norm.running_mean * scale
        if convolution.bias is not None:
            bias = bias + convolution.bias * scale
        folded = {"weight": convolution.weight * scale[:, None, None, None], "bias": bias}
        with computed_by([(convolution, plain)]):
            result: Tensor = functional_call(convolution, folded, (x,))
        return result

    return computed


def _rest(norm: _Norm) -> Callable[[Tensor], Tensor]:
    """What a normalisation does beside normalising: timm's has an activation in it."""
    after: list[Any] = [getattr(norm, name) for name in ("drop", "act") if hasattr(norm, name)]

    def computed(x: Tensor) -> Tensor:
        for module in after:
            x = module(x)
        return x

    return computed
