"""The images in a ZIP or tar archive, read one after another and never unpacked to disk."""

from __future__ import annotations

import gzip
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from frostline.data.archives import Capped
from frostline.data.rows import shown
from frostline.decode import BadImage
from frostline.errors import UserError
from frostline.files import COMPRESSIONS
from frostline.predicting.items import Item, is_image_name, left_aside

#: The names that archives end in.
ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz")
#: A member with more bytes than this is refused unread (256 MiB).
MOST_BYTES = 1 << 28
#: An archive that unpacks to more than this many times its size, and a GiB, is taken for a bomb: images hardly compress again.
MOST_TIMES, GIB = 200, 1 << 30


def is_archive(path: Path) -> bool:
    """Whether a file of this name is looked into."""
    return path.name.lower().endswith(ENDINGS)


def members(path: Path) -> Iterator[Item]:
    """The images in an archive, in its order, named ARCHIVE/MEMBER. What else it holds is left aside.

    An archive inside it is an item with the reason that it is not looked into. An archive that cannot be read, or not to its end,
    is an item itself, with the reason.
    """
    try:
        yield from _zipped(path) if path.name.lower().endswith(".zip") else _tarred(path)
    except UserError as error:
        yield Item(shown(path), BadImage(error.message))
    except (OSError, EOFError, ValueError, RuntimeError, zlib.error, tarfile.TarError, zipfile.BadZipFile) as error:
        yield Item(shown(path), BadImage(f"damaged or cut short: {error or type(error).__name__}"))


def _is_inner(name: str) -> bool:
    path = PurePosixPath(name)
    return is_archive(Path(path.name)) and not left_aside(path.name)


def _inner(path: Path, name: str) -> Item:
    return Item(f"{shown(path)}/{shown(name)}", BadImage("an archive inside an archive is not looked into"))


def _most(path: Path) -> int:
    return MOST_TIMES * path.stat().st_size + GIB


def _zipped(path: Path) -> Iterator[Item]:
    packed, left = zipfile.ZipFile(path), _most(path)  # not closed here: items are read after the last one was listed
    for entry in packed.infolist():
        if not entry.is_dir() and _is_inner(entry.filename):
            yield _inner(path, entry.filename)
        if entry.is_dir() or not is_image_name(entry.filename):
            continue
        if (left := left - entry.file_size) < 0:
            raise UserError(f"over-large: it unpacks to more than {MOST_TIMES} times its size; the rest was not read")
        yield Item(f"{shown(path)}/{shown(entry.filename)}", partial(_read_entry, packed, entry))


def _read_entry(packed: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    if entry.file_size > MOST_BYTES:
        raise _over_large(entry.file_size)
    if entry.flag_bits & 1:
        raise BadImage("encrypted")
    if entry.compress_type not in COMPRESSIONS:
        raise BadImage("compressed in a way that is not read: neither stored nor deflated")
    try:
        with packed.open(entry) as stream:
            return stream.read(entry.file_size)
    except (OSError, EOFError, ValueError, RuntimeError, NotImplementedError, zlib.error, zipfile.BadZipFile) as error:
        raise BadImage(f"damaged in its archive: {error or type(error).__name__}") from error


def _tarred(path: Path) -> Iterator[Item]:
    if path.name.lower().endswith(".tar"):
        with tarfile.open(path, mode="r|") as tar:
            yield from _entries(path, tar, path.stat().st_size)
        return
    with gzip.open(path) as stream, tarfile.open(fileobj=_capped(stream, path), mode="r|") as tar:
        yield from _entries(path, tar, _most(path))


def _capped(stream: gzip.GzipFile, path: Path) -> IO[bytes]:
    return Capped(stream, _most(path))  # type: ignore[return-value]


def _entries(path: Path, tar: tarfile.TarFile, most: int) -> Iterator[Item]:
    """The images; ``most``: bytes that the archive can have, unpacked."""
    while (entry := tar.next()) is not None:
        vars(tar)["members"].clear()  # it would remember them all
        if not entry.isdir() and _is_inner(entry.name):
            yield _inner(path, entry.name)
        if not entry.isdir() and is_image_name(entry.name):
            yield Item(f"{shown(path)}/{shown(entry.name)}", _read_member(tar, entry))
        if tar.offset > most + tarfile.RECORDSIZE:  # tarfile would look for the next one there, for ever
            raise tarfile.ReadError("a member that is longer than the archive")


def _read_member(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes | BadImage:
    """The bytes, read at once: a stream does not go back."""
    if not entry.isreg() or entry.issparse():
        return BadImage("a link in an archive" if entry.issym() or entry.islnk() else "not a regular file")
    if entry.size > MOST_BYTES:
        return _over_large(entry.size)
    stream = tar.extractfile(entry)
    data = stream.read() if stream is not None else b""
    return data if len(data) == entry.size else BadImage("truncated in its archive")


def _over_large(size: int) -> BadImage:
    return BadImage(f"over-large: {size:,} bytes, at most {MOST_BYTES:,} are read from an archive")
