"""Files are checked once, and again only when they change."""

import os
import time
from pathlib import Path

import pytest
from drawing import drawn, encoded, put

from frostline.data import statindex
from frostline.data.statindex import Checked, check_files
from frostline.files import digest_bytes

SETTLED_NS = statindex._SETTLED_NS


@pytest.fixture(autouse=True)
def _settled_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of these tests were made just now, which no date that is given to them hides: waiting would take seconds."""
    monkeypatch.setattr(statindex, "_SETTLED_NS", 0)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return [put(tmp_path / f"{number}.jpg", encoded(drawn(number))) for number in range(3)] + [put(tmp_path / "bad.jpg", b"text")]


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were opened and decoded."""
    names: list[str] = []
    real = statindex._check

    def check(data: bytes, name: str) -> Checked:
        names.append(name)
        return real(data, name)

    monkeypatch.setattr(statindex, "_check", check)
    return names


def test_what_is_found(files: list[Path], tmp_path: Path) -> None:
    found, notes = check_files(tmp_path, [*files, files[0], tmp_path / "none.jpg"])
    assert notes == []
    assert list(found) == [*files, tmp_path / "none.jpg"]
    assert found[files[0]] == Checked(digest_bytes(files[0].read_bytes()), 80, 100, "", files[0].stat().st_size)
    assert found[files[3]] == Checked("", 0, 0, "not an image: text")
    assert found[tmp_path / "none.jpg"].reason == "missing"


def test_a_second_look_opens_nothing(files: list[Path], tmp_path: Path, looked_at: list[str]) -> None:
    first = check_files(tmp_path, files)
    assert sorted(looked_at) == ["0.jpg", "1.jpg", "2.jpg", "bad.jpg"]
    looked_at.clear()
    assert check_files(tmp_path, files) == first
    assert looked_at == []


def test_changed_files_are_looked_at_again(files: list[Path], tmp_path: Path, looked_at: list[str]) -> None:
    check_files(tmp_path, files)
    looked_at.clear()
    put(files[1], encoded(drawn(77)), age_s=500)
    found, _ = check_files(tmp_path, files)
    assert looked_at == ["1.jpg"]
    assert found[files[1]].digest == digest_bytes(files[1].read_bytes())


def test_files_touched_just_now_are_not_remembered(files: list[Path], tmp_path: Path, looked_at: list[str]) -> None:
    os.utime(files[2], ns=(0, time.time_ns() + 10**12))
    check_files(tmp_path, files)
    looked_at.clear()
    check_files(tmp_path, files)
    assert looked_at == ["2.jpg"]


def test_files_that_were_put_there_just_now_are_not_remembered_however_old_they_say_they_are(
    files: list[Path], tmp_path: Path, looked_at: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statindex, "_SETTLED_NS", SETTLED_NS)
    check_files(tmp_path, files)
    looked_at.clear()
    check_files(tmp_path, files)
    assert len(looked_at) == 4


@pytest.mark.parametrize("replace", ["copied over", "moved over"])
def test_another_file_of_the_same_size_and_date_is_looked_at_again(
    files: list[Path], tmp_path: Path, looked_at: list[str], replace: str
) -> None:
    """As ``cp -p`` and archives with fixed dates leave it."""
    old = files[0].stat()
    data = files[1].read_bytes()
    padded = data + bytes(max(0, old.st_size - len(data)))
    files[0].write_bytes(files[0].read_bytes() + bytes(len(padded) - old.st_size))
    os.utime(files[0], ns=(old.st_atime_ns, old.st_mtime_ns))
    check_files(tmp_path, files)
    looked_at.clear()
    time.sleep(0.02)  # a tick of the file system's clock
    fresh = files[0] if replace == "copied over" else tmp_path / "fresh"
    fresh.write_bytes(padded)
    os.utime(fresh, ns=(old.st_atime_ns, old.st_mtime_ns))
    fresh.replace(files[0])
    assert (files[0].stat().st_size, files[0].stat().st_mtime_ns) == (len(padded), old.st_mtime_ns)
    found, _ = check_files(tmp_path, files)
    assert looked_at == ["0.jpg"]
    assert found[files[0]].digest == digest_bytes(padded)


def test_an_index_of_an_older_form_is_not_there(
    files: list[Path], tmp_path: Path, looked_at: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as older:
        older.setattr(statindex, "_FORMAT", 1)
        check_files(tmp_path, files)
    looked_at.clear()
    assert check_files(tmp_path, files)[1] == []
    assert len(looked_at) == 4


def test_another_decoder_looks_again(
    files: list[Path], tmp_path: Path, looked_at: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    check_files(tmp_path, files)
    looked_at.clear()
    monkeypatch.setattr(statindex.decode, "DECODER_VERSION", "another")
    assert check_files(tmp_path, files)[1] == []
    assert len(looked_at) == 4


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe\x00", b"{}\n", b"[1]\n[2]\n", None])
def test_a_damaged_index_is_said_and_made_again(
    files: list[Path], tmp_path: Path, looked_at: list[str], damage: bytes | None
) -> None:
    wanted = check_files(tmp_path, files)[0]
    index = statindex._index_path(tmp_path)
    index.write_bytes(index.read_bytes()[:-10] if damage is None else damage)
    found, notes = check_files(tmp_path, files)
    assert found == wanted
    assert "index of checked files was damaged" in notes[0]
    looked_at.clear()
    assert check_files(tmp_path, files)[1] == []
    assert looked_at == []


def test_a_shortage_of_memory_is_not_remembered(
    files: list[Path], tmp_path: Path, looked_at: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as short:

        def no_memory(*_: object) -> None:
            raise MemoryError

        short.setattr("PIL.ImageFile.ImageFile.load", no_memory)
        found, _ = check_files(tmp_path, files)
    assert {found[path].reason for path in files[:3]} == {"over-large: does not fit in memory"}
    looked_at.clear()
    found, _ = check_files(tmp_path, files)
    assert sorted(looked_at) == ["0.jpg", "1.jpg", "2.jpg"]  # bad.jpg is bad for good
    assert {found[path].reason for path in files[:3]} == {""}


def test_an_index_that_cannot_be_written_is_said(files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(statindex, "write_bytes", refuse)
    found, notes = check_files(tmp_path, files)
    assert len(found) == 4
    assert "No space left on device" in notes[0]


def test_an_interruption_keeps_what_was_found(
    files: list[Path], tmp_path: Path, looked_at: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statindex, "_CHUNK", 1)
    real = statindex._look_at_all

    def stop_after_two(paths: list[Path], known: dict[str, statindex._Entry]) -> object:
        for number, found in enumerate(real(paths, known)):
            if number == 2:
                raise KeyboardInterrupt
            yield found

    monkeypatch.setattr(statindex, "_look_at_all", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        check_files(tmp_path, files)
    monkeypatch.setattr(statindex, "_look_at_all", real)
    looked_at.clear()
    check_files(tmp_path, files)
    assert len(looked_at) == 2


def test_places_do_not_share_an_index(files: list[Path], tmp_path: Path, looked_at: list[str]) -> None:
    check_files(tmp_path, files)
    check_files(tmp_path / "table.csv", files[:1])
    looked_at.clear()
    check_files(tmp_path, files)
    assert looked_at == []
