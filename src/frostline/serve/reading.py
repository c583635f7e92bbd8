"""What clients send as images, to what the model takes: several at a time, each refused on its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from frostline.decode import BadImage, check_sides
from frostline.environment import cores
from frostline.preprocess import Preprocess
from frostline.serve.refusals import Refused, of_image
from frostline.stored import read_stored

T = TypeVar("T")
#: Bytes of a body that are parsed at once, by the thread that everyone waits for.
AT_ONCE = 1 << 18
#: One image as it is sent: encoded, or (H, W, 3) uint8 RGB.
Sent = bytes | NDArray[np.uint8]


def read_one(sent: Sent, preprocess: Preprocess, max_pixels: int) -> NDArray[np.uint8] | Refused:
    """The image (h, w, 3) uint8 of the stored size, or why it cannot be used. Never raises for any bytes or numbers."""
    try:
        if isinstance(sent, np.ndarray):  # pixels that are sent as they are have the limits of those that are decoded
            check_sides(sent.shape[1], sent.shape[0], max_pixels)
        return read_stored(sent, preprocess, max_pixels=max_pixels)
    except BadImage as error:
        return of_image(error)
    except MemoryError:
        return of_image(BadImage("over-large: does not fit in memory"))


class Readers:
    """A thread more than there are cores, for each waits for the interpreter at times; what waits for one holds encoded bytes only.

    Decoding needs memory for the whole image, so at most as many images as threads are decoded at any time.
    """

    def __init__(self, max_pixels: int) -> None:
        self.max_pixels = max_pixels
        self.open()

    def open(self) -> None:
        """Read again after ``close``."""
        self.pool = ThreadPoolExecutor(cores() + 1, thread_name_prefix="decode")

    async def read(self, images: Sequence[Sent], preprocess: Preprocess) -> list[NDArray[np.uint8] | Refused]:
        """Each image read, in order. Cancelling leaves out those that no thread has begun."""
        loop = asyncio.get_running_loop()
        one = partial(read_one, preprocess=preprocess, max_pixels=self.max_pixels)
        return list(await asyncio.gather(*(loop.run_in_executor(self.pool, one, image) for image in images)))

    async def parsed(self, parse: Callable[..., T], body: bytes, *args: Any) -> T:
        """What ``parse`` makes of a body: of a large one in a thread, so that others need not wait for it."""
        if len(body) <= AT_ONCE:
            return parse(body, *args)
        return await asyncio.get_running_loop().run_in_executor(self.pool, parse, body, *args)

    def close(self) -> None:
        """Finish what has begun."""
        self.pool.shutdown()
