"""Unpacking a downloaded archive: plain files and folders inside the target, or nothing."""

from __future__ import annotations

import errno
import gzip
import io
import shutil
import tarfile
import tempfile
import zlib
from pathlib import Path, PurePosixPath

from frostline.errors import UserError
from frostline.files import move_in_place

#: The most bytes an archive may unpack to (the CIFAR archives hold 184 MB).
MAX_BYTES = 1 << 30
MAX_MEMBERS = 10_000
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


class Capped(io.RawIOBase):
    """A reader that gives up after ``limit`` bytes: headers count too, so no field of the archive can ask for more."""

    def __init__(self, stream: gzip.GzipFile, limit: int) -> None:
        self._stream, self._left, self._limit = stream, limit, limit

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(min(size, self._left + 1) if size >= 0 else self._left + 1)
        self._left -= len(data)
        if self._left < 0:
            raise UserError(f"The archive unpacks to more than {self._limit:,} bytes; it was not unpacked.")
        return data


def unpack(archive: Path, folder: Path, *, max_bytes: int = MAX_BYTES) -> Path:
    """Unpack a ``.tar.gz`` to ``folder``, which appears complete or not at all. A folder that exists already is taken as it is.

    Links, devices, absolute names and names that lead outside are refused rather than skipped: an archive that holds one is not
    what it claims to be.

    Raises:
        UserError: the archive is unreadable, damaged, too large or unsafe.
        OSError: there is no room for it, or no right to write there; the error names the folder.
    """
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".unpack-"))
    try:
        _extract(archive, temporary, max_bytes)
        move_in_place(temporary, folder)
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            raise OSError(error.errno, error.strerror, str(folder)) from error
        raise UserError(f"Cannot unpack {archive}.", expected="a .tar.gz archive, whole", received=str(error)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _extract(archive: Path, folder: Path, max_bytes: int) -> None:
    with gzip.open(archive) as stream, tarfile.open(fileobj=Capped(stream, max_bytes), mode="r|") as tar:
        for number, member in enumerate(tar):
            if number >= MAX_MEMBERS:
                raise UserError(f"{archive} holds more than {MAX_MEMBERS:,} files; it was not unpacked.")
            _check_member(archive, member)
            if member.size > max_bytes:  # tarfile would look for its end in steps of 10 KiB
                raise UserError(f"{archive} unpacks to more than {max_bytes:,} bytes; it was not unpacked.")
            _write(tar, member, folder / member.name)


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    """A checked member as a plain file or folder: tarfile's own safe way is not in every Python 3.11 (Debian 12 has 3.11.2)."""
    content = tar.extractfile(member)
    (path if content is None else path.parent).mkdir(parents=True, exist_ok=True)
    if content is not None:
        with content, open(path, "wb") as out:
            shutil.copyfileobj(content, out)


def _check_member(archive: Path, member: tarfile.TarInfo) -> None:
    name = PurePosixPath(member.name.replace("\\", "/"))
    if name.is_absolute() or ".." in name.parts or ":" in member.name:
        problem = "a name that leads outside the archive's folder"
    elif not (member.isreg() or member.isdir()) or member.issparse():  # a sparse file is larger than what is unpacked
        problem = "a link" if member.issym() or member.islnk() else "a special file"
    else:
        return
    raise UserError(f"{archive} is not safe to unpack.", expected="plain files and folders", received=f"{problem}: {member.name!r}")
