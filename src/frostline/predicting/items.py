"""One image that is to be predicted, wherever it lies, and what counts as one by its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from frostline.data.folders import LITTER
from frostline.decode import FORMAT_OF_ENDING, UNREAD_ENDINGS, BadImage

#: What a folder or an archive is searched for; images of a kind that is not read are rows with that reason.
ENDINGS = frozenset(FORMAT_OF_ENDING) | UNREAD_ENDINGS


@dataclass(frozen=True)
class Item:
    """One image to be.

    Attributes:
        name: what its row is called: the path, or ARCHIVE/MEMBER, as one printable line.
        source: its file, its bytes, what reads its bytes (in any thread), or why there are none.
    """

    name: str
    source: Path | bytes | Callable[[], bytes] | BadImage

    @property
    def weight(self) -> int:
        """Bytes that it holds in memory before it is read."""
        return len(self.source) if isinstance(self.source, bytes) else 0

    def encoded(self) -> Path | bytes:
        """The file or the bytes; ``BadImage`` where there are none."""
        if isinstance(self.source, BadImage):
            raise self.source
        return self.source() if callable(self.source) else self.source


def is_image_name(name: str) -> bool:
    """Whether a file of this name, in a folder or an archive, is taken for an image: by its ending, and not hidden."""
    base = name.rpartition("/")[2]
    return PurePosixPath(base).suffix.lower() in ENDINGS and not left_aside(base)


def left_aside(name: str) -> bool:
    """Whether a file or folder of this name is not looked at: hidden, or left behind by a system."""
    return name.startswith(".") or name.lower() in LITTER
