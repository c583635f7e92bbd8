"""Whatever is done to a model directory, it is refused with the reason and exit code 2, and nothing in it is unpickled."""

import json
import os
import pickle
import shutil
import zipfile

import numpy as np
import pytest
from toymodel import write_toy

from frostline.artifact import read_model
from frostline.cli import main
from frostline.errors import UserError
from frostline.files import digest_file, digest_json
from frostline.model_card import FILES, GRAPH_FILES, ONNX, read_card, seen_digests
from frostline.selftest import read_selftest
from frostline.serve.predictor import Predictor

ALL = sorted([*FILES, *GRAPH_FILES, ONNX])
REGIONS = 64


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_toy(tmp_path_factory.mktemp("toy") / "model", seen=[b"x" * 16, b"y" * 16])


@pytest.fixture(scope="module")
def another(tmp_path_factory):
    return write_toy(tmp_path_factory.mktemp("other") / "model", side=9, seen=[b"z" * 16], seed=1)


@pytest.fixture
def folder(written, tmp_path):
    return shutil.copytree(written, tmp_path / "model")


def resign(folder, **changes):
    """Change the card with its own digest, and the digests of the files, as somebody who knows how."""
    values = {**json.loads((folder / "model.json").read_text()), **changes}
    values.pop("digest")
    if "files" not in changes:
        values["files"] = {name: digest_file(folder / name) for name in values["files"]}
    (folder / "model.json").write_text(json.dumps({**values, "digest": digest_json(values)}))


def refused(folder, words):
    with pytest.raises(UserError, match=words) as caught:
        read_model(folder)
    return caught.value


@pytest.mark.parametrize("name", ALL)
def test_each_region_of_each_file(folder, name):
    path = folder / name
    whole = path.read_bytes()
    for at in np.linspace(0, len(whole) - 1, REGIONS).astype(int):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert str(path) in str(refused(folder, "is not the file that this model was saved with"))
    path.write_bytes(whole)
    assert read_model(folder)


def test_each_byte_of_the_card(folder):
    path = folder / "model.json"
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        with pytest.raises(UserError):
            read_card(folder)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.999])
@pytest.mark.parametrize("name", [*ALL, "model.json"])
def test_cut_short(folder, name, share):
    os.truncate(folder / name, int(share * (folder / name).stat().st_size))
    assert str(folder / name) in str(refused(folder, "is not the file|cannot be read"))


@pytest.mark.parametrize("name", [*ALL, "model.json"])
def test_files_of_another_model(folder, another, name):
    same = (folder / name).read_bytes() == (another / name).read_bytes()
    assert same == (name in ("graph.bin", "weights.safetensors"))  # constants that both toys have
    shutil.copyfile(another / name, folder / name)
    if same:
        read_model(folder)
        return
    refused(folder, "is not the file that this model was saved with")


def test_two_files_swapped(folder):
    (folder / "seen.npy").rename(folder / "kept")
    (folder / "selftest.npz").rename(folder / "seen.npy")
    (folder / "kept").rename(folder / "selftest.npz")
    assert "seen.npy" in str(refused(folder, "is not the file"))


@pytest.mark.parametrize("name", [*ALL, "model.json"])
def test_a_link_in_place_of_a_file(folder, tmp_path, name):
    shutil.move(folder / name, tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    assert str(tmp_path / "elsewhere") in refused(folder, "is a link|cannot be read").received


@pytest.mark.parametrize("strange", ["../outside", "/etc/passwd", "a/../../b", "graph.xml/../seen.npy", "", "."])
def test_paths_that_lead_elsewhere(folder, strange):
    files = {name: digest_file(folder / name) for name in ALL}
    resign(folder, files={**files, strange: "0" * 32})
    assert ascii(strange) in refused(folder, "names other files than a model has").received


@pytest.mark.parametrize("extra", ["run.py", "graph2.onnx", "weights.pkl", "pytorch_model.bin", "folder/"])
def test_files_that_are_not_the_models(folder, extra):
    (folder / extra).mkdir() if extra.endswith("/") else (folder / extra).write_bytes(b"x")
    assert extra.rstrip("/") in refused(folder, "holds files that are not the model's").received


@pytest.mark.parametrize("extra", ["README.md", "notes.txt", "LICENSE", ".gitattributes"])
def test_notes_may_lie_beside(folder, extra):
    before = read_model(folder)[0].digest
    (folder / extra).write_text("mine")
    assert read_model(folder)[0].digest == before


@pytest.mark.parametrize("name", ALL)
def test_a_missing_file(folder, name):
    (folder / name).unlink()
    assert refused(folder, "is incomplete").expected == name


def test_a_future_schema_says_how_to_go_on(folder):
    resign(folder, schema=7)
    error = refused(folder, "newer Frostline")
    assert (error.received, error.hint) == ("7", "pip install --upgrade frostline")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 200_000, "RecursionError"),
        ('{"a":' * 100_000, "RecursionError"),
        ('{"schema": 1' + "0" * 5000 + "}", "cannot be read"),
        ('{"temperature": NaN}', "NaN is not JSON"),
        ("\ufeff{}", "cannot be read"),
        ("\0" * 100, "cannot be read"),
    ],
)
def test_json_that_is_meant_to_hurt(folder, text, words):
    (folder / "model.json").write_text(text)
    error = refused(folder, "cannot be read")
    assert words in str(error)


