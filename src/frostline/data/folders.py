"""A folder of class folders, with or without train/, val/ and test/ above them. Nothing in it is opened here but to sniff at it."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from frostline.data.imageset import Reject
from frostline.data.rows import SPLIT_NAMES, Found, Row, class_name, shown
from frostline.decode import FORMAT_OF_ENDING, UNREAD_ENDINGS, sniff
from frostline.errors import UserError

_IMAGE_ENDINGS = frozenset(FORMAT_OF_ENDING) | UNREAD_ENDINGS
#: Names, in lower case, of what systems leave behind in folders and archives.
LITTER = frozenset({"__macosx", "@eadir", "thumbs.db", "desktop.ini"})
# Folder names, lower case, that together mean another task than classification.
_OTHER_TASKS = [
    ({"images", "labels"}, "object detection in YOLO's layout (images/ beside labels/)"),
    ({"jpegimages", "annotations"}, "object detection or segmentation in Pascal VOC's layout (JPEGImages/ beside Annotations/)"),
    ({"images", "annotations"}, "object detection or segmentation (images/ beside annotations/)"),
    ({"images", "masks"}, "segmentation (images/ beside masks/)"),
    ({"images", "mask"}, "segmentation (images/ beside mask/)"),
]
_SIDECARS = {
    ".txt": "object detection in YOLO's layout (a .txt beside each image)",
    ".xml": "object detection in Pascal VOC's layout (an .xml beside each image)",
}


@dataclass
class _Walk:
    """One pass over the folder: what was found, and what is not looked at, by kind; ``split`` is the one that is being read."""

    root: Path
    split: str = ""
    found: Found = field(default_factory=Found)
    ignored: Counter[str] = field(default_factory=Counter)

    def name(self, path: Path) -> str:
        return shown(path.relative_to(self.root).as_posix())

    def reject(self, path: Path, reason: str) -> None:
        self.found.rejects.append(Reject(self.name(path), reason, self.split))

    def entries(self, folder: Path) -> list[os.DirEntry[str]]:
        """What a folder holds, by name; hidden entries are counted, an unreadable folder is rejected by name."""
        try:
            with os.scandir(folder) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            self.reject(folder, f"unreadable folder: {error.strerror or error}")
            return []
        kept = [entry for entry in listed if not (entry.name.startswith(".") or entry.name.lower() in LITTER)]
        self.ignored["hidden"] += len(listed) - len(kept)
        return kept


def scan_folder(root: Path) -> Found:
    """The rows of a folder: one for each file that has an image's ending or begins like one.

    Class folders may hold folders; links are followed, but into no folder twice. Hidden files and files of other kinds are counted
    in a note. Links that lead nowhere or back, pipes, unreadable folders and images outside class folders are rejects.

    Raises:
        UserError: no class folders, a layout that is ambiguous, or one of another task (detection, segmentation).
    """
    walk = _Walk(root)
    top = walk.entries(root)
    _refuse_other_tasks(root, top)
    for split, folder in _split_folders(walk, top):
        walk.split = split
        entries = top if folder == root else walk.entries(folder)
        _refuse_other_tasks(folder, entries)
        _read_split(walk, split, folder, entries)
    if not walk.found.rows and not walk.found.declared:
        _refuse_flat(walk)
    walk.found.notes += _ignored_notes(walk.ignored)
    return walk.found


def _refuse_other_tasks(folder: Path, entries: list[os.DirEntry[str]]) -> None:
    folders = {entry.name.lower() for entry in entries if _is_folder(entry)}
    tasks = [task for names, task in _OTHER_TASKS if names <= folders]
    if any(entry.name.lower().endswith(".coco.json") or entry.name.lower().startswith("instances_") for entry in entries):
        tasks.append("object detection or segmentation in COCO's layout")
    if tasks:
        raise UserError(
            f"{folder} is laid out for another task.",
            expected="single-label classification: one folder per class, or a table of path and label",
            received=tasks[0],
        )


def _refuse_flat(walk: _Walk) -> None:
    rejects = walk.found.rejects
    received = f"{len(rejects)} files; the first, {rejects[0].path}: {rejects[0].reason}" if rejects else "nothing"
    task = next((task for ending, task in _SIDECARS.items() if walk.ignored[ending] >= len(rejects) > 0), "")
    raise UserError(
        f"{walk.root} has no class folders.",
        expected="single-label classification: one folder of images per class, or train/ and test/ with class folders",
        received=received + (f" (it looks like {task})" if task else ""),
        hint="a table of path and label (.csv) works without class folders",
    )


def _split_folders(walk: _Walk, top: list[os.DirEntry[str]]) -> list[tuple[str, Path]]:
    """The splits and their folders; the root itself as "train" where it holds class folders."""
    folders = [entry for entry in top if _is_folder(entry)]
    splits = [(SPLIT_NAMES[entry.name.lower()], Path(entry.path)) for entry in folders if entry.name.lower() in SPLIT_NAMES]
    others = [f"{shown(entry.name)}/" for entry in folders if entry.name.lower() not in SPLIT_NAMES]
    names = [split for split, _ in splits]
    flat = not any(_has_folders(path) for _, path in splits)
    if not splits or (others and flat and names == ["train"]):  # a class may be called "train", as the vehicle
        return [("train", walk.root)]
    if len(set(names)) < len(names) or (others and "train" not in names):
        problem = "two folders for one split" if len(set(names)) < len(names) else "no train/ folder"
        listed = ", ".join([f"{path.name}/" for _, path in splits] + others[:10])
        hint = "put the class folders into train/ and test/"
        raise UserError(f"{walk.root} has {problem}.", received=listed, hint=hint)
    if others:
        walk.found.notes.append(f"Not looked at, because train/ stands beside it: {', '.join(others[:10])}.")
    _read_loose(walk, top)
    return splits


def _has_folders(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(_is_folder(entry) for entry in entries)
    except OSError:
        return False


def _read_split(walk: _Walk, split: str, folder: Path, entries: list[os.DirEntry[str]]) -> None:
    outer = {_identity(walk.root), _identity(folder)}
    for entry in filter(_is_folder, entries):
        path = Path(entry.path)
        if (place := _known(walk, path)) is None:
            continue
        if place in outer:
            walk.reject(path, "a link to a folder that holds it (a loop)")
            continue
        label = class_name(shown(entry.name))
        if split == "train":
            walk.found.declared.append(label)
        for file in _images_below(walk, path, outer | {place}):
            name = walk.name(file)
            walk.found.rows.append(Row(split, label, file, name, name))
    _read_loose(walk, entries)


def _read_loose(walk: _Walk, entries: list[os.DirEntry[str]]) -> None:
    for entry in entries:
        if not _is_folder(entry) and _could_be_image(walk, entry):
            walk.reject(Path(entry.path), "outside the class folders")


def _images_below(walk: _Walk, top: Path, visited: set[tuple[int, int]]) -> Iterator[Path]:
    waiting = [top]
    while waiting:
        inner = []
        for entry in walk.entries(waiting.pop()):
            path = Path(entry.path)
            if not _is_folder(entry):
                if _could_be_image(walk, entry):
                    yield path
            elif path.suffix.lower() in _IMAGE_ENDINGS:
                walk.reject(path, "a folder, not an image")
            elif (place := _known(walk, path)) in visited:
                walk.reject(path, "a link to a folder that was read already (a loop)")
            elif place is not None:
                visited.add(place)
                inner.append(path)
        waiting += reversed(inner)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself: it counts as a file, and is named when that is opened
        return False


def _known(walk: _Walk, path: Path) -> tuple[int, int] | None:
    """A folder's identity; None, and it is listed, where the folder around it may not be entered."""
    try:
        return _identity(path)
    except OSError as error:
        walk.reject(path, f"unreadable: {error.strerror or error}")
        return None


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def _could_be_image(walk: _Walk, entry: os.DirEntry[str]) -> bool:
    """Whether to look at a file: by its ending, or else by its first bytes. What is left aside is counted."""
    ending = Path(entry.name).suffix.lower()
    if ending in _IMAGE_ENDINGS:
        return True
    try:
        if stat.S_ISREG(entry.stat().st_mode):
            with open(entry.path, "rb") as stream:
                if sniff(stream.read(16)):
                    return True
    except OSError as error:
        dangling = isinstance(error, FileNotFoundError)
        walk.reject(Path(entry.path), "a dangling link" if dangling else f"unreadable: {error.strerror or error}")
        return False
    walk.ignored[ending or "no ending"] += 1
    return False


def _ignored_notes(ignored: Counter[str]) -> list[str]:
    hidden = ignored.pop("hidden", 0)
    notes = [f"{hidden} hidden files or folders were not looked at."] if hidden else []
    if ignored:
        kinds = ", ".join(f"{shown(ending)} ({count})" for ending, count in ignored.most_common(8))
        notes.append(f"{ignored.total()} files that are no images were left aside: {kinds}.")
    return notes
