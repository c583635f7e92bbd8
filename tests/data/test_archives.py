"""Archives that are not what they claim."""

import errno
import gzip
import io
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from frostline.data.archives import unpack
from frostline.errors import UserError


def make(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for info, data in members:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def test_files_and_folders_come_out(tmp_path: Path) -> None:
    archive = make(tmp_path / "a.tar.gz", (member("in", tarfile.DIRTYPE), b""), (member("in/a.bin"), b"abc"))
    folder = unpack(archive, tmp_path / "out" / "a")
    assert (folder / "in" / "a.bin").read_bytes() == b"abc"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a"]


def test_an_unpacked_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert unpack(tmp_path / "no such.tar.gz", tmp_path / "out") == tmp_path / "out"


UNSAFE: dict[str, tarfile.TarInfo] = {
    "absolute": member("/tmp/evil"),
    "parent": member("in/../../evil"),
    "backslash parent": member("..\\evil"),
    "drive": member("C:evil"),
    "symbolic link": member("in/link", tarfile.SYMTYPE, "/etc/passwd"),
    "hard link": member("in/link", tarfile.LNKTYPE, "in/a.bin"),
    "device": member("in/dev", tarfile.CHRTYPE),
    "pipe": member("in/pipe", tarfile.FIFOTYPE),
}


@pytest.mark.parametrize("name", UNSAFE)
def test_unsafe_members_are_refused_by_name_and_nothing_stays(tmp_path: Path, name: str) -> None:
    archive = make(tmp_path / "a.tar.gz", (member("in/a.bin"), b"abc"), (UNSAFE[name], b""))
    with pytest.raises(UserError, match="not safe") as caught:
        unpack(archive, tmp_path / "out" / "a")
    assert repr(UNSAFE[name].name) in str(caught.value)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_sparse_member_is_refused(tmp_path: Path) -> None:
    """It says that it is larger than what the archive holds, and is as large once it is unpacked."""
    sparse = member("in/hole.bin")
    sparse.pax_headers = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.size": "3000000000",
        "GNU.sparse.map": "0,3",
    }
    archive = make(tmp_path / "a.tar.gz", (sparse, b"abc"))
    with pytest.raises(UserError, match="not safe"):
        unpack(archive, tmp_path / "out" / "a")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    "spoil", [lambda data: data[:60], lambda data: b"no gzip", lambda data: b"", lambda data: data[:30] + data[40:]]
)
def test_damaged_archives_leave_nothing(tmp_path: Path, spoil: Callable[[bytes], bytes]) -> None:
    archive = make(tmp_path / "a.tar.gz", (member("a.bin"), bytes(range(256)) * 40))
    archive.write_bytes(spoil(archive.read_bytes()))
    with pytest.raises(UserError, match="Cannot unpack"):
        unpack(archive, tmp_path / "out" / "a")
    assert list((tmp_path / "out").iterdir()) == []


def test_bombs_stop_at_the_limit(tmp_path: Path) -> None:
    archive = make(tmp_path / "a.tar.gz", (member("a.bin"), bytes(3_000_000)))
    assert archive.stat().st_size < 10_000
    with pytest.raises(UserError, match="more than 1,000,000 bytes"):
        unpack(archive, tmp_path / "out" / "a", max_bytes=1_000_000)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_missing_archive(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Cannot unpack"):
        unpack(tmp_path / "none.tar.gz", tmp_path / "out")


def test_a_full_disk_is_said_of_the_folder_not_of_the_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_given: object, **_options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfileobj", full)
    archive = make(tmp_path / "a.tar.gz", (member("a.bin"), b"abc"))
    with pytest.raises(OSError, match="No space left") as caught:
        unpack(archive, tmp_path / "out" / "a")
    assert caught.value.filename == str(tmp_path / "out" / "a")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_member_that_claims_more_than_may_be_unpacked(tmp_path):
    entry = tarfile.TarInfo("a.bin")
    entry.size = 2**60
    (tmp_path / "x.tar.gz").write_bytes(gzip.compress(entry.tobuf(tarfile.GNU_FORMAT) + b"\0" * 1024))
    with pytest.raises(UserError, match="unpacks to more than"):
        unpack(tmp_path / "x.tar.gz", tmp_path / "out")
    assert not (tmp_path / "out").exists()
