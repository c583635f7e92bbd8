"""What people hand to the page, as bytes: files that Gradio has received, and the members of ZIP archives, one at a time."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from frostline.decode import BadImage, read_file
from frostline.serve.refusals import Refused

#: Of one batch: files, bytes that archives may unpack to, and how much smaller than its content a member may be.
MOST_FILES, MOST_UNPACKED, MOST_TIMES_SMALLER = 5_000, 2 * 2**30, 200
#: Bytes of an archive's list of members: about 100 a member.
MOST_LISTED = 2**20
_END, _ZIP = b"PK\5\6", (b"PK\3\4", b"PK\5\6")


def received(payload: Mapping[str, Any], folder: Path) -> tuple[str, Path]:
    """The name that a file had where it came from, and where it lies now.

    Raises:
        Refused: it is not a file that was sent to this page.
    """
    path = Path(str(payload.get("path"))).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        raise Refused(422, "The file is no longer here.", hint="send it again")
    return str(payload.get("orig_name") or path.name), path


def images(files: Sequence[tuple[str, Path]], largest: int) -> Iterator[tuple[str, bytes | BadImage]]:
    """Name and bytes of each file, and of each member of a ZIP ("archive.zip/member"); or why there are none.

    Args:
        files: names and paths.
        largest: bytes of an image.

    Raises:
        Refused: more than ``MOST_FILES`` of them.
    """
    for number, found in enumerate(_all(files, largest)):
        if number >= MOST_FILES:
            raise Refused(413, "Too many files.", f"at most {MOST_FILES:,} at once", "more", "frostline predict takes any number")
        yield found


def _all(files: Sequence[tuple[str, Path]], largest: int) -> Iterator[tuple[str, bytes | BadImage]]:
    for name, path in files:
        with open(path, "rb") as stream:
            zipped = stream.read(4) in _ZIP
        if zipped:
            yield from _members(name, path, largest)
        elif path.stat().st_size > largest:
            yield name, BadImage(f"over-large: {path.stat().st_size:,} bytes, at most {largest:,} are read")
        else:
            yield name, read_file(path)


def _members(name: str, path: Path, largest: int) -> Iterator[tuple[str, bytes | BadImage]]:
    left = MOST_UNPACKED
    try:
        _check_list(path)
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if member.is_dir() or _of_the_system(member.filename):
                    continue
                left -= min(member.file_size, largest)
                if left < 0:
                    yield name, BadImage(f"over-large: unpacks to more than {MOST_UNPACKED:,} bytes; the rest is left out")
                    return
                yield f"{name}/{member.filename}", _member(archive, member, largest)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        yield name, BadImage(f"a broken ZIP archive: {str(error)[:120]}")


def _check_list(path: Path) -> None:
    """The list of members is read whole by whoever opens the archive, so its size is looked at first."""
    with open(path, "rb") as stream:
        stream.seek(max(0, path.stat().st_size - 2**16 - 22))
        tail = stream.read()
    at = tail.rfind(_END)
    size = int.from_bytes(tail[at + 12 : at + 16], "little") if at >= 0 else 0
    if size > MOST_LISTED:  # an archive of the 64-bit kind says 0xffffffff here
        raise ValueError(f"a list of members of {size:,} bytes, at most {MOST_LISTED:,}")


def _of_the_system(name: str) -> bool:
    """What a Mac or Windows adds to archives by itself."""
    last = name.rpartition("/")[2]
    return name.startswith("__MACOSX/") or last in (".DS_Store", "Thumbs.db")


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, largest: int) -> bytes | BadImage:
    if member.flag_bits & 1:
        return BadImage("encrypted")
    if member.file_size > largest:
        return BadImage(f"over-large: {member.file_size:,} bytes, at most {largest:,} are read")
    if member.file_size > MOST_TIMES_SMALLER * max(member.compress_size, 1000):
        return BadImage(f"over-large: unpacks to {member.file_size:,} bytes from {member.compress_size:,}")
    try:
        with archive.open(member) as stream:
            return stream.read(largest)
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, NotImplementedError, ValueError) as error:
        return BadImage(f"corrupt: {str(error)[:120]}")
