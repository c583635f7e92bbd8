"""A network as a list of operations (torch.fx), the places where one tensor alone passes,
and the names that people have for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from timm.models._features_fx import get_notrace_functions, get_notrace_modules
from torch import Tensor, fx, nn
from torchvision.models.feature_extraction import NodePathTracer

from frostline.errors import UserError, nearest
from frostline.models.backbones import FeatureNetwork
from frostline.models.keras_names import keras_blocks, keras_layers

ALL = "all"


@dataclass(frozen=True)
class Boundary:
    """A place to cut: behind the ``index``-th operation, which is at ``path`` and gives a tensor of ``shape`` (without batch).

    The first is the network's input, whose path is empty: what is below it is only what stands in front of the network.
    """

    index: int
    path: str
    shape: tuple[int, ...]


class _Pooled(nn.Module):
    """What is traced: all of a network, without the reshaping of tokens to a map, which asks for the tensor's shape."""

    def __init__(self, network: FeatureNetwork) -> None:
        super().__init__()
        self.whole = network

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.whole.pooled(x)


class Traced:
    """A network as a list of operations, with the path of the module that each belongs to."""

    def __init__(self, network: FeatureNetwork, size: tuple[int, int]) -> None:
        self.network, self.pooled = network.network, _Pooled(network).eval()
        tracer = NodePathTracer(leaf_modules=list(get_notrace_modules()), autowrap_functions=tuple(get_notrace_functions()))
        try:
            graph = tracer.trace(self.pooled)
            shapes = _Shapes(fx.GraphModule(self.pooled, graph))
            with torch.no_grad():
                shapes.run(torch.zeros(2, 3, *size))
        except Exception as error:  # whatever a network does that torch.fx cannot follow
            reason = str(error).splitlines()[0][:160]
            raise UserError(
                "This network cannot be cut: it does what torch.fx cannot trace.", received=reason, hint="--train-from head"
            ) from error
        self.nodes = list(graph.nodes)
        names = tracer.node_to_qualname
        self.paths = {node: names.get(node, "").removeprefix("whole.network.") for node in self.nodes}
        self.boundaries = self._boundaries(shapes.found)

    def _boundaries(self, shapes: dict[str, tuple[int, ...]]) -> list[Boundary]:
        order = {node: index for index, node in enumerate(self.nodes)}
        last = {node: max((order[user] for user in node.users), default=-1) for node in self.nodes}
        live: set[fx.Node] = set()
        found = []
        for index, node in enumerate(self.nodes[:-1]):
            live = {other for other in live if last[other] > index}
            if node.op == "get_attr":  # a parameter is no activation: the part that uses it holds it
                continue
            if last[node] > index:
                live.add(node)
            if live == {node} and node.name in shapes:
                found.append(Boundary(index, self.paths[node], shapes[node.name][1:]))
        return found

    def below(self, first: int) -> Boundary:
        """The last boundary before the operation ``first``."""
        below = [boundary for boundary in self.boundaries if boundary.index < first]
        return below[-1] if below else self.boundaries[0]

    def find(self, where: str, backbone: str) -> tuple[int, str]:
        """The first operation of what ``where`` names, and what there is to say about it."""
        path, said = self._last(where, backbone) if where.startswith("last:") else (where, "")
        if path == ALL:
            return self.boundaries[0].index + 1, said
        if where.isdigit():
            return self._stage(int(where)), ""
        if path == where:
            by_keras = {name: timm for name, _, timm in reversed(keras_blocks(backbone))}
            stages = {name.partition("_block")[0]: timm for name, timm in by_keras.items() if name.startswith("conv")}
            path = (by_keras | stages).get(where, where)
        if (found := self._first(path)) is None:
            known = self._known()
            raise UserError(
                f"The network has nothing called '{where}'.",
                expected="head, all, a stage's index, last:N, or one of " + ", ".join(known),
                received=where,
                hint=nearest(where, known),
            )
        return found, said

    def _first(self, path: str) -> int | None:
        """The first operation of the module with this path, or else of any whose path has this as a part of it."""
        wanted = path.split(".") if path else ["(nothing)"]
        inside = None
        for index, node in enumerate(self.nodes):
            parts = self.paths[node].split(".")
            if parts[: len(wanted)] == wanted:
                return index
            if inside is None and any(parts[i : i + len(wanted)] == wanted for i in range(1, len(parts))):
                inside = index
        return inside

    def _stage(self, stage: int) -> int:
        modules = [entry["module"] for entry in self.network.feature_info]
        if stage >= len(modules):
            raise UserError(f"The network has no stage {stage}.", expected=f"0 to {len(modules) - 1}", received=str(stage))
        if stage == 0:
            return self.boundaries[0].index + 1
        before = modules[stage - 1].split(".")
        ends = [index for index, node in enumerate(self.nodes[:-1]) if self.paths[node].split(".")[: len(before)] == before]
        if not modules[stage - 1] or not ends:  # timm names modules here that some networks do not have
            raise UserError(
                f"Where stage {stage} of this network begins cannot be told.",
                expected="head, all, or one of " + ", ".join(self._known()),
                received=str(stage),
            )
        return ends[-1] + 1

    def _known(self) -> list[str]:
        return list(dict.fromkeys(short_path(boundary.path) for boundary in self.boundaries if boundary.path))

    def _last(self, where: str, backbone: str) -> tuple[str, str]:
        """The path of the earliest block from which at most N Keras layers follow, or of the last block that Keras names."""
        blocks = keras_blocks(backbone)
        try:
            wanted = int(where.removeprefix("last:"))
        except ValueError as error:
            raise UserError("last: takes a number of Keras layers.", expected="last:50", received=where) from error
        if not blocks:
            raise UserError(f"There is no table of Keras' layers for {backbone}.", hint="name a block or a stage instead")
        if wanted < 1:
            raise UserError("last: takes at least one Keras layer.", expected="last:50, or head", received=where)
        if wanted >= keras_layers(backbone):
            return ALL, f"{where}: {backbone} has {keras_layers(backbone)} Keras layers, and all of it trains."
        within = [block for block in blocks if block[1] <= wanted]
        name, count, path = (within or blocks[-1:])[0]
        which = "the nearest block within is" if within else "no block begins so late; the last one before is"
        return path, "" if count == wanted else f"{where}: {which} {name}, Keras' last {count} layers ({path})."

    def split(self, boundary: Boundary) -> tuple[fx.GraphModule, fx.GraphModule]:
        """The operations up to the boundary, and those behind it."""
        lower, upper = fx.Graph(), fx.Graph()
        made: dict[fx.Node, fx.Node] = {}
        for node in self.nodes[: boundary.index + 1]:
            made[node] = lower.node_copy(node, made.__getitem__)
        cut_at = self.nodes[boundary.index]
        lower.output(made[cut_at])
        above = {cut_at: upper.placeholder("activations")}
        later = self.nodes[boundary.index + 1 :]
        needed = {other for node in later for other in node.all_input_nodes}
        for node in self.nodes[: boundary.index]:
            if node in needed and node.op == "get_attr":
                above[node] = upper.node_copy(node)
        for node in later:
            above[node] = upper.node_copy(node, above.__getitem__)
        return fx.GraphModule(self.pooled, lower), fx.GraphModule(self.pooled, upper)


def short_path(path: str) -> str:
    """A block's path without what is inside it: "blocks.4.2.bn1" is "blocks.4.2"."""
    parts = path.split(".")
    numbers = [i for i, part in enumerate(parts) if part.isdigit()]
    return ".".join(parts[: numbers[-1] + 1]) if numbers else path


class _Shapes(fx.Interpreter):
    """Runs a graph once and keeps the shapes of the tensors."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.found: dict[str, tuple[int, ...]] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self.found[n.name] = tuple(result.shape)
        return result
