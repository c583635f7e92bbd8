"""What a network consists of, from the names and shapes of its weights: blocks, parameters, and what trained."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from frostline.errors import UserError

Shapes = Mapping[str, Sequence[int]]

#: What a network carries beside its parameters: the statistics of BatchNorm.
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
#: A header of a .safetensors file is refused beyond this size, in bytes (the format's own limit).
_MOST_HEADER = 100_000_000
#: Where names alone give the order: what stands before everything else, and after it.
_FIRST = re.compile(r"(conv_stem|stem|patch_embed|cls_token|pos_embed|conv1|bn1|features\.(conv0|norm0))(\.|$)")
_LAST = re.compile(r"(features\.norm5|conv_head|bn2|norm|fc_norm)(\.|$)")


def weight_shapes(path: Path) -> dict[str, list[int]]:
    """Names and shapes of a .safetensors file's tensors; the weights themselves are not read.

    The file keeps no order of its own, so names are put into that of the network as far as names tell it.

    Raises:
        UserError: it is no such file.
    """
    try:
        with open(path, "rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            if size > _MOST_HEADER:
                raise ValueError(f"a header of {size} bytes")
            header = json.loads(stream.read(size))
        shapes = {str(name): [int(n) for n in row["shape"]] for name, row in header.items() if name != "__metadata__"}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"Cannot read the weights {path}.", expected="a .safetensors file", received=str(error)) from error
    return {name: shapes[name] for name in sorted(shapes, key=_place)}


def _place(name: str) -> tuple[int, list[tuple[bool, int, str]]]:
    short = _short(name)
    rank = 3 if short.startswith("head.") else 0 if _FIRST.match(short) else 2 if _LAST.match(short) else 1
    # a normalisation follows its convolution, and a transition its dense block
    followed = re.sub(r"^bn1\b", "conv1.~", short).replace("features.transition", "features.denseblock")
    parts = re.findall(r"\d+|\D+", followed)
    return rank, [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]


def _short(name: str) -> str:
    return name.removeprefix("backbone.").removeprefix("network.")


def blocks(shapes: Shapes, architecture: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The blocks of a network, from the input to the output.

    Args:
        shapes: of all weights, in the network's order.
        architecture: the card's; "trainable_parameters" tells how many parameters, counted from the output, trained.

    Returns:
        For each block its name, what it holds in words, parameters, and trained: how many of these trained, or None where the
        order of the weights does not tell (their numbers then add up to no such sum), and of an imported network.
    """
    kept = {name: list(shape) for name, shape in shapes.items() if not name.endswith(_STATISTICS)}
    imported = architecture.get("kind") == "imported"  # how it was trained, and what of it, is known elsewhere
    trained = _trained(kept, None if imported else architecture.get("trainable_parameters"))
    groups: dict[str, dict[str, list[int]]] = {}
    for name, shape in kept.items():
        groups.setdefault(_block(name), {})[name] = shape
    return [
        {
            "name": block,
            "holds": _holds(group),
            "parameters": sum(map(_count, group.values())),
            "trained": None if trained is None else sum(_count(shape) for name, shape in group.items() if name in trained),
        }
        for block, group in groups.items()
    ]


def _trained(shapes: Shapes, wanted: int | None) -> set[str] | None:
    """The last weights that have so many parameters together: what is above the frost line. None where no such place is."""
    total, names = 0, set()
    for name in reversed(list(shapes)):
        if total == wanted:
            break
        total += _count(shapes[name])
        names.add(name)
    return names if total == wanted else None


def _count(shape: Sequence[int]) -> int:
    count = 1
    for length in shape:
        count *= length
    return count


def _block(name: str) -> str:
    """ "layer1.0" of "backbone.network.layer1.0.bn1.weight"; as the plan before training shows them."""
    first, *rest = _short(name).split(".")[:-1] or [_short(name)]
    return f"{first}.{rest[0]}" if rest else first


def _holds(group: Shapes) -> str:
    """ "2 convolutions 3×3, 2 normalisations"."""
    kinds: dict[str, int] = {}
    for name, shape in group.items():
        if name.endswith("weight"):
            kind = _kind(shape)
            kinds[kind] = kinds.get(kind, 0) + 1
    if len(group) <= 2 and sum(kinds.values()) == 1:
        (shape,) = [shape for name, shape in group.items() if name.endswith("weight")]
        (kind,) = kinds
        return f"{kind}, {shape[1]:,} → {shape[0]:,}" if len(shape) > 1 else f"{kind}, {shape[0]:,}"
    counted = [f"{count} × {kind}" if count > 1 else kind for kind, count in kinds.items()]
    return ", ".join(counted) or "weights of its own"


def _kind(shape: Sequence[int]) -> str:
    if len(shape) == 4:
        return f"{'depthwise ' if shape[1] == 1 else ''}convolution {shape[2]}×{shape[3]}"
    return {1: "normalisation", 2: "dense"}.get(len(shape), f"weights of {len(shape)} axes")
