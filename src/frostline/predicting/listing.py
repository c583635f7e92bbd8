"""What is to be predicted: files, folders, patterns, archives and lists of them become one stream of items, in constant memory."""

from __future__ import annotations

import glob
import heapq
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from frostline.data.rows import shown
from frostline.decode import BadImage
from frostline.errors import UserError
from frostline.predicting.items import Item, is_image_name, left_aside
from frostline.predicting.packed_images import is_archive, members

#: Stands for a list of paths on standard input.
LIST = "-"
#: So many names are sorted in memory; more of one folder or pattern go through a temporary file.
MOST_NAMES = 50_000
_CHUNK = 1 << 16
#: The first part of a pattern that stands for folders of any depth, with what is before and behind it.
_SEPARATOR = f"[{re.escape(os.sep)}/]"
_ANY_DEPTH = re.compile(rf"(^|{_SEPARATOR})\*\*({_SEPARATOR}+|$)")


def listed(paths: Iterable[str], *, recursive: bool = True, stdin: BinaryIO | None = None) -> Iterator[Item]:
    """An item for each file named, each image in the folders and archives named, and each file that a pattern fits.

    Args:
        paths: files, folders, patterns such as "photos/**/*.jpg", archives, and "-" for paths on standard input.
        recursive: look into the folders of a folder, too.
        stdin: what "-" reads: paths that end in NUL, or else in a newline; patterns in it are taken for names.

    In a folder and of a pattern, files come in the order of their names; hidden ones and links to folders are left aside. Beside
    others that hold some, a folder or archive without images is an item, the last, with that reason.
    """
    counted, empty = 0, list[str]()
    for path in paths:
        before = counted
        for item in _named(path, recursive, stdin):
            counted += 1
            yield item
        if counted == before and path != LIST:
            empty.append(path)
    if counted:
        yield from (Item(shown(path), BadImage("no images in it")) for path in empty)


def _named(path: str, recursive: bool, stdin: BinaryIO | None) -> Iterator[Item]:
    """What one of the paths names."""
    if path == LIST:
        for line in _lines(stdin) if stdin is not None else ():
            yield from _of(Path(line), recursive)
    elif glob.has_magic(path) and not os.path.lexists(path):
        yield from _fitting(path, recursive)
    else:
        yield from _of(Path(path), recursive)


def check_not_among(output: Path, paths: Iterable[str]) -> None:
    """See that none of the files named is the one that is to be written: it would be replaced by what is said of it.

    Raises:
        UserError: one is.
    """
    if not output.is_file():
        return
    for path in paths:
        if path != LIST and os.path.isfile(path) and os.path.samefile(path, output):  # noqa: PTH113, PTH121 - as above
            raise UserError(
                f"{output} is an image, or a list, that is to be read.",
                expected="another file to write to",
                received=f"--output {output}",
            )


def image_files(paths: Iterable[Path]) -> Iterator[Path]:
    """The files named, and the images in the folders named, in order of their names."""
    for path in paths:
        if not os.path.isdir(path):  # noqa: PTH112 - pathlib's raises where a name is too long or a folder closed
            yield path
            continue
        yield from (item.source for item in _folder(path, True) if isinstance(item.source, Path))


def _of(path: Path, recursive: bool) -> Iterator[Item]:
    if os.path.isdir(path):  # noqa: PTH112 - as above: such a path is a row with its reason
        yield from _folder(path, recursive)
    elif is_archive(path) and os.path.isfile(path):  # noqa: PTH113
        yield from members(path)
    else:
        yield Item(shown(path), path)


def _fitting(pattern: str, recursive: bool) -> Iterator[Item]:
    """What fits a pattern; folders that fit are looked through."""
    found = False
    for path in in_order(_matching(pattern)):
        found = True
        yield from _of(Path(path), recursive)
    if not found:
        yield Item(shown(pattern), BadImage("missing: no file fits this pattern"))


