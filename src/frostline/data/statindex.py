"""Every image file is checked once: what was found is remembered under its path, size, times of change and inode."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from frostline import decode
from frostline.decode import BadImage, read_file, verify
from frostline.environment import cores
from frostline.files import digest_bytes, home, write_bytes
from frostline.progress import stage

_FORMAT = 2
_CHUNK = 64
#: A file changed this recently could change again within the file system's clock tick, unseen: it is not remembered yet.
_SETTLED_NS = 2_000_000_000


@dataclass(frozen=True, slots=True)
class Checked:
    """What one look at a file found.

    Attributes:
        digest: BLAKE2b-128 of its bytes as 32 hexadecimal digits; empty when it is rejected.
        height, width: pixels, upright; 0 when it is rejected.
        reason: why it is rejected; empty when it is usable.
        length: of the file in bytes; 0 when it is rejected.
    """

    digest: str
    height: int
    width: int
    reason: str
    length: int = 0


#: What tells that a file is still the one that was looked at: size in bytes, mtime and ctime in ns, inode. A copy that keeps its
#: date (``cp -p``, an unpacked archive) can have the size and mtime of what it replaces; ctime cannot be set.
_State = tuple[int, int, int, int]
_Entry = tuple[_State, Checked]


def check_files(place: Path, paths: Sequence[Path]) -> tuple[dict[Path, Checked], list[str]]:
    """Decode and digest each file once, in parallel threads; files that were seen before unchanged are only looked up.

    Args:
        place: the folder or table they belong to; what is found is remembered per place.
        paths: the files; repeats are looked at once.

    Returns:
        What was found for each path, and notes for the record (a damaged index, an index that cannot be written).
    """
    index = _index_path(place)
    known, notes = _load(index)
    found: dict[Path, Checked] = {}
    seen: dict[str, _Entry] = {}
    try:
        for path, checked, entry in _look_at_all(list(dict.fromkeys(paths)), known):
            found[path] = checked
            if entry is not None:
                seen[str(path)] = entry
    finally:  # also when interrupted: what was looked at need not be looked at again
        if seen != known:
            notes += _save(index, seen if len(found) == len(set(paths)) else {**known, **seen})
    return found, notes


def _look_at_all(paths: list[Path], known: Mapping[str, _Entry]) -> Iterator[tuple[Path, Checked, _Entry | None]]:
    chunks = [paths[start : start + _CHUNK] for start in range(0, len(paths), _CHUNK)]
    pool = ThreadPoolExecutor(cores())
    try:
        with stage("Checking images", len(paths)) as bar:
            for done in as_completed([pool.submit(_look_at_some, chunk, known) for chunk in chunks]):
                yield from done.result()
                bar.advance(len(done.result()))
    finally:
        pool.shutdown(cancel_futures=True)


def _look_at_some(paths: list[Path], known: Mapping[str, _Entry]) -> list[tuple[Path, Checked, _Entry | None]]:
    return [(path, *_look(path, known.get(str(path)))) for path in paths]


def _look(path: Path, known: _Entry | None) -> tuple[Checked, _Entry | None]:
    now = time.time_ns()
    state = _state(path)
    if known and known[0] == state:
        return known[1], known
    try:
        checked = _check(read_file(path), path.name)
    except BadImage as bad:  # a matter of rights, links, mounts and free memory: may be over the next time
        return Checked("", 0, 0, str(bad)), None
    return checked, (state, checked) if state and max(state[1:3]) < now - _SETTLED_NS else None


def _state(path: Path) -> _State | None:
    try:
        stat = path.stat()
    except (OSError, ValueError):
        return None
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino


def _check(data: bytes, name: str) -> Checked:
    """What the bytes of a file are; raises ``BadImage`` where there was no memory to tell."""
    try:
        height, width = verify(data, name)
    except BadImage as bad:
        if isinstance(bad.__cause__, MemoryError):
            raise
        return Checked("", 0, 0, str(bad))
    return Checked(digest_bytes(data), height, width, "", len(data))


def _index_path(place: Path) -> Path:
    return home() / "statindex" / f"{digest_bytes(os.fsencode(place.absolute()))}.jsonl"


def _key() -> list[object]:
    return [_FORMAT, decode.DECODER_VERSION, decode.MAX_PIXELS]


def _load(index: Path) -> tuple[dict[str, _Entry], list[str]]:
    try:
        head, _, body = index.read_bytes().partition(b"\n")
        header = json.loads(head)
        if header["body"] != digest_bytes(body):
            raise ValueError("the digest differs")
        if header["key"] != _key():
            return {}, []
        rows = (json.loads(line) for line in body.splitlines())
        return {path: ((size, mtime, ctime, inode), _checked(size, *rest)) for path, size, mtime, ctime, inode, *rest in rows}, []
    except FileNotFoundError:
        return {}, []
    except (OSError, ValueError, KeyError, TypeError) as error:
        return {}, [f"The index of checked files was damaged ({error}); every file was checked again."]


def _checked(size: int, digest: str, height: int, width: int, reason: str) -> Checked:
    return Checked(digest, height, width, reason, 0 if reason else size)


def _save(index: Path, entries: Mapping[str, _Entry]) -> list[str]:
    lines = [
        json.dumps([path, *state, checked.digest, checked.height, checked.width, checked.reason])
        for path, (state, checked) in entries.items()
    ]
    body = "".join(line + "\n" for line in sorted(lines)).encode("ascii")
    header = json.dumps({"key": _key(), "body": digest_bytes(body)}).encode("ascii")
    try:
        write_bytes(index, header + b"\n" + body)
    except OSError as error:
        return [f"The index of checked files could not be kept ({error}); they will be checked again the next time."]
    return []
