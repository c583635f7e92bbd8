"""Any image as a model takes it, uint8 of its stored size: the one way in for training, evaluation, prediction and serving."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from frostline.decode import MAX_PIXELS, as_array, decode_rgb
from frostline.preprocess import Preprocess, stored_image

#: What a person may hand over as one image: a path, encoded bytes, a Pillow image, or (H, W, 3) uint8 RGB.
ImageLike = bytes | str | Path | Image.Image | NDArray[np.uint8]


def read_stored(image: ImageLike, preprocess: Preprocess, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """One image as the graph takes it.

    Large JPEGs are decoded at a fraction of their size (``decode.decode_rgb``), which is cheaper and moves pixels by a few grey
    levels: hand over files or their bytes, not what another program has decoded, where the very same answer matters.

    Args:
        image: encoded bytes, the path of a file, a Pillow image, or (H, W, 3) uint8 RGB.
        preprocess: the model's.
        max_pixels: H*W above which an encoded image is refused from its header.

    Returns:
        (h, w, 3) uint8 with (h, w) = ``preprocess.stored``.

    Raises:
        BadImage: an encoded image that cannot be decoded, with the reason.
        UserError: something that is no image, or an array that is not (H, W, 3) uint8; it says what to do.
    """
    if isinstance(image, bytes | bytearray | memoryview):
        return stored_image(decode_rgb(bytes(image), at_least=preprocess.stored, max_pixels=max_pixels), preprocess)
    if isinstance(image, str | os.PathLike):
        return stored_image(decode_rgb(Path(image), at_least=preprocess.stored, max_pixels=max_pixels), preprocess)
    return stored_image(as_array(image), preprocess)