def _matching(pattern: str) -> Iterator[str]:
    """As ``glob.iglob``, but that ``**`` follows no links: one that leads back to its own folder would never end."""
    found = _ANY_DEPTH.search(pattern)
    if not found:
        yield from glob.iglob(pattern)  # noqa: PTH207 - pathlib has no absolute patterns
        return
    head, rest = pattern[: found.end(1)], pattern[found.end() :]
    for top in glob.iglob(head) if head else (".",):  # noqa: PTH207 - as above
        for folder, inner, names in os.walk(top):
            inner[:] = [name for name in inner if not name.startswith(".")]
            place = os.path.join(folder, "")  # noqa: PTH118 - with the separator at its end
            place = place if head else place.removeprefix(f".{os.sep}")
            if rest:
                yield from _matching(glob.escape(place) + rest)
            else:
                yield from (place + name for name in names if not name.startswith("."))


def _folder(top: Path, recursive: bool) -> Iterator[Item]:
    """The images below a folder, in the order of their paths; only the names of one folder at a time are held."""
    open_folders = [(top, _names(top, recursive))]
    while open_folders:
        folder, names = open_folders[-1]
        try:
            name = next(names, None)
        except OSError as error:
            yield Item(shown(folder), BadImage(f"unreadable: {error.strerror or error}"))
            name = None
        if name is None:
            open_folders.pop()
        elif name.endswith("/"):
            inner = folder / name
            open_folders.append((inner, _names(inner, recursive)))
        else:
            yield Item(shown(folder / name), folder / name)


def _names(folder: Path, recursive: bool) -> Iterator[str]:
    """Names of the images and, with a slash, of the folders in a folder, sorted."""
    with os.scandir(folder) as entries:
        yield from in_order(name for entry in entries if (name := _name(entry, recursive)))


def _name(entry: os.DirEntry[str], recursive: bool) -> str:
    if entry.is_dir(follow_symlinks=False):
        return f"{entry.name}/" if recursive and not left_aside(entry.name) else ""
    if not is_image_name(entry.name) or (entry.is_symlink() and Path(entry.path).is_dir()):
        return ""
    return entry.name


def in_order(names: Iterable[str], most: int = MOST_NAMES) -> Iterator[str]:
    """The names sorted, at most ``most`` of them in memory at a time; the rest waits, sorted, in temporary files."""
    names = iter(names)
    run = sorted(islice(names, most))
    if len(run) < most:
        yield from run
        return
    runs = [_spilled(run)]
    while run := sorted(islice(names, most)):
        runs.append(_spilled(run))
    del run
    yield from heapq.merge(*map(_read_back, runs))


def _spilled(run: list[str]) -> BinaryIO:
    stream = tempfile.TemporaryFile()  # noqa: SIM115 - it is read, and closed, when its turn comes
    stream.write(b"".join(os.fsencode(name) + b"\0" for name in run))
    stream.seek(0)
    return stream  # type: ignore[return-value]


def _read_back(stream: BinaryIO) -> Iterator[str]:
    with stream:
        yield from map(os.fsdecode, _split(stream, b"\0", b""))


def _lines(stream: BinaryIO) -> Iterator[str]:
    """Paths that a stream lists; NUL ends them where there is one among its first bytes, else a newline."""
    first = stream.read1(_CHUNK) if hasattr(stream, "read1") else stream.read(_CHUNK)
    end = b"\0" if b"\0" in first else b"\n"
    for line in _split(stream, end, first):
        if name := line if end == b"\0" else line.removesuffix(b"\r"):
            yield os.fsdecode(name)


def _split(stream: BinaryIO, end: bytes, rest: bytes) -> Iterator[bytes]:
    while True:
        *whole, rest = rest.split(end)
        yield from whole
        if not (more := stream.read1(_CHUNK) if hasattr(stream, "read1") else stream.read(_CHUNK)):
            break
        rest += more
    if rest:
        yield rest
