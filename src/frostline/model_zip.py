"""A model directory as one file: a ZIP that is written the same each time, and unpacked with suspicion."""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from frostline.errors import UserError, few
from frostline.files import COMPRESSIONS, digest_file, home, move_in_place, write_through
from frostline.model_card import CARD, FILES, GRAPH_FILES, ONNX, read_card
from frostline.model_files import check_files, is_note

#: The most bytes that a model may unpack to (4 GiB), and the names that it may hold.
MOST_BYTES = 1 << 32
NAMES = frozenset({CARD, *FILES, *GRAPH_FILES, ONNX})
#: The date of every entry: the earliest that a ZIP can say, so that the same model gives the same bytes.
_DATE = (1980, 1, 1, 0, 0, 0)
_CHUNK = 1 << 20
_UNIX_LINK = 0o120000
_OF_MACOS = "__MACOSX/"


def pack_model(folder: Path, path: Path) -> Path:
    """Write the model directory ``folder`` as the ZIP ``path``, whole or not at all; the same model gives the same bytes.

    Raises:
        UserError: the directory is no whole, unchanged model.
    """
    card = read_card(folder)
    check_files(folder, card.values["files"])

    def write(temporary: Path) -> None:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as packed:
            for name in (CARD, *sorted(card.values["files"])):
                entry = zipfile.ZipInfo(name, _DATE)
                entry.compress_type, entry.external_attr, entry.create_system = zipfile.ZIP_DEFLATED, 0o644 << 16, 3
                entry.file_size = (folder / name).stat().st_size
                with open(folder / name, "rb") as stream, packed.open(entry, "w") as out:
                    shutil.copyfileobj(stream, out, _CHUNK)

    write_through(path, write)
    return path


def unpacked(path: Path) -> Path:
    """The folder that a packed model lies in, unpacked: under ``FROSTLINE_HOME``, by the digest of the ZIP's bytes.

    The folder appears whole or not at all, and its files are still to be checked against their digests, as those of any other
    model. Where nothing can be written there, a temporary folder is used that vanishes with the process.

    Raises:
        UserError: it is no ZIP of a model, or one that is not safe to unpack.
    """
    entries = _entries(path)
    try:
        folder = home() / "models" / digest_file(path)
        if folder.is_dir():
            return folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".unpack-"))
    except (OSError, RuntimeError):  # read-only, or no home at all
        return _unpack(path, entries, _vanishing())
    try:
        _unpack(path, entries, fresh)
        move_in_place(fresh, folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder


def _vanishing() -> Path:
    import atexit

    folder = Path(tempfile.mkdtemp(prefix="frostline-model-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _entries(path: Path) -> list[tuple[zipfile.ZipInfo, str]]:
    """What the ZIP says it holds, checked before it is unpacked: each entry, and its name without the one folder they may share."""
    try:
        with zipfile.ZipFile(path) as packed:
            entries = _of_a_model(packed.infolist())
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path} is no packed model.",
            expected="a model directory, a run, or the ZIP that 'frostline export MODEL --to zip' writes",
            received=str(error),
        ) from error
    if problem := _problem(entries):
        raise UserError(f"{path} is no packed model, or not safe to unpack.", expected=f"{CARD} and its files", received=problem)
    return entries


def _of_a_model(entries: list[zipfile.ZipInfo]) -> list[tuple[zipfile.ZipInfo, str]]:
    """The entries that are unpacked: not notes and hidden files beside the model, nor what macOS adds to every ZIP."""
    named = _without_their_folder([entry for entry in entries if not entry.filename.startswith(_OF_MACOS)])
    return [(entry, name) for entry, name in named if "/" in name or not (name.startswith(".") or is_note(name))]


def _without_their_folder(entries: list[zipfile.ZipInfo]) -> list[tuple[zipfile.ZipInfo, str]]:
    """Who packs a folder, and not what is in it, has its name before every other."""
    names = [entry.filename for entry in entries]
    top = next((name.partition("/")[0] for name in names if "/" in name), "") + "/"
    if top in ("/", "./", "../") or CARD in names or not all(name.startswith(top) for name in names):
        return list(zip(entries, names, strict=True))
    return [(entry, name.removeprefix(top)) for entry, name in zip(entries, names, strict=True) if name != top]


def _problem(named: Sequence[tuple[zipfile.ZipInfo, str]]) -> str:
    entries, names = [entry for entry, _ in named], [name for _, name in named]
    if strange := [ascii(name) for name in names if name not in NAMES]:
        return f"entries that no model has: {few(strange)}"
    if len(set(names)) < len(names):
        return "two entries of one name"
    if CARD not in names:
        return f"no {CARD}"
    if any((entry.external_attr >> 16) & 0o170000 == _UNIX_LINK or entry.is_dir() for entry in entries):
        return "a link or a folder"
    if any(entry.flag_bits & 1 for entry in entries):
        return "an encrypted entry"
    if any(entry.compress_type not in COMPRESSIONS for entry in entries):
        return "an entry that is neither stored nor deflated"
    total = sum(entry.file_size for entry in entries)
    return f"{total:,} bytes unpacked, at most {MOST_BYTES:,} are taken" if total > MOST_BYTES else ""


def _unpack(path: Path, entries: Sequence[tuple[zipfile.ZipInfo, str]], folder: Path) -> Path:
    """Write the entries, whose names were checked, as plain files; no more bytes than they were said to have."""
    try:
        with zipfile.ZipFile(path) as packed:
            for entry, name in entries:
                with packed.open(entry) as stream, open(folder / name, "xb") as out:
                    left = entry.file_size
                    while chunk := stream.read(_CHUNK):
                        if (left := left - len(chunk)) < 0:
                            raise zipfile.BadZipFile(f"{entry.filename} is longer than it says")
                        out.write(chunk)
                    out.flush()
                    os.fsync(out.fileno())
    except (OSError, EOFError, RuntimeError, NotImplementedError, zlib.error, zipfile.BadZipFile) as error:
        raise UserError(f"Cannot unpack {path}.", expected="a packed model, whole", received=str(error)) from error
    return folder
