"""Rows of an ImageSet as the graph takes them: uint8 blocks of the stored size, decoded ahead by threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from frostline.data.imageset import ImageSet
from frostline.data.rows import digest_bytes16, shown
from frostline.decode import BadImage, read_file
from frostline.environment import cores
from frostline.errors import UserError
from frostline.files import scratch_array
from frostline.preprocess import Preprocess, stored_image
from frostline.progress import stage
from frostline.stored import read_stored

Images = NDArray[np.uint8]
Rows = NDArray[np.integer]
T = TypeVar("T")
R = TypeVar("R")
#: Items that a thread reads in a row: handing each over alone costs a fourteenth of the speed (docs/log.md).
PORTION = 4


def stored_blocks(images: ImageSet, blocks: Iterable[Rows], preprocess: Preprocess) -> Iterator[Images]:
    """For each block of row numbers its images, (n, h, w, 3) uint8 of the stored size, in order.

    Photos are decoded by threads, at most two blocks ahead of the reader, so memory stays flat.

    Raises:
        UserError: a file changed or vanished since it was verified.
    """
    if images.pixels is not None:
        for rows in blocks:
            yield _from_arrays(images.pixels, rows, preprocess)
        return
    for block in read_ahead(map(list, blocks), lambda row: read_row(images, int(row), preprocess)):
        yield np.stack(block)


def read_ahead(blocks: Iterable[Sequence[T]], read: Callable[[T], R], ahead: int = 2) -> Iterator[list[R]]:
    """``read`` of every item of every block, in order, by one thread more than there are cores: each waits at times.

    Blocks are taken and read at most ``ahead`` before the reader, so memory stays flat; what ``read`` raises is raised here.
    """
    waiting: deque[list[Future[list[R]]]] = deque()

    def portion(items: Sequence[T]) -> list[R]:
        return [read(item) for item in items]

    with ThreadPoolExecutor(cores() + 1, thread_name_prefix="decode") as pool:
        try:
            for block in blocks:
                waiting.append([pool.submit(portion, block[i : i + PORTION]) for i in range(0, len(block), PORTION)])
                if len(waiting) > ahead:
                    yield [found for future in waiting.popleft() for found in future.result()]
            while waiting:
                yield [found for future in waiting.popleft() for found in future.result()]
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def stored_pixels(images: ImageSet, preprocess: Preprocess) -> Images:
    """All images, (N, h, w, 3) uint8 of the stored size: arrays of that size as they are, others brought to it once.

    In memory while small, else in a file that vanishes with the process. Raises what ``stored_blocks`` does.
    """
    if images.pixels is not None and images.pixels.shape[1:3] == preprocess.stored:
        return images.pixels
    pixels = scratch_array((len(images), *preprocess.stored, 3), np.dtype(np.uint8))
    rows = [np.arange(i, min(i + 64, len(images))) for i in range(0, len(images), 64)]
    with stage(f"read {images.name}", len(images)) as bar:
        for index, block in zip(rows, stored_blocks(images, rows, preprocess), strict=True):
            pixels[index] = block
            bar.advance(len(index))
    return pixels


def _from_arrays(pixels: Images, rows: Rows, preprocess: Preprocess) -> Images:
    if pixels.shape[1:3] == preprocess.stored:
        return pixels[rows]
    return np.stack([stored_image(pixels[row], preprocess) for row in rows])


def read_row(images: ImageSet, row: int, preprocess: Preprocess) -> Images:
    """One image of the set as the graph takes it, (h, w, 3) uint8.

    A file is decoded from bytes that have the set's digest: what is kept under a digest (features, activations) is of that content.

    Raises:
        UserError: the file changed or vanished since it was verified.
    """
    if images.files is None:
        assert images.pixels is not None
        return stored_image(images.pixels[row], preprocess)
    path = images.files[row]
    try:
        data = read_file(path)
        _check_unchanged(images, row, data)
        return read_stored(data, preprocess)
    except BadImage as error:
        raise UserError(
            f"{shown(path)} could be read when the data was looked through, and cannot be read now.",
            received=str(error),
            hint="run again: the data is looked through afresh",
        ) from error


def _check_unchanged(images: ImageSet, row: int, data: bytes) -> None:
    assert images.files is not None
    # beside arrays, a file of their size is known by its pixels, and by its bytes "otherwise"
    known = [digests[row] for digests in (images.digests, images.otherwise) if digests is not None]
    if np.bytes_(digest_bytes16(data)) not in np.array(known, "S16"):
        raise UserError(
            f"{shown(images.files[row])} was changed after the data was looked through.",
            expected="the bytes that were verified",
            received="a file of another content",
            hint="run again, when nothing writes to the data: it is looked through afresh",
        )
