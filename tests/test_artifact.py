"""A model directory is read whole and unchanged or not at all, whatever was done to it."""

import errno
import json
import os
import shutil
import stat

import numpy as np
import pytest
from safetensors import SafetensorError
from toymodel import CLASSES, probabilities, write_toy

from frostline import artifact, engine
from frostline.artifact import Compiled, read_model, write_model
from frostline.drawn import drawn_images
from frostline.errors import UserError
from frostline.files import digest_file, digest_json
from frostline.model_card import FILES, GRAPH_FILES, ONNX, read_card, seen_digests
from frostline.selftest import replay_selftest

ALL = sorted([*FILES, *GRAPH_FILES, ONNX])
SEEN = {bytes([number]) * 15 + b"\0" for number in range(5)} | {b"\0" * 16}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_toy(tmp_path_factory.mktemp("toy") / "model", seen=SEEN)


@pytest.fixture
def folder(written, tmp_path):
    """A copy to tamper with."""
    return shutil.copytree(written, tmp_path / "model")


def resign(folder, **changes):
    """Change the card and its own digest with it, as somebody who knows how."""
    values = {**json.loads((folder / "model.json").read_text()), **changes}
    values.pop("digest")
    (folder / "model.json").write_text(json.dumps({**values, "digest": digest_json(values)}))


def test_what_is_written_is_read(folder):
    card, graph = read_model(folder)
    assert (card.name, card.classes, card.views, card.temperature, card.precision) == ("toy", CLASSES, 1, 1.0, "f32")
    assert card.preprocess.stored == (8, 8)
    assert sorted(card.values["files"]) == ALL
    assert sorted(path.name for path in folder.iterdir()) == sorted([*ALL, "model.json"])
    images = drawn_images(40, 8, 8)
    np.testing.assert_allclose(Compiled(graph, "f32").probabilities(images), probabilities(images), atol=1e-5)
    assert seen_digests(folder) == SEEN


def test_whoever_may_read_one_file_may_read_all(folder):
    """A service in a container runs as nobody in particular."""
    assert len({stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}) == 1


def test_writing_twice_gives_the_same_digest_and_the_same_bytes(written, tmp_path):
    again = write_toy(tmp_path / "elsewhere" / "model", seen=SEEN)
    assert read_card(again).digest == read_card(written).digest
    for name in (*ALL, "model.json"):
        assert digest_file(again / name) == digest_file(written / name), name


def test_the_digest_is_of_everything(written, tmp_path):
    digests = {read_card(written).digest}
    digests.add(read_card(write_toy(tmp_path / "seen", seen=[b"x" * 16])).digest)
    digests.add(read_card(write_toy(tmp_path / "settings", seen=SEEN, seed=1)).digest)
    digests.add(read_card(write_toy(tmp_path / "side", side=9, seen=SEEN)).digest)
    assert len(digests) == 4


