"""A network compiled by ``torch.compile`` for its training steps."""

from __future__ import annotations

from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch._dynamo.exc import TorchDynamoException

from frostline.config import Settings
from frostline.errors import UserError

#: Programs that torch may make of one network: one for each size of images that grow, where its own limit is 8.
MOST_PROGRAMS = 256


#: Modes of ``torch.compile`` that record a GPU's steps as CUDA graphs.
RECORDED = ("reduce-overhead", "max-autotune")


def check_graphs(settings: Settings, device: torch.device) -> None:
    """CUDA graphs and batches in parts exclude each other: the second part's run would overwrite the first one's gradients.

    Raises:
        UserError: both are asked for.
    """
    if device.type == "cuda" and settings.compile in RECORDED and settings.accumulate > 1:
        raise UserError(
            "CUDA graphs know batches that are computed at once alone.",
            expected="accumulate=1, or compile=default or no",
            received=f"compile={settings.compile}, accumulate={settings.accumulate}",
            hint="--set accumulate=1",
        )


class Compiled:
    """Calls a network through code that torch has compiled for it; the weights are the network's own.

    Images of every size get a program of their own, which serves batches of any length: sizes are few, and code for all is slow.

    Args:
        fabric: where and in which precision it computes.
        network: on the fabric's device.
        mode: ``torch.compile``'s.
    """

    def __init__(self, fabric: Fabric, network: nn.Module, mode: str) -> None:
        torch._dynamo.config.recompile_limit = MOST_PROGRAMS
        compiled: Any = torch.compile(network, mode=mode, dynamic=False)
        self.model: Any = fabric.setup_module(compiled)

    def __call__(self, x: Tensor) -> Any:
        """What the network answers.

        Raises:
            UserError: it does not compile: there is no compiler, or the network has what it does not know.
        """
        torch._dynamo.maybe_mark_dynamic(x, 0)
        try:
            return self.model(x)
        except TorchDynamoException as error:
            raise UserError(
                "torch.compile could not compile the network.",
                expected="a C++ compiler on a CPU, Triton on a GPU, and operations that both know",
                received=str(error).strip().splitlines()[0][:160],
                hint="--set compile=no, which is the default",
            ) from error
