"""Where Keras' blocks are in timm's networks, and how many Keras layers lie from each block on: for "block5", "last:50".

The counts are those of Keras 3.15's ``keras.applications`` networks without their top, in the order of ``model.layers``.
"""

from __future__ import annotations

import re
from collections.abc import Callable

#: Keras' name of a block, and the number of layers from its first to the network's last.
_COUNTS: dict[str, str] = {
    "vgg16": "block1 18, block2 15, block3 12, block4 8, block5 4",
    "resnet50": (
        "conv2_block1 168, conv2_block2 156, conv2_block3 146, conv3_block1 136, conv3_block2 124, conv3_block3 114, "
        "conv3_block4 104, conv4_block1 94, conv4_block2 82, conv4_block3 72, conv4_block4 62, conv4_block5 52, "
        "conv4_block6 42, conv5_block1 32, conv5_block2 20, conv5_block3 10"
    ),
    "resnet50v2": (
        "conv2_block1 185, conv2_block2 173, conv2_block3 162, conv3_block1 150, conv3_block2 138, conv3_block3 127, "
        "conv3_block4 116, conv4_block1 104, conv4_block2 92, conv4_block3 81, conv4_block4 70, conv4_block5 59, "
        "conv4_block6 48, conv5_block1 36, conv5_block2 24, conv5_block3 13"
    ),
    "mobilenetv2": (
        "expanded_conv 150, block_1 145, block_2 136, block_3 127, block_4 118, block_5 109, block_6 100, block_7 91, "
        "block_8 82, block_9 73, block_10 64, block_11 56, block_12 47, block_13 38, block_14 29, block_15 20, "
        "block_16 11"
    ),
    "efficientnetb0": (
        "block1a 230, block2a 220, block2b 206, block3a 191, block3b 177, block4a 162, block4b 148, block4c 133, "
        "block5a 118, block5b 105, block5c 90, block6a 75, block6b 61, block6c 46, block6d 31, block7a 16"
    ),
    "efficientnetb2": (
        "block1a 332, block1b 322, block2a 310, block2b 296, block2c 281, block3a 266, block3b 252, block3c 237, "
        "block4a 222, block4b 208, block4c 193, block4d 178, block5a 163, block5b 150, block5c 135, block5d 120, "
        "block6a 105, block6b 91, block6c 76, block6d 61, block6e 46, block7a 31, block7b 18"
    ),
    "efficientnetb4": (
        "block1a 467, block1b 457, block2a 445, block2b 431, block2c 416, block2d 401, block3a 386, block3b 372, "
        "block3c 357, block3d 342, block4a 327, block4b 313, block4c 298, block4d 283, block4e 268, block4f 253, "
        "block5a 238, block5b 225, block5c 210, block5d 195, block5e 180, block5f 165, block6a 150, block6b 136, "
        "block6c 121, block6d 106, block6e 91, block6f 76, block6g 61, block6h 46, block7a 31, block7b 18"
    ),
    "efficientnetv2s": (
        "block1a 508, block1b 504, block2a 499, block2b 494, block2c 487, block2d 480, block3a 473, block3b 468, "
        "block3c 461, block3d 454, block4a 447, block4b 434, block4c 419, block4d 404, block4e 389, block4f 374, "
        "block5a 359, block5b 346, block5c 331, block5d 316, block5e 301, block5f 286, block5g 271, block5h 256, "
        "block5i 241, block6a 226, block6b 213, block6c 198, block6d 183, block6e 168, block6f 153, block6g 138, "
        "block6h 123, block6i 108, block6j 93, block6k 78, block6l 63, block6m 48, block6n 33, block6o 18"
    ),
    "densenet169": "conv2_block1 588, conv3_block1 542, conv4_block1 454, conv5_block1 226",
}


#: Layers of all of it, the input among them, built without weights (Keras gives EfficientNets of ImageNet's one more in front).
_LAYERS = {
    "vgg16": 19,
    "resnet50": 175,
    "resnet50v2": 190,
    "mobilenetv2": 154,
    "efficientnetb0": 237,
    "efficientnetb2": 339,
    "efficientnetb4": 474,
    "efficientnetv2s": 513,
    "densenet169": 595,
}


def _vgg(stage: int, _block: int) -> str:
    return f"features.{(0, 5, 10, 17, 24)[stage - 1]}"


def _mobilenet(_stage: int, block: int) -> str:
    """Keras counts the seventeen blocks through; timm groups them in stages."""
    for stage, length in enumerate((1, 2, 3, 4, 3, 3, 1)):
        if block < length:
            return f"blocks.{stage}.{block}"
        block -= length
    raise ValueError(f"MobileNetV2 has no block {block}")


_PATHS: dict[str, Callable[[int, int], str]] = {
    "vgg16": _vgg,
    "mobilenetv2": _mobilenet,
    "resnet50": lambda stage, block: f"layer{stage - 1}.{block - 1}",
    "resnet50v2": lambda stage, block: f"stages.{stage - 2}.blocks.{block - 1}",
    "densenet169": lambda stage, block: f"features.denseblock{stage - 1}.denselayer{block}",
    "efficientnetb0": lambda stage, block: f"blocks.{stage - 1}.{block}",
    "efficientnetb2": lambda stage, block: f"blocks.{stage - 1}.{block}",
    "efficientnetb4": lambda stage, block: f"blocks.{stage - 1}.{block}",
    "efficientnetv2s": lambda stage, block: f"blocks.{stage - 1}.{block}",
}
_NAME = re.compile(r"(?:expanded_conv|block_?|conv)(\d*)(?:_block(\d+)|([a-z]))?$")


def keras_blocks(backbone: str) -> list[tuple[str, int, str]]:
    """The blocks of a backbone's Keras namesake, first to last: (Keras' name, layers from its first to the end, timm's path)."""
    if backbone not in _COUNTS:
        return []
    found = []
    for entry in _COUNTS[backbone].split(", "):
        name, count = entry.split()
        found.append((name, int(count), _PATHS[backbone](*_numbers(name))))
    return found


def keras_layers(backbone: str) -> int:
    """How many layers a backbone's Keras namesake has; for names of the table of ``keras_blocks`` alone."""
    return _LAYERS[backbone]


def _numbers(name: str) -> tuple[int, int]:
    """(stage, block) of a Keras name: "conv4_block2" is (4, 2), "block6b" (6, 1), "block_11" (0, 11), "block5" (5, 0)."""
    match = _NAME.match(name)
    assert match is not None, name
    number, block, letter = match.groups()
    if name.startswith(("block_", "expanded")):
        return 0, int(number or 0)
    return int(number), int(block) if block else ord(letter) - ord("a") if letter else 0