def test_nothing_in_it_names_this_machine(folder, tmp_path):
    for path in folder.iterdir():
        data = path.read_bytes()
        assert str(tmp_path).encode() not in data
        assert os.uname().nodename.encode() not in data or len(os.uname().nodename) < 6


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("how", ["a bit", "cut short", "longer", "gone", "a folder"])
def test_every_tampered_file_is_refused_by_name(folder, name, how):
    path = folder / name
    data = bytearray(path.read_bytes())
    if how == "a bit":
        data[len(data) // 2] ^= 4
        path.write_bytes(data)
    elif how == "cut short":
        path.write_bytes(data[:-1])
    elif how == "longer":
        path.write_bytes(data + b"\0")
    else:
        path.unlink()
        if how == "a folder":
            path.mkdir()
    with pytest.raises(UserError) as caught:
        read_model(folder)
    assert name in str(caught.value)


@pytest.mark.parametrize("key", ["classes", "temperature", "preprocess", "views", "precision", "data", "files", "schema"])
def test_a_changed_card_is_refused(folder, key):
    values = json.loads((folder / "model.json").read_text())
    values[key] = list(reversed(values[key])) if key == "classes" else {} if isinstance(values[key], dict) else 0
    (folder / "model.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match="changed after it was saved"):
        read_model(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"digest": "x"}', '"model"', '{"digest": 1, "schema": "one"}'])
def test_a_card_that_is_none(folder, text):
    (folder / "model.json").write_text(text)
    with pytest.raises(UserError, match=r"model\.json"):
        read_model(folder)


def test_a_newer_schema_says_so_before_anything_else(folder):
    values = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({"schema": 2, "digest": values["digest"], "new": "layout"}))
    with pytest.raises(UserError, match="newer Frostline") as caught:
        read_model(folder)
    assert (caught.value.expected, caught.value.received) == ("schema 1", "2")


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"graph.xml": "0", "weights.safetensors": "0", "selftest.npz": "0", "seen.npy": "0"},
        dict.fromkeys([*ALL, "../../etc/passwd"], "0"),
        dict.fromkeys([*ALL, "run.py"], "0"),
    ],
)
def test_a_card_that_names_other_files(folder, files):
    resign(folder, files=files)
    with pytest.raises(UserError, match="names other files"):
        read_model(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"preprocess": {"size": [8, 8]}},
        {"classes": None},
        {"temperature": "hot"},
        {"views": None},
        {"label_sets": "many"},
        {"label_sets": [0.9]},
        {"label_sets": [{"promised": 0.9}]},
        {"label_sets": [{"promised": 1.0, "threshold": 0.1}]},
        {"label_sets": [{"promised": 0.9, "threshold": -0.1}]},
        {"label_sets": [{"promised": 0.9, "threshold": 1.5}]},
    ],
)
def test_a_card_with_impossible_values(folder, change):
    resign(folder, **change)
    with pytest.raises(UserError, match="cannot be read"):
        read_model(folder)


def test_no_model_there(tmp_path):
    with pytest.raises(UserError, match="no model at") as caught:
        read_model(tmp_path)
    assert caught.value.received == "a folder without model.json"
    with pytest.raises(UserError, match="no model at") as caught:
        read_model(tmp_path / "none")
    assert caught.value.received == "no such folder"


def test_files_beside_it_do_no_harm(folder):
    before = read_model(folder)[0]
    (folder / "notes.txt").write_text("mine")
    assert read_model(folder)[0] == before


