"""A model as one file: the same bytes each time, the same answers, and no ZIP that could do harm."""

import io
import json
import shutil
import stat
import zipfile

import numpy as np
import pytest
from toymodel import write_toy

import frostline
from frostline import model_zip
from frostline.drawn import drawn_images
from frostline.errors import UserError
from frostline.files import home
from frostline.model_zip import pack_model, unpacked
from frostline.serve.predictor import Predictor


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_toy(tmp_path_factory.mktemp("toy") / "model", seen=[b"x" * 16])


@pytest.fixture(scope="module")
def packed(folder, tmp_path_factory):
    return pack_model(folder, tmp_path_factory.mktemp("zip") / "toy.zip")


def entries(packed):
    with zipfile.ZipFile(packed) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def written(path, contents):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in contents:
            archive.writestr(name, data)
    return path


def test_it_holds_the_model_and_nothing_else(folder, packed):
    assert entries(packed) == {path.name: path.read_bytes() for path in folder.iterdir()}


def test_packing_twice_gives_the_same_bytes(folder, packed, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    for path in copy.iterdir():
        path.touch()
    (copy / "README.md").write_text("mine")
    assert pack_model(copy, tmp_path / "again.zip").read_bytes() == packed.read_bytes()


def test_it_predicts_what_the_directory_predicts(folder, packed):
    images = drawn_images(5, 8, 8)
    for way in (Predictor(packed), frostline.load_model(str(packed))):
        np.testing.assert_array_equal(way.predict(images), Predictor(folder).predict(images))
        assert way.seen() == {b"x" * 16}


@pytest.mark.parametrize("own_entry", [False, True])
def test_a_folder_that_was_packed_whole(folder, packed, tmp_path, own_entry):
    contents = [(f"model/{name}", data) for name, data in entries(packed).items()]
    path = written(tmp_path / "whole.zip", [("model/", b""), *contents] if own_entry else contents)
    images = drawn_images(5, 8, 8)
    np.testing.assert_array_equal(Predictor(path).predict(images), Predictor(folder).predict(images))


@pytest.mark.parametrize("top", ["../", "./", "/", "a/b/", "a\\"])
def test_of_other_folders_nothing_is_taken(packed, tmp_path, top):
    path = written(tmp_path / "odd.zip", [(top + name, data) for name, data in entries(packed).items()])
    with pytest.raises(UserError, match="not safe to unpack"):
        unpacked(path)
    mixed = written(
        tmp_path / "mixed.zip", [("model/" + name if i else name, data) for i, (name, data) in enumerate(entries(packed).items())]
    )
    with pytest.raises(UserError, match="not safe to unpack"):
        unpacked(mixed)


def test_it_is_unpacked_once(packed):
    first = unpacked(packed)
    before = (first / "model.json").stat().st_mtime_ns
    assert unpacked(packed) == first
    assert (first / "model.json").stat().st_mtime_ns == before
    assert first.parent == home() / "models"
    assert [path.name for path in first.parent.iterdir()] == [first.name]


def test_where_nothing_can_be_kept_it_is_unpacked_for_the_process(packed, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("FROSTLINE_HOME", str(tmp_path / "file"))
    assert Predictor(packed).predict(drawn_images(2, 8, 8)).shape == (2, 3)


def test_what_was_unpacked_is_checked_each_time(packed):
    (unpacked(packed) / "graph.bin").write_bytes(b"spoiled")
    with pytest.raises(UserError, match=r"graph\.bin is not the file"):
        Predictor(packed)


def test_a_spoiled_model_is_not_packed(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "seen.npy").write_bytes(b"")
    with pytest.raises(UserError, match=r"seen\.npy is not the file"):
        pack_model(copy, tmp_path / "toy.zip")
    assert not (tmp_path / "toy.zip").exists()


@pytest.mark.parametrize(
    "name",
    [
        "../model.json",
        "/etc/passwd",
        "a/../../b",
        "sub/model.json",
        "run.py",
        "C:\\model.json",
        "model.json/",
        "weights.pkl",
        "a\0b",
    ],
)
def test_names_that_no_model_has(packed, tmp_path, name):
    path = written(tmp_path / "bad.zip", [*entries(packed).items(), (name, b"x")])
    with pytest.raises(UserError, match="not safe to unpack") as caught:
        Predictor(path)
    assert "entries that no model has" in caught.value.received
    assert not (home() / "models").exists()


def test_two_entries_of_one_name(packed, tmp_path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = written(tmp_path / "bad.zip", [*entries(packed).items(), ("seen.npy", b"x")])
    with pytest.raises(UserError, match="not safe to unpack") as caught:
        Predictor(path)
    assert caught.value.received == "two entries of one name"


def test_a_link(packed, tmp_path):
    link = zipfile.ZipInfo("seen.npy")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    others = [(name, data) for name, data in entries(packed).items() if name != "seen.npy"]
    with pytest.raises(UserError, match="not safe to unpack") as caught:
        Predictor(written(tmp_path / "bad.zip", [*others, (link, b"/etc/passwd")]))
    assert caught.value.received == "a link or a folder"


def test_an_encrypted_entry(packed, tmp_path):
    data = bytearray(packed.read_bytes())
    at = data.index(b"PK\1\2")
    data[at + 8] |= 1
    (tmp_path / "bad.zip").write_bytes(data)
    with pytest.raises(UserError) as caught:
        Predictor(tmp_path / "bad.zip")
    assert caught.value.received == "an encrypted entry"


def test_a_bomb_is_refused_by_what_it_says(packed, tmp_path, monkeypatch):
    monkeypatch.setattr(model_zip, "MOST_BYTES", 1000)
    with pytest.raises(UserError) as caught:
        Predictor(packed)
    assert "at most 1,000 are taken" in caught.value.received


def test_a_bomb_that_lies_is_cut_off(packed, tmp_path):
    """An entry that unpacks to more than it says is read no further than that, and its checksum is wrong."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries(packed).items():
            archive.writestr(name, bytes(1 << 24) if name == "graph.bin" else data)
    data = stream.getvalue().replace((1 << 24).to_bytes(4, "little"), (100).to_bytes(4, "little"))
    (tmp_path / "bad.zip").write_bytes(data)
    with pytest.raises(UserError, match="Cannot unpack"):
        Predictor(tmp_path / "bad.zip")
    assert list((home() / "models").iterdir()) == []


@pytest.mark.parametrize("data", [b"", b"PK\3\4", b"text", b"PK\5\6" + bytes(18)])
def test_what_is_no_packed_model(tmp_path, data):
    (tmp_path / "bad.zip").write_bytes(data)
    with pytest.raises(UserError, match="no packed model"):
        Predictor(tmp_path / "bad.zip")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_cut_short(packed, tmp_path, share):
    data = packed.read_bytes()
    (tmp_path / "bad.zip").write_bytes(data[: int(share * len(data))])
    with pytest.raises(UserError):
        Predictor(tmp_path / "bad.zip")


def test_each_region(packed, tmp_path):
    """A changed byte is refused, or was none of the model's (a date, an attribute) and changes no file."""
    whole, path = packed.read_bytes(), tmp_path / "bad.zip"
    wanted = entries(packed)
    refused = 0
    for at in np.linspace(0, len(whole) - 1, 150).astype(int):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1 :])
        try:
            folder = unpacked(path)
        except UserError:
            refused += 1
            continue
        assert {each.name: each.read_bytes() for each in folder.iterdir()} == wanted
    assert refused > 130


def test_a_card_that_was_changed_in_it(packed, tmp_path):
    contents = entries(packed)
    card = json.loads(contents["model.json"])
    contents["model.json"] = json.dumps({**card, "classes": card["classes"][::-1]}).encode()
    with pytest.raises(UserError, match="changed after it was saved"):
        Predictor(written(tmp_path / "bad.zip", contents.items()))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_what_unpacks_without_a_limit(packed, tmp_path, method):
    with zipfile.ZipFile(tmp_path / "x.zip", "w", method) as archive:
        for name, data in entries(packed).items():
            archive.writestr(name, data)
    with pytest.raises(UserError, match="not safe to unpack") as refused:
        unpacked(tmp_path / "x.zip")
    assert "neither stored nor deflated" in refused.value.received


def test_what_lies_beside_a_model_is_left_in_its_zip(folder, packed, tmp_path):
    beside = {"model/README.md": b"#", "model/LICENSE": b"x", "model/.gitattributes": b"x", "__MACOSX/model/._model.json": b"x"}
    path = written(tmp_path / "whole.zip", [*((f"model/{name}", data) for name, data in entries(packed).items()), *beside.items()])
    images = drawn_images(5, 8, 8)
    np.testing.assert_array_equal(Predictor(path).predict(images), Predictor(folder).predict(images))
    assert {each.name for each in unpacked(path).iterdir()} == set(entries(packed))
