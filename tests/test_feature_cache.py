"""Rows on disk: what was written is read again or not at all, whoever was killed and whoever writes beside."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from frostline import feature_cache
from frostline.errors import UserError
from frostline.feature_cache import FeatureCache, FeatureOverflowError, clear, entries, from_stored, in_use, raw, to_stored

KEY = {"weights": "aa", "network": "drawn", "precision": "f32", "view": "image", "preprocess": {"size": [8, 8]}}


def digests(numbers):
    return np.array([int(number).to_bytes(16, "big") for number in numbers], "S16")


def stored(numbers, width=3):
    return to_stored((np.arange(width) + np.asarray(numbers)[:, None]).astype(np.float32), "float16")


def cache(width=3, dtype="float16", **changes):
    return FeatureCache({**KEY, **changes}, width, dtype)


def filled(numbers):
    made = cache()
    made.write(digests(numbers), stored(numbers))
    return made


# storage types


def rounded(values, dtype):
    """As torch rounds."""
    return torch.from_numpy(values).to(getattr(torch, dtype)).float().numpy()


@pytest.mark.parametrize(("dtype", "size"), [("float16", 2), ("bfloat16", 2), ("float32", 4)])
def test_each_storage_type_rounds_to_nearest(dtype, size):
    rng = np.random.default_rng(0)
    values = (rng.normal(size=(50, 20)) * 10.0 ** rng.integers(-6, 4, (50, 20))).astype(np.float32)
    values[0, :6] = [0, -0.0, 1, 65504, 2.0**-24, -1e-30]
    values[1, :4] = [1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, 1 - 2**-9]  # ties of bfloat16, and beside one
    rows = to_stored(values, dtype)
    assert rows.dtype.itemsize == size
    np.testing.assert_array_equal(from_stored(rows, dtype), rounded(values, dtype))


def test_bfloat16_holds_the_largest_numbers():
    values = np.array([[3.0e38, -3.0e38, 1e5]], np.float32)
    np.testing.assert_array_equal(from_stored(to_stored(values, "bfloat16"), "bfloat16"), rounded(values, "bfloat16"))


@pytest.mark.parametrize("value", [65520.0, 1e30, -7e4, np.inf])
def test_what_float16_cannot_hold_raises(value):
    with pytest.raises(FeatureOverflowError):
        to_stored(np.array([[1, value]], np.float32), "float16")


def test_the_largest_float16_is_held():
    assert to_stored(np.array([[65504.0]], np.float32), "float16")[0, 0] == 65504
    assert to_stored(np.empty((0, 4), np.float32), "float16").shape == (0, 4)


# rows


def test_rows_come_back_in_the_order_asked_for():
    made = filled([5, 6, 7])
    made.write(digests([1, 2]), stored([1, 2]))
    for reader in (made, cache()):
        assert len(reader) == 5
        assert reader.has(digests([1, 3, 7, 5])).tolist() == [True, False, True, True]
        np.testing.assert_array_equal(reader.read(digests([2, 7, 5, 2, 1])), stored([2, 7, 5, 2, 1]))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_files_hold_the_storage_type(dtype):
    rows = to_stored(np.linspace(-3, 3, 10, dtype=np.float32).reshape(2, 5), dtype)
    cache(5, dtype).write(digests([1, 2]), rows)
    again = cache(5, dtype).read(digests([2, 1]))
    assert again.dtype == rows.dtype
    np.testing.assert_array_equal(again, rows[::-1])


def test_digests_that_end_in_zero_bytes():
    names = np.array([b"\1" * 15 + b"\0", b"\1" * 14 + b"\0\0", b"\0" * 16], "S16")
    assert [raw(name) for name in names] == [b"\1" * 15 + b"\0", b"\1" * 14 + b"\0\0", b"\0" * 16]
    cache().write(names, stored([1, 2, 3]))
    again = cache()
    assert again.has(names).all()
    np.testing.assert_array_equal(again.read(names[::-1]), stored([3, 2, 1]))


@pytest.mark.parametrize(
    "change",
    [
        {"weights": "ab"},
        {"network": "other"},
        {"precision": "bf16"},
        {"view": "mirror"},
        {"preprocess": {"size": [8, 9]}},
        {"width": 4},
        {"dtype": "bfloat16"},
        {"extra": None},
    ],
)
def test_another_key_never_sees_these_rows(change):
    filled([1, 2])
    other = cache(**change)
    assert not other.has(digests([1, 2])).any()
    assert cache().has(digests([1, 2])).all()


def test_another_format_never_sees_these_rows(monkeypatch):
    filled([1])
    monkeypatch.setattr(feature_cache, "FORMAT", 2)
    assert not cache().has(digests([1])).any()


# damage


def shard(made, ending):
    (path,) = [path for path in made.folder.glob(f"*{ending}") if path.name != "key.json"]
    return path


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


DAMAGE = {
    "no manifest": lambda made: shard(made, ".json").unlink(),
    "no rows": lambda made: shard(made, ".rows").unlink(),
    "truncated rows": lambda made: truncate(shard(made, ".rows")),
    "a flipped bit": lambda made: flip_a_bit(shard(made, ".rows")),
    "half a manifest": lambda made: truncate(shard(made, ".json")) or truncate(shard(made, ".json")),
    "an empty manifest": lambda made: shard(made, ".json").write_text(""),
    "another manifest": lambda made: shard(made, ".json").write_text(json.dumps({"digest": "0" * 32, "count": 2})),
    "a list for a manifest": lambda made: shard(made, ".json").write_text("[]"),
    "a manifest without a count": lambda made: shard(made, ".json").write_text(json.dumps({"digest": shard(made, ".rows").stem})),
    "a count that is too large": lambda made: shard(made, ".json").write_text(
        json.dumps({"digest": shard(made, ".rows").stem, "count": 2000})
    ),
    "a count that is too small": lambda made: shard(made, ".json").write_text(
        json.dumps({"digest": shard(made, ".rows").stem, "count": 1})
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_shard_is_left_out_and_made_again(damage, capsys):
    made = filled([1, 2])
    whole = shard(made, ".rows").read_bytes()
    DAMAGE[damage](made)
    reader = cache()
    assert reader.has(digests([1, 2])).tolist() == [False, False]
    said = capsys.readouterr().err
    assert ("left out" in said) == (damage != "no manifest")
    reader.write(digests([1, 2]), stored([1, 2]))
    np.testing.assert_array_equal(reader.read(digests([1, 2])), stored([1, 2]))
    np.testing.assert_array_equal(cache().read(digests([2, 1])), stored([2, 1]))
    assert shard(made, ".rows").read_bytes() == whole


def test_leftovers_of_a_killed_writer_mean_nothing():
    made = filled([1])
    (made.folder / ".abc.rows.tmp").write_bytes(b"half")
    (made.folder / f"{'0' * 32}.rows").write_bytes(b"half")
    assert len(cache()) == 1
    assert [entry["rows"] for entry in entries()] == [1]


KILLED = """
import os, signal, sys
import numpy as np
from frostline import feature_cache, files
from frostline.feature_cache import FeatureCache

