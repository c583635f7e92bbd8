"""The files of a model directory, each compared with its digest in the card; nothing else may lie among them. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePath

from frostline.errors import UserError, few
from frostline.files import digest_file
from frostline.model_card import CARD

#: What people lay beside a model, and nothing ever opens: notes, licences, and hidden files such as git's.
HARMLESS = (".md", ".txt")
HARMLESS_NAMES = ("LICENSE", "LICENCE", "NOTICE")


def check_files(folder: Path, files: Mapping[str, str]) -> None:
    """Compare the files of a model directory with ``files``: name → digest.

    Raises:
        UserError: one is missing, a link, no plain file, or changed since the model was saved; or there is another that a model has
            no use for.
    """
    for name, digest in files.items():
        _check(folder, folder / name, name, digest)
    strange = [path.name for path in folder.iterdir() if path.name not in (*files, CARD) and not _harmless(path)]
    if strange:
        raise UserError(
            f"{folder} holds files that are not the model's.",
            expected=f"{few([CARD, *files])}; notes in Markdown or plain text may lie beside them",
            received=few(strange),
            hint="copy the model directory again, or take them away",
        )


def _harmless(path: Path) -> bool:
    return path.name.startswith(".") or (is_note(path.name) and path.is_file())


def is_note(name: str) -> bool:
    """Whether a file of this name is taken for a note about a model."""
    return PurePath(name).suffix.lower() in HARMLESS or name in HARMLESS_NAMES


def _check(folder: Path, path: Path, name: str, digest: str) -> None:
    if path.is_symlink():
        raise UserError(
            f"{path} is a link.", expected="a model directory that holds its files itself", received=str(path.readlink())
        )
    if not path.is_file():
        raise UserError(f"The model {folder} is incomplete.", expected=name, received="no such file")
    try:
        found = digest_file(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read.", received=str(error)) from error
    if found != digest:
        raise UserError(
            f"{path} is not the file that this model was saved with.",
            expected=f"digest {digest}",
            received=f"digest {found}",
            hint="copy the model directory again, or train it again",
        )