def test_a_card_of_gigabytes_is_not_read(folder):
    os.truncate(folder / "model.json", 1 << 33)  # sparse: it takes no place
    assert "more than any card has" in refused(folder, "cannot be read").received


@pytest.mark.parametrize(
    "change",
    [
        {"classes": "red"},
        {"classes": []},
        {"classes": ["red", "red", "blue"]},
        {"temperature": 0},
        {"temperature": -1.0},
        {"views": 3},
        {"precision": "int3"},
        {"preprocess": {}},
        {"schema": None},
    ],
)
def test_values_that_no_model_has(folder, change):
    resign(folder, **change)
    assert str(folder / "model.json") in str(refused(folder, "cannot be read"))


class Boom:
    """Leaves a trace where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("name", ["seen.npy", "selftest.npz"])
@pytest.mark.parametrize("how", ["object array", "bare pickle"])
def test_pickles_are_never_unpickled(folder, tmp_path, name, how):
    trace = str(tmp_path / "trace")
    if how == "bare pickle":
        (folder / name).write_bytes(pickle.dumps(Boom(trace)))
    elif name == "seen.npy":
        np.save(folder / name, np.array([Boom(trace)], object), allow_pickle=True)
    else:
        np.savez(folder / name, images=np.array([Boom(trace)], object), probabilities=np.zeros(1, np.float32))
    resign(folder)
    read = seen_digests if name == "seen.npy" else read_selftest
    with pytest.raises(UserError, match=r"is no (list of digests|self-test)"):
        read(folder)
    if name == "selftest.npz":
        with pytest.raises(UserError, match="is no self-test"):
            Predictor(folder)
    assert not os.path.exists(trace)  # noqa: PTH110


@pytest.mark.parametrize(
    "arrays",
    [
        {"images": np.zeros((10, 8, 8, 3), np.uint8)},
        {"images": np.zeros((10, 8, 8, 3)), "probabilities": np.zeros((10, 3), np.float32)},
        {"images": np.zeros((9, 8, 8, 3), np.uint8), "probabilities": np.zeros((10, 3), np.float32)},
        {"images": np.zeros((1 << 14, 1 << 14), np.uint8), "probabilities": np.zeros((10, 3), np.float32)},
    ],
)
def test_a_self_test_that_is_none(folder, arrays):
    np.savez_compressed(folder / "selftest.npz", **arrays)
    with pytest.raises(UserError, match="is no self-test"):
        read_selftest(folder)


def test_probabilities_of_other_classes_fail_the_self_test(folder):
    images, _ = read_selftest(folder)
    np.savez(folder / "selftest.npz", images=images, probabilities=np.full((10, 2), 0.5, np.float32))
    resign(folder)
    with pytest.raises(UserError, match="does not pass its self-test"):
        Predictor(folder)


def test_a_graph_that_is_none(folder):
    (folder / "graph.xml").write_text("<net/>")
    resign(folder)
    assert str(folder / "graph.xml") in str(refused(folder, "cannot be read"))


def test_a_graph_without_probabilities(folder):
    text = (folder / "graph.xml").read_text()
    (folder / "graph.xml").write_text(text.replace('"probabilities"', '"others"'))
    resign(folder)
    assert "probabilities nothing" in refused(folder, "not of the model that its card describes").received


def test_a_graph_of_other_images_or_classes(folder):
    card = json.loads((folder / "model.json").read_text())
    resign(folder, preprocess={**card["preprocess"], "stored": [50_000, 50_000]})
    assert "images [?,8,8,3]" in refused(folder, "not of the model that its card describes").received
    resign(folder, preprocess=card["preprocess"], classes=["red", "green"])
    assert "probabilities [?,3]" in refused(folder, "not of the model that its card describes").received


@pytest.mark.parametrize("name", ["graph.bin", "model.json"])
def test_the_program_exits_with_2_and_says_why(folder, name, monkeypatch, capsys, tmp_path):
    (folder / name).write_bytes(b"{}")
    monkeypatch.setattr("sys.argv", ["frostline", "predict", str(tmp_path), "--model", str(folder)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert name in said
    assert "Traceback" not in said


@pytest.mark.parametrize("shape", [(0, 8, 8, 3), (2, 9, 9, 3)])
def test_a_self_test_of_no_images_or_of_others(folder, shape):
    np.savez(folder / "selftest.npz", images=np.zeros(shape, np.uint8), probabilities=np.zeros((shape[0], 3), np.float32))
    resign(folder)
    with pytest.raises(UserError, match="self-test"):
        Predictor(folder)


def test_a_self_test_whose_packing_is_broken(folder):
    path = folder / "selftest.npz"
    with np.load(path) as held:
        np.savez_compressed(path, **{name: held[name] for name in held.files})
    with zipfile.ZipFile(path) as packed:
        entry = packed.infolist()[0]
        begins = entry.header_offset + 30 + len(entry.filename)
    data = bytearray(path.read_bytes())
    data[begins : begins + 40] = b"\xff" * 40
    path.write_bytes(data)
    resign(folder)
    with pytest.raises(UserError, match="is no self-test"):
        Predictor(folder)


def test_digests_that_begin_as_a_zip(folder):
    (folder / "seen.npy").write_bytes(b"PK\3\4 and then nothing")
    with pytest.raises(UserError, match="no list of digests"):
        seen_digests(folder)