real, kill_at = os.replace, int(sys.argv[1])
calls = 0

def replace(*paths):
    global calls
    calls += 1
    if calls == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
    real(*paths)

os.replace = replace
cache = FeatureCache({"killed": True}, 4, "float32")
for number in range(3):
    names = np.array([bytes([number + 1]) * 16], "S16")
    cache.write(names, np.full((1, 4), number, np.float32))
    print(number, flush=True)
"""


@pytest.mark.parametrize("kill_at", [1, 2, 3, 4, 5, 7])
def test_what_a_killed_writer_finished_is_there_and_nothing_else(kill_at):
    """A write is key.json (once), rows, manifest; the process dies by SIGKILL just before one of these appears."""
    ran = subprocess.run([sys.executable, "-c", KILLED, str(kill_at)], capture_output=True, text=True, check=False)
    assert ran.returncode == -signal.SIGKILL
    finished = (kill_at - 2) // 2 if kill_at > 2 else 0
    assert len(ran.stdout.split()) == finished
    cache = FeatureCache({"killed": True}, 4, "float32")
    names = np.array([bytes([number + 1]) * 16 for number in range(3)], "S16")
    assert cache.has(names).tolist() == [number < finished for number in range(3)]
    np.testing.assert_array_equal(cache.read(names[:finished])[:, 0], np.arange(finished))


WRITER = """
import sys
import numpy as np
from frostline.feature_cache import FeatureCache, to_stored

