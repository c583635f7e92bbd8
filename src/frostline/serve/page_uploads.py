"""What people hand to the page, as bytes: files that Gradio has received, and the images in ZIP archives, one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from frostline.data.rows import shown
from frostline.decode import BadImage, read_file
from frostline.predicting.items import Item
from frostline.predicting.packed_images import members
from frostline.serve.refusals import Refused

#: Of one batch: files, and bytes that they may come to when unpacked.
MOST_FILES, MOST_UNPACKED = 5_000, 2 * 2**30
#: Bytes of an archive's list of members, about 100 for each: whoever opens the archive reads the whole list.
MOST_LISTED = 2**20
_END, _END_SIZE, _LOCATOR, _LOCATOR_SIZE = b"PK\5\6", 22, b"PK\6\7", 20
_TAIL = 2**16 + _END_SIZE + _LOCATOR_SIZE


def received(payload: Mapping[str, Any], folder: Path) -> tuple[str, Path]:
    """The name that a file had where it came from, and where it lies now.

    Raises:
        Refused: it is not a file that was sent to this page.
    """
    path = Path(str(payload.get("path"))).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        raise Refused(422, "The file is no longer here.", hint="send it again")
    return shown(str(payload.get("orig_name") or path.name)), path


def images(files: Sequence[tuple[str, Path]], largest: int) -> Iterator[tuple[str, bytes | BadImage]]:
    """Name and bytes of each file, and of each image in a ZIP ("archive.zip/member"); or why there are none.

    Args:
        files: names and paths.
        largest: bytes of an image.

    Raises:
        Refused: there are more than ``MOST_FILES``, or they come to more than ``MOST_UNPACKED``.
    """
    left = MOST_UNPACKED
    for number, item in enumerate(_items(files)):
        if number >= MOST_FILES:
            raise _too_much(f"{MOST_FILES:,} files")
        data = _bytes(item, largest)
        left -= len(data) if isinstance(data, bytes) else 0
        if left < 0:
            raise _too_much(f"{MOST_UNPACKED:,} bytes, unpacked")
        yield item.name, data


def _too_much(most: str) -> Refused:
    return Refused(413, "These are too many for the page.", f"at most {most}, at once", hint="frostline predict takes any number")


def _items(files: Sequence[tuple[str, Path]]) -> Iterator[Item]:
    for name, path in files:
        if path.suffix.lower() == ".zip":
            yield from _packed(name, path)
        else:
            yield Item(name, path)


def _packed(name: str, path: Path) -> Iterator[Item]:
    """The images in a ZIP, called as the archive was called where it came from."""
    if (listed := _listed(path)) > MOST_LISTED:
        yield Item(name, BadImage(f"over-large: a list of members of {listed:,} bytes, at most {MOST_LISTED:,}"))
        return
    found = 0
    for item in members(path):
        found += 1
        yield Item(name + item.name.removeprefix(shown(path)), item.source)
    if not found:
        yield Item(name, BadImage("no images in this archive"))


def _listed(path: Path) -> int:
    """Bytes that a ZIP says its list of members has; 0 where it says nothing, four gigabytes in archives of the 64-bit kind.

    The end is looked for as ``zipfile`` looks for it, which is what opens the archive then.
    """
    with open(path, "rb") as stream:
        stream.seek(max(0, path.stat().st_size - _TAIL))
        tail = stream.read()
    last = len(tail) - _END_SIZE
    at = last if tail[max(last, 0) :].startswith(_END) and tail.endswith(b"\0\0") else tail.rfind(_END)
    if at < 0:
        return 0
    if tail[max(at - _LOCATOR_SIZE, 0) : at].startswith(_LOCATOR):
        return 2**32 - 1
    return int.from_bytes(tail[at + 12 : at + 16], "little")


def _bytes(item: Item, largest: int) -> bytes | BadImage:
    try:
        source = item.encoded()
        return one(source, largest) if isinstance(source, Path) else _of_at_most(largest, source)
    except BadImage as error:
        return error


def one(path: Path, largest: int) -> bytes:
    """The bytes of a file; ``BadImage`` where it is larger, unread."""
    if (size := path.stat().st_size) > largest:
        raise _over_large(size, largest)
    return read_file(path)


def _of_at_most(largest: int, data: bytes) -> bytes:
    if len(data) > largest:
        raise _over_large(len(data), largest)
    return data


def _over_large(size: int, largest: int) -> BadImage:
    return BadImage(f"over-large: {size:,} bytes, at most {largest:,} are read")
