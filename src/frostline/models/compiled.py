"""A network compiled by ``torch.compile`` for its training steps."""

from __future__ import annotations

from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch._dynamo.exc import TorchDynamoException

from frostline.errors import UserError

#: Programs that torch may make of one network: one for each size of images that grow, where its own limit is 8.
MOST_PROGRAMS = 256


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
