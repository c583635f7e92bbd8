from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from frostline.errors import UserError
from frostline.layers import blocks, weight_shapes

#: A stem, two stages and a head, as state_dict has them; 27·4 + 8, 4·4·9 + 8, 4·6, 6·3 + 3 parameters.
SHAPES = {
    "backbone.network.conv1.weight": [4, 3, 3, 3],
    "backbone.network.bn1.weight": [4],
    "backbone.network.bn1.bias": [4],
    "backbone.network.bn1.running_mean": [4],
    "backbone.network.layer1.0.conv1.weight": [4, 4, 3, 3],
    "backbone.network.layer1.0.bn1.weight": [4],
    "backbone.network.layer1.0.bn1.bias": [4],
    "backbone.network.layer10.0.proj.weight": [6, 4],
    "head.weight": [3, 6],
    "head.bias": [3],
}


def test_blocks_count_parameters_and_what_trained() -> None:
    found = blocks(SHAPES, {"trainable_parameters": 24 + 21})
    assert [(block["name"], block["parameters"], block["trained"]) for block in found] == [
        ("conv1", 108, 0),
        ("bn1", 8, 0),
        ("layer1.0", 152, 0),
        ("layer10.0", 24, 24),
        ("head", 21, 21),
    ]
    assert [block["holds"] for block in found] == [
        "convolution 3×3, 3 → 4",
        "normalisation, 4",
        "convolution 3×3, normalisation",
        "dense, 4 → 6",
        "dense, 6 → 3",
    ]


def test_where_the_order_does_not_tell_nothing_is_claimed() -> None:
    assert {block["trained"] for block in blocks(SHAPES, {"trainable_parameters": 22})} == {None}
    assert {block["trained"] for block in blocks(SHAPES, {})} == {None}
    assert [block["trained"] for block in blocks(SHAPES, {"trainable_parameters": 313})] == [108, 8, 152, 24, 21]


def test_a_file_of_weights_gives_the_networks_order_back(tmp_path: Path) -> None:
    save_file({name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}, tmp_path / "w.safetensors")
    shapes = weight_shapes(tmp_path / "w.safetensors")
    assert shapes == SHAPES
    assert [block["name"] for block in blocks(shapes, {})] == ["conv1", "bn1", "layer1.0", "layer10.0", "head"]


@pytest.mark.parametrize("content", [b"", b"\xff" * 8, b"\x04\0\0\0\0\0\0\0oops", b'\x07\0\0\0\0\0\0\0{"a":1}'])
def test_what_is_no_file_of_weights_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match="Cannot read the weights"):
        weight_shapes(path)


def test_two_weights_of_one_kind_are_counted():
    found = blocks({"s.b.fc1.weight": [8, 4], "s.b.fc2.weight": [4, 8]}, {"kind": "imported"})
    assert [block["holds"] for block in found] == ["2 × dense"]
