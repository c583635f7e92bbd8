import errno
import hashlib
import os
import stat
import subprocess
import sys
from contextvars import ContextVar
from pathlib import Path

import numpy as np
import pytest

from frostline import files
from frostline.files import (
    atomic_file,
    check_place,
    digest_bytes,
    digest_file,
    digest_json,
    home,
    named,
    scratch_array,
    write_bytes,
    write_json,
    write_text,
    write_through,
)


def test_home(monkeypatch, tmp_path):
    monkeypatch.setenv("FROSTLINE_HOME", str(tmp_path / "here"))
    assert home() == tmp_path / "here"
    monkeypatch.delenv("FROSTLINE_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert home() == tmp_path / "cache" / "frostline"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert home() == tmp_path / ".cache" / "frostline"
    monkeypatch.setenv("FROSTLINE_HOME", "~/moved")
    assert home() == tmp_path / "moved"


def test_a_file_appears_whole(tmp_path):
    path = tmp_path / "a" / "b.txt"
    with atomic_file(path) as stream:
        stream.write(b"half")
        stream.flush()
        assert not path.exists()
        stream.write(b" and half")
    assert path.read_bytes() == b"half and half"
    assert [entry.name for entry in path.parent.iterdir()] == ["b.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_after_an_error_the_old_file_is_still_there(tmp_path, error):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail(stream):
        stream.write(b"new")
        raise error

    with pytest.raises(error), atomic_file(path) as stream:
        fail(stream)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_a_name_as_long_as_names_may_be(tmp_path):
    path = tmp_path / ("n" * 255)
    write_bytes(path, b"x")
    assert path.read_bytes() == b"x"


def test_files_have_the_usual_permissions(tmp_path):
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a", "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_a_killed_writer_leaves_the_old_file(tmp_path):
    write_text(tmp_path / "a", "old")
    code = (
        "import os, signal, sys; from pathlib import Path; from frostline.files import atomic_file\n"
        "with atomic_file(Path(sys.argv[1])) as stream:\n"
        "    stream.write(b'new'); stream.flush(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a")], check=False)
    assert ran.returncode < 0
    assert (tmp_path / "a").read_text() == "old"


def test_json_is_readable_and_is_json(tmp_path):
    write_json(tmp_path / "a.json", {"näme": [1, 2.5, None]})
    assert (tmp_path / "a.json").read_text("utf-8") == '{\n  "näme": [\n    1,\n    2.5,\n    null\n  ]\n}\n'
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "b.json", {"a": float("nan")})
    assert not (tmp_path / "b.json").exists()


def test_through_a_library_that_wants_a_path(tmp_path):
    seen = []

    def save(path):
        seen.append(path)
        path.write_text("picture")

    write_through(tmp_path / "plots" / "a.png", save)
    assert (tmp_path / "plots" / "a.png").read_text() == "picture"
    assert seen[0].name == "a.png"
    assert seen[0] != tmp_path / "plots" / "a.png"
    with pytest.raises(ZeroDivisionError):
        write_through(tmp_path / "plots" / "a.png", lambda path: path.write_text("half") / 0)
    assert (tmp_path / "plots" / "a.png").read_text() == "picture"
    assert [entry.name for entry in (tmp_path / "plots").iterdir()] == ["a.png"]


def test_digests(tmp_path):
    wanted = hashlib.blake2b(b"abc", digest_size=16).hexdigest()
    (tmp_path / "a").write_bytes(b"abc")
    assert digest_bytes(b"abc") == digest_bytes(b"a", memoryview(b"bc")) == digest_file(tmp_path / "a") == wanted
    assert digest_bytes(b"abd") != wanted
    assert digest_json({"b": [1, "ü"], "a": None}) == digest_json({"a": None, "b": [1, "ü"]})
    assert digest_json({"a": 1}) != digest_json({"a": 1.5})
    assert digest_json({"a": 1}) == digest_bytes(b'{"a":1}')


