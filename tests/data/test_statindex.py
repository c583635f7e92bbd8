"""Files are checked once, and again only when they change."""

import os
from pathlib import Path

import pytest
from drawing import drawn, encoded, put

from frostline.data import statindex
from frostline.data.statindex import Checked, check_files
from frostline.files import digest_bytes


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
    os.utime(files[2])
    check_files(tmp_path, files)
    looked_at.clear()
    check_files(tmp_path, files)
    assert looked_at == ["2.jpg"]


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
