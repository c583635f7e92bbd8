"""A saved graph as ONNX: the very operations of the OpenVINO graph, one by one, so that both compute the same.

Needs the package onnx, and neither OpenVINO nor torch: it reads ``graph.xml`` and ``graph.bin``. Whatever was measured is in the
result: uint8 images in, normalisation, enlargement, views, temperature; "probabilities", "features" and "map" out.
"""

from __future__ import annotations

from pathlib import Path

import onnx

from frostline.errors import UserError, few
from frostline.exports.ir import read_layers
from frostline.exports.onnx_rules import RULES
from frostline.exports.onnx_writing import Translation


def to_onnx(graph: Path, outside: bool = False) -> onnx.ModelProto:
    """The ONNX form of a graph, for any number of images.

    Args:
        graph: ``graph.xml``, its weights beside it.
        outside: leave large constants where they are: the result then points into ``graph.bin`` and is of use only beside it.

    Raises:
        UserError: operations without a rule, which it names; no graph there.
    """
    layers = read_layers(graph)
    if strange := {layer.kind for layer in layers} - set(RULES) - {"Parameter", "Const", "Result"}:
        raise UserError(f"Frostline cannot write these operations as ONNX: {few(strange)}.", received=str(graph))
    weights = graph.with_suffix(".bin")
    translation = Translation(layers, weights.read_bytes(), weights.name if outside else "")
    for layer in layers:
        translation.take(layer, RULES)
    return translation.model()
