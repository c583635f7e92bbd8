"""Where Frostline keeps things, and how it writes them: whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from frostline.errors import UserError

#: How the entries of a ZIP may be packed: stored or deflated. What else Python unpacks, it unpacks without a limit of bytes.
COMPRESSIONS = (0, 8)
#: How the name of a file ends that is still being written.
PARTIAL = ".tmp"


def home() -> Path:
    """The cache folder: ``FROSTLINE_HOME``, else ``$XDG_CACHE_HOME/frostline``, else ``~/.cache/frostline``."""
    if moved := os.environ.get("FROSTLINE_HOME"):
        return Path(moved).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "frostline"


def sync_folder(folder: Path) -> None:
    """Make a rename inside ``folder`` survive a power cut (a no-op where folders cannot be opened)."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def move_in_place(fresh: Path, folder: Path) -> None:
    """Give a folder that was filled under a temporary name its own; where another process was quicker, its folder stays."""
    fresh.chmod(0o755)
    try:
        fresh.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
    sync_folder(folder.parent)


@contextmanager
def one_at_a_time(path: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Holds a lock on the file ``path``, which is made; other processes wait, and ``waiting`` is called where this one must.

    A killed process leaves no lock. Where the system has no locks, nobody waits.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = hold(path)
    except BlockingIOError:
        waiting()
        handle = hold(path, wait=True)
    try:
        yield
    finally:
        os.close(handle)


def hold(path: Path, wait: bool = False, shared: bool = False) -> int:
    """An open handle of the file ``path``, which is made, with a lock that lasts until it is closed or the process dies.

    Where the system has no locks it is only opened. A lock that is ``shared`` keeps out those who want it for themselves alone.

    Raises:
        BlockingIOError: another holds it, and ``wait`` is false.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        import fcntl

        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(handle)
        raise
    except (ImportError, OSError):  # Windows, and file systems without locks
        pass
    return handle


@contextmanager
def named(path: Path) -> Iterator[None]:
    """While inside, an ``OSError`` that names no file (a full disk), or a hidden one beside ``path``, is made to name ``path``."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and (error.filename is None or _is_hidden(error.filename, path.parent)):
            error.filename = str(path)
        raise


def _is_hidden(name: str | bytes | int, folder: Path) -> bool:
    """Whether a file, or the folder that it is in, stands in ``folder`` under a name with a dot, as temporary ones do."""
    if isinstance(name, int):  # an open file
        return True
    told = Path(os.fsdecode(name))
    first = told.relative_to(folder).parts[:1] if told.is_relative_to(folder) else ()
    return first != ("..",) and "".join(first).startswith(".")


def check_place(path: Path) -> None:
    """See that a file can be written to ``path``, whose folder is made, before the work for it is done.

    Raises:
        OSError: it cannot; the error names the place.
        UserError: what is there is a device or a pipe, in whose place a file would be put.
    """
    with named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if path.exists() and not path.is_file():
            expected = "the name of a file, new or to be replaced"
            raise UserError(f"{path} is not a file.", expected=expected, received="a device or a pipe")
        tempfile.TemporaryFile(dir=path.parent, prefix=".frostline-").close()


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A binary file that appears at ``path`` complete, or not at all: temporary file, fsync, rename, fsync of the folder."""
    with named(path), _atomic_file(path) as stream:
        yield stream


@contextmanager
def _atomic_file(path: Path) -> Iterator[BinaryIO]:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.", suffix=PARTIAL)
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path``, atomically."""
    with atomic_file(path) as stream:
        stream.write(data)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8 to ``path``, atomically."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON to ``path``, atomically. NaN is refused: it is not JSON."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def write_through(path: Path, save: Callable[[Path], None]) -> None:
    """Atomic write for libraries that only save to a path: ``save`` gets a temporary one with the same ending."""
    with named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name[:40]}.") as folder:
            temporary = Path(folder) / path.name
            save(temporary)
            with open(temporary, "rb+") as stream:  # Windows syncs only what may be written to
                os.fsync(stream.fileno())
            os.replace(temporary, path)
    sync_folder(path.parent)


def digest_bytes(*parts: bytes | memoryview) -> str:
    """BLAKE2b-128 of the parts in order, as 32 hexadecimal digits."""
    hasher = hashlib.blake2b(digest_size=16)
    for part in parts:
        hasher.update(part)
    return hasher.hexdigest()


def digest_json(value: Any) -> str:
    """BLAKE2b-128 of a value's canonical JSON (sorted keys, no spaces)."""
    return digest_bytes(json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode())


def digest_file(path: Path) -> str:
    """BLAKE2b-128 of a file's bytes, as 32 hexadecimal digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


#: Memory that a run may take where nothing is said, and the share of it that one array may.
MEMORY, OF_THE_MEMORY = 4 * 2**30, 1 / 8
_memory = ContextVar("memory", default=MEMORY)


@contextmanager
def memory_limit(size: float) -> Iterator[None]:
    """While inside, ``scratch_array`` keeps only arrays in memory that are at most an eighth of ``size`` bytes."""
    token = _memory.set(int(size))
    try:
        yield
    finally:
        _memory.reset(token)


def scratch_array(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """An array to fill: in memory while small, else memory-mapped from an unnamed file that vanishes with the process.

    Raises:
        OSError: the cache folder cannot be written to, or has no room for it; the error names the folder.
    """
    size = int(np.prod(shape)) * dtype.itemsize
    if size <= _memory.get() * OF_THE_MEMORY:
        return np.empty(shape, dtype)
    folder = home()
    with named(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(folder).free < size:  # a page that finds no room when it is filled would end the process
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
        with tempfile.TemporaryFile(dir=folder) as stream:
            if hasattr(os, "posix_fallocate"):  # what is filled later must still find room then
                os.posix_fallocate(stream.fileno(), 0, size)
            return np.memmap(stream, dtype, "w+", shape=shape)
