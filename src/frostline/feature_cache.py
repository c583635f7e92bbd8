"""Rows of features on disk, keyed by image content. Never stale, never half-written, shared by processes.

One folder per key of everything that determines a row (network, weights, preprocessing, view, engine, precision, …). In it,
each shard is two files: ``NAME.rows`` (16-byte image digests, then the rows) and ``NAME.json``, the manifest with its digest,
written last. A shard without a manifest does not exist; NAME is the digest, so two writers of the same rows agree.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from frostline.errors import UserError
from frostline.files import atomic_file, digest_bytes, digest_file, digest_json, hold, home, write_json
from frostline.progress import say

#: Changes whenever the meaning of the files does.
FORMAT = 1
#: The file in the cache folder that is locked while the cache is in use.
IN_USE = "in-use"
#: Storage types; bfloat16 is held as the upper half of float32, for NumPy has no type for it.
STORED: dict[str, np.dtype[Any]] = {"float16": np.dtype("<f2"), "bfloat16": np.dtype("<u2"), "float32": np.dtype("<f4")}
Array = NDArray[Any]
Made = TypeVar("Made")


class FeatureOverflowError(Exception):
    """A feature is too large for float16."""


def in_storage_type(asked: str, make: Callable[[str], Made]) -> Made:
    """What ``make`` makes with a storage type: for "auto" float16, and where a value is too large for it bfloat16, which is said.

    Raises:
        UserError: a value is too large for float16, which was asked for by name.
    """
    try:
        return make("float16" if asked == "auto" else asked)
    except FeatureOverflowError:
        if asked != "auto":
            raise UserError("A feature is too large for float16.", hint="--set feature_dtype=bfloat16 (or float32)") from None
    say("A feature is too large for float16: features are stored in bfloat16.", "yellow")
    return make("bfloat16")  # outside of the handler, whose exception holds what was made of float16 until then


def to_stored(features: NDArray[np.float32], dtype: str) -> Array:
    """(N, D) float32 in a storage type. Raises ``FeatureOverflowError`` where float16 cannot hold a value."""
    if dtype == "float16":
        if np.abs(features).max(initial=0) > np.finfo(np.float16).max:
            raise FeatureOverflowError
        return features.astype(np.float16)
    if dtype == "bfloat16":
        bits = np.ascontiguousarray(features, np.float32).view(np.uint32)
        upper: Array = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)  # to nearest, ties to even
        return upper
    return features.astype(np.float32)


def from_stored(rows: Array, dtype: str) -> NDArray[np.float32]:
    """The inverse of ``to_stored``."""
    if dtype == "bfloat16":
        bits = np.left_shift(rows.astype(np.uint32), 16, dtype=np.uint32)
        return bits.view(np.float32)
    return np.asarray(rows, np.float32)


@dataclass(frozen=True)
class _Shard:
    path: Path
    count: int


class FeatureCache:
    """The rows under one key.

    Args:
        key: JSON values: everything that determines a row beside the image itself.
        width: D, the length of a row.
        dtype: a name in ``STORED``; part of the key.
        root: the cache folder; by default under ``FROSTLINE_HOME``.
    """

    def __init__(self, key: Mapping[str, Any], width: int, dtype: str, root: Path | None = None) -> None:
        self.key = {**key, "width": width, "dtype": dtype, "format": FORMAT}
        self.width, self.dtype = width, dtype
        self.folder = (root or features_folder()) / digest_json(self.key)
        self._shards: list[_Shard] = []

    @cached_property
    def _index(self) -> dict[bytes, tuple[int, int]]:
        """Image digest to (shard, row)."""
        index: dict[bytes, tuple[int, int]] = {}
        for manifest in sorted(self.folder.glob("*.json")):
            if manifest.name != "key.json":
                self._add_shard(manifest, index)
        return index

    def _add_shard(self, manifest: Path, index: dict[bytes, tuple[int, int]]) -> None:
        """Take a shard up, if it is what its manifest says; a damaged one is left out, said, and its rows computed again."""
        try:
            described = json.loads(manifest.read_text("utf-8"))
            shard = _Shard(manifest.with_suffix(".rows"), int(described["count"]))
            if digest_file(shard.path) != described["digest"]:
                raise ValueError("its digest is not the one in its manifest")
            if shard.path.stat().st_size != shard.count * (16 + self.width * STORED[self.dtype].itemsize):
                raise ValueError("its size does not fit the number of rows in its manifest")
            with open(shard.path, "rb") as stream:
                digests = stream.read(16 * shard.count)
        except (OSError, ValueError, KeyError, TypeError) as error:
            say(f"Cached features in {manifest} are left out, and computed again: {error}", "yellow")
            return
        self._take(shard, digests, index)

    def _take(self, shard: _Shard, digests: bytes, index: dict[bytes, tuple[int, int]]) -> None:
        self._shards.append(shard)
        for row in range(shard.count):
            index.setdefault(digests[16 * row : 16 * row + 16], (len(self._shards) - 1, row))

    def __len__(self) -> int:
        return len(self._index)

    def has(self, digests: NDArray[np.bytes_]) -> NDArray[np.bool_]:
        """(n,) which of these images have a row."""
        return np.fromiter((raw(digest) in self._index for digest in digests), bool, len(digests))

    def read(self, digests: NDArray[np.bytes_]) -> Array:
        """(n, D) stored rows of images that ``has`` says are there."""
        out = np.empty((len(digests), self.width), STORED[self.dtype])
        places = [self._index[raw(digest)] for digest in digests]
        by_shard: dict[int, list[int]] = {}
        for position, (shard, _) in enumerate(places):
            by_shard.setdefault(shard, []).append(position)
        for shard, positions in by_shard.items():
            rows = self._rows(self._shards[shard])
            out[positions] = rows[[places[position][1] for position in positions]]
        return out

    def _rows(self, shard: _Shard) -> Array:
        shape = (shard.count, self.width)
        return np.memmap(shard.path, STORED[self.dtype], "r", offset=16 * shard.count, shape=shape)

    def write(self, digests: NDArray[np.bytes_], rows: Array) -> None:
        """Add rows, (n, D) in the storage type: data first, manifest last."""
        names = b"".join(raw(digest) for digest in digests)
        held = np.ascontiguousarray(rows, STORED[self.dtype])
        digest = digest_bytes(names, held.view(np.uint8).data)
        index = self._index  # read before this shard is there
        if not (self.folder / "key.json").exists():
            write_json(self.folder / "key.json", self.key)
        with atomic_file(self.folder / f"{digest}.rows") as stream:
            stream.write(names)
            stream.write(held.data)
        write_json(self.folder / f"{digest}.json", {"digest": digest, "count": len(digests)})
        self._take(_Shard(self.folder / f"{digest}.rows", len(digests)), names, index)


def raw(digest: np.bytes_ | bytes) -> bytes:
    """16 bytes of a digest: NumPy drops trailing zero bytes of its byte strings."""
    return bytes(digest).ljust(16, b"\0")


def features_folder() -> Path:
    """Where cached features live."""
    return home() / "features"


def graphs_folder() -> Path:
    """Where converted networks live."""
    return home() / "graphs"


def entries() -> list[dict[str, Any]]:
    """What the cache holds: one dict per key with ``folder``, ``key``, ``rows`` and ``bytes``."""
    found = []
    for folder in sorted(features_folder().glob("*/")):
        try:
            key = json.loads((folder / "key.json").read_text("utf-8"))
            rows = sum(json.loads(path.read_text("utf-8"))["count"] for path in folder.glob("*.json") if path.name != "key.json")
        except (OSError, ValueError, LookupError, TypeError):
            key, rows = {}, 0
        size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
        found.append({"folder": str(folder), "key": key, "rows": rows, "bytes": size})
    return found


@contextmanager
def in_use() -> Iterator[None]:
    """While inside, ``clear`` deletes nothing: what is read from the cache, or was just written, is still needed."""
    try:
        home().mkdir(parents=True, exist_ok=True)
        handle = hold(home() / IN_USE, wait=True, shared=True)
    except OSError:  # where nothing can be written nothing can be deleted
        yield
        return
    try:
        yield
    finally:
        os.close(handle)


def clear() -> int:
    """Delete all cached features, compiled graphs, unpacked models and records of self-tests; returns the bytes freed.

    Raises:
        UserError: somebody is ``in_use``.
    """
    if not home().is_dir():
        return 0
    try:
        handle = hold(home() / IN_USE)
    except BlockingIOError as error:
        raise UserError(
            f"The cache in {home()} is in use: something is being trained or inspected.", hint="once that has ended, again"
        ) from error
    try:
        return sum(_deleted(folder) for folder in (features_folder(), graphs_folder(), home() / "models", home() / "selftests"))
    finally:
        os.close(handle)


def _deleted(folder: Path) -> int:
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    shutil.rmtree(folder, ignore_errors=True)
    return size
