"""Memory that the C library keeps between two steps of training, instead of giving it back and asking for it again.

Every step takes and frees the same hundreds of MiB. The GNU C library hands the end of its heap back to the system as soon as
64 MiB there are free, and the next step pays for every page anew: up to 200,000 page faults a second in fine-tuning MobileNetV2
on two cores, a fifth of both (docs/log.md). See ``mallopt(3)``.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

#: Numbers of <malloc.h>: from how many free bytes on the heap's end is given back, and from what size on a block lies outside it.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
#: 2 GiB, the most that can be said, for the first; else what the library comes to by itself where programs use large blocks.
#: Blocks above 32 MiB stay outside the heap: within, what is freed often misses the next one of its size by a few bytes.
_MOST, _USUAL_TRIM, _USUAL_MMAP = 2**31 - 1, 2**26, 2**25


@contextmanager
def freed_memory_kept() -> Iterator[bool]:
    """Within it freed memory stays with the process, to be used again; then it goes back to the system.

    Yields:
        whether there is anything to set: with another C library or allocator this does nothing.
    """
    library = _library()
    if library is None:
        yield False
        return
    library.mallopt(_MMAP_THRESHOLD, _USUAL_MMAP)
    library.mallopt(_TRIM_THRESHOLD, _MOST)
    try:
        yield True
    finally:
        library.mallopt(_TRIM_THRESHOLD, _USUAL_TRIM)
        library.malloc_trim(0)


def _library() -> Any:
    """The GNU C library of this process; None where it is another."""
    if platform.libc_ver()[0] != "glibc":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