sys.stdin.readline()
for start in range(0, 60, 3):
    numbers = np.arange(start, start + 6) if sys.argv[1] == "overlapping" else np.arange(start, start + 3)
    cache = FeatureCache({"shared": True}, 2, "float32")
    names = np.array([int(number).to_bytes(16, "big") for number in numbers], "S16")
    cache.write(names, np.stack([numbers, -numbers], 1).astype(np.float32))
"""


@pytest.mark.parametrize("other", ["same", "overlapping"])
def test_two_processes_write_at_once(other):
    command = [sys.executable, "-c", WRITER]
    writers = [
        subprocess.Popen([*command, kind], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for kind in ("same", other)
    ]
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    assert [writer.communicate()[1] for writer in writers] == ["", ""]
    assert [writer.returncode for writer in writers] == [0, 0]
    cache, numbers = FeatureCache({"shared": True}, 2, "float32"), np.arange(60)
    np.testing.assert_array_equal(cache.read(digests(numbers)), np.stack([numbers, -numbers], 1))
    assert not list(cache.folder.glob("*.tmp"))


def test_a_cache_opened_before_another_writes_still_reads_its_own():
    early, late = cache(), cache()
    assert len(early) == len(late) == 0
    late.write(digests([1]), stored([1]))
    assert not early.has(digests([1])).any()  # looked through once; computing again is allowed, a wrong row is not
    early.write(digests([1, 2]), stored([1, 2]))
    np.testing.assert_array_equal(early.read(digests([2, 1])), stored([2, 1]))
    np.testing.assert_array_equal(cache().read(digests([2, 1])), stored([2, 1]))


def test_a_full_disk_leaves_no_shard(monkeypatch):
    made = filled([1])

    def full(_handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        made.write(digests([2]), stored([2]))
    monkeypatch.undo()
    assert not made.has(digests([2])).any()


# what is there


def test_entries_and_clear(cache_folder):
    assert entries() == []
    filled([1, 2])
    cache(view="mirror").write(digests([1]), stored([1]))
    found = {entry["key"]["view"]: entry for entry in entries()}
    assert {view: entry["rows"] for view, entry in found.items()} == {"image": 2, "mirror": 1}
    for entry in found.values():
        assert entry["bytes"] == sum(
            path.stat().st_size
            for path in (cache_folder / "features").rglob("*")
            if str(path).startswith(entry["folder"]) and path.is_file()
        )
    (cache_folder / "kept").mkdir()
    assert clear() == sum(entry["bytes"] for entry in found.values())
    assert entries() == []
    assert (cache_folder / "kept").is_dir()
    assert not cache().has(digests([1])).any()
    assert clear() == 0


def test_what_is_in_use_is_not_cleared(cache_folder):
    filled([1, 2])
    with in_use():
        with in_use(), pytest.raises(UserError, match="is in use"):
            clear()
        with pytest.raises(UserError, match="is in use"):
            clear()
        assert cache().has(digests([1, 2])).all()
    assert clear() > 0


def test_a_cache_that_cannot_be_written_can_be_used(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FROSTLINE_HOME", str(tmp_path / "file" / "home"))
    with in_use():
        pass
    assert clear() == 0