def test_a_small_scratch_array_is_in_memory():
    array = scratch_array((3, 4), np.dtype(np.float32))
    assert type(array) is np.ndarray
    assert (array.shape, array.dtype) == ((3, 4), np.float32)


def test_a_large_scratch_array_is_an_unnamed_file(monkeypatch, cache_folder):
    monkeypatch.setattr(files, "OF_THE_MEMORY", 100 / files.MEMORY)
    array = scratch_array((100, 7), np.dtype("<f2"))
    assert isinstance(array, np.memmap)
    array[:] = np.arange(7)
    assert (np.asarray(array)[50] == np.arange(7)).all()
    assert list(Path(cache_folder).iterdir()) == []
    assert scratch_array((0, 7), np.dtype("<f2")).shape == (0, 7)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system cannot keep room for a file")
def test_a_large_scratch_array_has_its_room_from_the_beginning(monkeypatch, cache_folder):
    monkeypatch.setattr(files, "OF_THE_MEMORY", 100 / files.MEMORY)
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left") as raised:
        scratch_array((100, 7), np.dtype("<f2"))
    assert raised.value.filename == str(cache_folder)
    assert list(Path(cache_folder).iterdir()) == []


def test_less_memory_sends_smaller_arrays_to_files():
    shape = (1000, 100)  # 400,000 bytes
    assert not isinstance(scratch_array(shape, np.dtype(np.float32)), np.memmap)
    with files.memory_limit(8 * 400_000):
        assert not isinstance(scratch_array(shape, np.dtype(np.float32)), np.memmap)
    with files.memory_limit(8 * 400_000 - 8):
        assert isinstance(scratch_array(shape, np.dtype(np.float32)), np.memmap)
    assert not isinstance(scratch_array(shape, np.dtype(np.float32)), np.memmap)


def full(*_given):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("write", [lambda path: write_text(path, "x"), lambda path: write_through(path, Path.touch)])
def test_a_full_disk_is_said_of_the_file_that_was_to_be_written(tmp_path, monkeypatch, write):
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write(tmp_path / "a.txt")
    assert caught.value.filename == str(tmp_path / "a.txt")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "told"),
    [(None, "a.txt"), (".a.txt.xyz.tmp", "a.txt"), (".a.txt.xyz/a.txt", "a.txt"), ("b.txt", "b.txt"), ("", ""), ("../c", "../c")],
)
def test_which_file_an_error_names(tmp_path, given, told):
    name = None if given is None else str(tmp_path / given)
    with pytest.raises(OSError, match="refused") as caught, named(tmp_path / "a.txt"):
        raise OSError(errno.EACCES, "refused", name)
    assert caught.value.filename == str(tmp_path / told)


def test_an_error_without_a_number_is_none_of_the_systems(tmp_path):
    with pytest.raises(OSError, match="unknown host") as caught, named(tmp_path / "a.txt"):
        raise OSError("unknown host")
    assert caught.value.filename is None


def test_a_place_is_checked_and_left_as_it_was(tmp_path):
    check_place(tmp_path / "new" / "a.txt")
    assert list((tmp_path / "new").iterdir()) == []
    write_text(tmp_path / "old.txt", "old")
    check_place(tmp_path / "old.txt")
    assert (tmp_path / "old.txt").read_text() == "old"
    for bad in (tmp_path / "new", tmp_path / "old.txt" / "a.txt"):
        with pytest.raises(OSError, match=str(tmp_path)):
            check_place(bad)


def test_a_scratch_array_that_has_no_room_is_refused_before_it_is_filled(monkeypatch, cache_folder):
    monkeypatch.setattr(files, "_memory", ContextVar("memory", default=0))
    with pytest.raises(OSError, match="No space left") as caught:
        scratch_array((2**40, 2**14), np.dtype(np.float32))
    assert caught.value.filename == str(cache_folder)
    assert list(cache_folder.iterdir()) == []