def test_nothing_is_unpickled(folder):
    """Object arrays are refused by NumPy itself, should a digest ever be forged."""
    np.save(folder / "seen.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match="allow_pickle"):
        seen_digests(folder)


# the self-test


def test_the_self_test_is_drawn_and_passes(folder):
    with np.load(folder / "selftest.npz", allow_pickle=False) as archive:
        images, wanted = archive["images"], archive["probabilities"]
    assert (images.shape, images.dtype) == ((10, 8, 8, 3), np.uint8)
    np.testing.assert_array_equal(images, drawn_images(10, 8, 8, seed=10))
    np.testing.assert_allclose(wanted, probabilities(images), atol=1e-5)
    replay_selftest(folder, Compiled(read_model(folder)[1], "f32"), "f32")


class Fixed:
    def __init__(self, values):
        self.values = values

    def probabilities(self, _images):
        return self.values


@pytest.mark.parametrize(
    ("precision", "off", "passes"),
    [("f32", 5e-5, True), ("f32", 3e-4, False), ("bf16", 1e-2, True), ("bf16", 3e-2, False), ("f32", np.nan, False)],
)
def test_the_self_test_is_replayed_within_a_tolerance(folder, precision, off, passes):
    with np.load(folder / "selftest.npz") as archive:
        values = archive["probabilities"].copy()
    values[7, 1] += off
    if passes:
        replay_selftest(folder, Fixed(values), precision)
        return
    with pytest.raises(UserError, match="does not pass its self-test"):
        replay_selftest(folder, Fixed(values), precision)


def test_swapped_classes_fail_the_self_test(folder):
    with np.load(folder / "selftest.npz") as archive:
        values = archive["probabilities"]
    with pytest.raises(UserError, match="self-test") as caught:
        replay_selftest(folder, Fixed(values[:, ::-1]), "bf16")
    assert "within 0.02" in caught.value.expected


# writing


def test_a_model_is_replaced_whole(folder):
    (folder / "left.txt").write_text("from before")
    before = read_card(folder).digest
    write_toy(folder, side=6)
    assert read_card(folder).digest != before
    assert not (folder / "left.txt").exists()
    read_model(folder)


def test_a_failure_while_writing_leaves_the_old_model(folder, monkeypatch):
    before = read_card(folder).digest

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(artifact, "write_selftest", fail)
    with pytest.raises(OSError, match="No space"):
        write_toy(folder, side=6)
    monkeypatch.undo()
    read_model(folder)
    assert read_card(folder).digest == before
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_digests_that_end_in_zero_bytes_are_kept(tmp_path):
    folder = write_toy(tmp_path / "model", seen=[b"a" * 14 + b"\0\0"])
    assert seen_digests(folder) == {b"a" * 14 + b"\0\0"}
    assert seen_digests(write_toy(tmp_path / "none")) == set()


def test_weights_are_kept_by_name(tmp_path):
    from safetensors.numpy import load_file

    values = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3).T, "b": np.array(3.0)}
    toy = write_toy(tmp_path / "toy")
    card, graph = read_model(toy)
    plain = {key: value for key, value in card.values.items() if key not in ("schema", "files")}
    write_model(tmp_path / "model", graph, values, set(), plain)
    kept = load_file(tmp_path / "model" / "weights.safetensors")
    assert set(kept) == set(values)
    for name, value in values.items():
        np.testing.assert_array_equal(kept[name], value)
    assert engine.BATCH > 10


def test_thresholds_of_label_sets_are_read_and_older_cards_have_none(folder, tmp_path):
    assert read_card(folder).label_sets == {}
    newer = write_toy(tmp_path / "newer", label_sets={0.9: 0.25, 0.95: 0.125})
    assert read_card(newer).label_sets == {0.9: 0.25, 0.95: 0.125}
    resign(folder, label_sets=[{"promised": 0.9, "threshold": 0.5, "n": 7, "of": "a later version"}], later={"key": 1})
    assert read_card(folder).label_sets == {0.9: 0.5}  # keys that are not known yet are passed over
    assert read_card(folder).values["schema"] == 1


def test_a_card_with_numbers_beyond_all_numbers_is_none(folder):
    text = (folder / "model.json").read_text()
    (folder / "model.json").write_text(text.replace("{", '{"more": 1e999, ', 1))
    with pytest.raises(UserError, match=r"model\.json cannot be read") as refused:
        read_card(folder)
    assert "1e999" in refused.value.received


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
def test_a_pipe_in_place_of_a_card_does_not_hang(folder):
    (folder / "model.json").unlink()
    os.mkfifo(folder / "model.json")
    with pytest.raises(UserError, match=r"model\.json cannot be read"):
        read_card(folder)


@pytest.mark.parametrize("error", [SafetensorError("no room"), RuntimeError("no room"), OSError("12 requested and 3 written")])
def test_a_disk_that_is_full_is_said_with_the_place(tmp_path, monkeypatch, error):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr("frostline.artifact.save_file", fails)
    with pytest.raises(type(error), match=r"no room|requested"):  # a fault of ours is no full disk
        write_toy(tmp_path / "model")
    monkeypatch.setattr("frostline.artifact.FULL", 2**60)
    with pytest.raises(OSError, match="No space left") as caught:
        write_toy(tmp_path / "model")
    assert (caught.value.filename, caught.value.errno) == (str(tmp_path / "model"), errno.ENOSPC)
    assert not list(tmp_path.iterdir())
