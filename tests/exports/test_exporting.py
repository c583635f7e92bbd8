"""Every form of an export answers as the model does; what fails leaves nothing behind and what was there in place."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from drawing import tinted_folders
from toymodel import probabilities, write_toy

from frostline.cli import main
from frostline.drawn import drawn_images
from frostline.errors import UserError
from frostline.exports import forms
from frostline.exports.exporting import FORMS, RECORD, export
from frostline.exports.parity import HeldBack, check, compared
from frostline.inside import MODEL
from frostline.serve.predictor import Predictor
from frostline.vino import ov


@pytest.fixture
def toy(tmp_path):
    return write_toy(tmp_path / "toy")


@pytest.mark.parametrize("to", ["onnx", "openvino", "zip"])
def test_a_form_without_torch(to, toy, tmp_path):
    place, record = export(toy, to, tmp_path / "out")
    beside = place / RECORD if place.is_dir() else tmp_path / "out.json"
    assert json.loads(beside.read_text()) == record
    assert record["parity"]["worst"] <= record["parity"]["tolerance"] == 1e-4
    assert (record["parity"]["images"], record["parity"]["n"], record["parity"]["same_winner"]) == ("64 drawn images", 64, 1.0)
    assert record["classes"] == ["red", "green", "blue"]
    assert record["model_digest"] == Predictor(toy).card.digest
    expected = {"out", "toy"} if place.is_dir() else {"out", "out.json", "toy"}
    assert {path.name for path in tmp_path.iterdir()} == expected


def test_onnx_says_what_it_takes_and_gives(toy, tmp_path):
    import onnxruntime

    place, _ = export(toy, "onnx", tmp_path / "toy.onnx")
    told = {entry.key: entry.value for entry in onnx.load(place).metadata_props}
    assert json.loads(told["classes"]) == ["red", "green", "blue"]
    assert json.loads(told["preprocess"])["stored"] == [8, 8]
    assert json.loads(told["input"]) == {"images": ["batch", 8, 8, 3], "type": "uint8", "channels": "RGB"}
    images = drawn_images(5, 8, 8)
    session = onnxruntime.InferenceSession(place, providers=["CPUExecutionProvider"])
    for n in (1, 5):
        np.testing.assert_allclose(session.run(["probabilities"], {"images": images[:n]})[0], probabilities(images[:n]), atol=1e-5)


def test_openvino_carries_labels_and_preprocessing(toy, tmp_path):
    place, _ = export(toy, "openvino", tmp_path / "ir")
    assert sorted(path.name for path in place.iterdir()) == [RECORD, "graph.bin", "graph.xml", "labels.txt"]
    assert (place / "labels.txt").read_text() == "red\ngreen\nblue\n"
    graph = ov.Core().read_model(place / "graph.xml")
    assert graph.get_rt_info(["model_info", "labels"]).astype(str) == "red green blue"
    assert json.loads(graph.get_rt_info(["frostline", "preprocess"]).astype(str))["fit"] == "squash"


def test_a_packed_model_is_a_model(toy, tmp_path):
    place, _ = export(toy, "zip", tmp_path / "toy.zip")
    images = drawn_images(3, 8, 8)
    np.testing.assert_array_equal(Predictor(place).predict(images), Predictor(toy).predict(images))


@pytest.mark.slow
def test_the_torch_program_of_the_classifier_inside_loads_without_frostline(tmp_path):
    place, record = export(MODEL, "torch", tmp_path / "inside.pt2")
    assert record["parity"]["worst"] < 1e-4
    images = drawn_images(3, 32, 32)
    np.save(tmp_path / "images.npy", images)
    code = (
        "import sys; sys.modules['frostline'] = None\n"
        "import numpy as np, torch\n"
        f"program = torch.export.load({str(place)!r}).module()\n"
        f"np.save({str(tmp_path / 'found.npy')!r}, program(torch.from_numpy(np.load({str(tmp_path / 'images.npy')!r}))).numpy())"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), Predictor(MODEL, "f32").predict(images), atol=1e-4)


def test_held_back_images_of_data(toy, tmp_path):
    data = tinted_folders(tmp_path / "data", ["red", "green", "blue"], 4)
    _, record = export(toy, "onnx", tmp_path / "toy.onnx", data=data)
    assert record["parity"]["n"] == 12
    assert record["parity"]["images"].startswith("12 all images of")


def test_training_images_are_not_held_back(toy, tmp_path):
    data = tinted_folders(tmp_path / "data", ["red", "green", "blue"], 4)
    with pytest.raises(UserError, match="not held back"):
        export(toy, "onnx", tmp_path / "toy.onnx", data=data, split="train")
    assert not (tmp_path / "toy.onnx").exists()


# what fails


class TestFailures:
    def test_an_export_that_differs_is_not_kept(self, toy, tmp_path, monkeypatch):
        export(toy, "onnx", tmp_path / "toy.onnx")
        before = (tmp_path / "toy.onnx").read_bytes()

        def wrong(predictor, path):
            path.write_bytes(b"something else")
            return lambda images: np.roll(probabilities(images), 1, axis=1)

        monkeypatch.setitem(FORMS, "onnx", FORMS["onnx"].__class__(".onnx", wrong, "wrong"))
        with pytest.raises(UserError, match="says something else than the model"):
            export(toy, "onnx", tmp_path / "toy.onnx", overwrite=True)
        assert (tmp_path / "toy.onnx").read_bytes() == before
        assert {path.name for path in tmp_path.iterdir()} == {"toy", "toy.onnx", "toy.onnx.json"}

    def test_what_is_there_is_only_replaced_on_request(self, toy, tmp_path):
        export(toy, "openvino", tmp_path / "ir")
        with pytest.raises(UserError, match="is there already") as caught:
            export(toy, "openvino", tmp_path / "ir")
        assert "--overwrite" in caught.value.hint
        export(toy, "openvino", tmp_path / "ir", overwrite=True)

    @pytest.mark.parametrize("kind", ["file", "folder"])
    def test_what_an_export_has_not_made_is_never_replaced(self, kind, toy, tmp_path):
        target = tmp_path / "mine"
        if kind == "folder":
            target.mkdir()
            (target / "photo.jpg").write_text("mine")
        else:
            target.write_text("mine")
        for to in ("onnx", "openvino"):
            with pytest.raises(UserError, match="is there already") as caught:
                export(toy, to, target, overwrite=True)
            assert "not made by an export" in caught.value.hint
        assert (target / "photo.jpg" if kind == "folder" else target).read_text() == "mine"

    def test_a_trained_model_is_never_replaced(self, toy, tmp_path):
        trained = write_toy(tmp_path / "run" / "model")
        for to in ("openvino", "int8"):
            with pytest.raises(UserError, match="is there already"):
                export(toy, to, trained, overwrite=True, data="digits")
        assert (trained / "model.json").is_file()

    def test_an_unknown_form(self, toy):
        with pytest.raises(UserError, match="no such form") as caught:
            export(toy, "onx")
        assert "onnx" in caught.value.hint

    @pytest.mark.parametrize("to", ["torch", "timm", "litert"])
    def test_a_network_that_torch_cannot_build(self, to, toy, tmp_path):
        pytest.importorskip("litert_torch") if to == "litert" else None
        with pytest.raises(UserError, match="torch cannot build"):
            export(toy, to, tmp_path / "out")
        assert [path.name for path in tmp_path.iterdir()] == ["toy"]

    def test_a_missing_package_is_named_with_what_mends_it(self, toy, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        with pytest.raises(UserError, match="needs onnxruntime") as caught:
            export(toy, "onnx", tmp_path / "out")
        assert caught.value.hint == "pip install 'frostline[onnx]'"

    def test_a_model_without_a_graph(self, toy):
        predictor = Predictor(toy)
        predictor.graph = None
        with pytest.raises(UserError, match="has no compiled graph"):
            forms.write_onnx(predictor, toy)


def test_the_comparison_itself():
    wanted = np.array([[0.9, 0.1], [0.2, 0.8]], np.float32)
    held = HeldBack(np.zeros((2, 1, 1, 3), np.uint8), "two images")
    found = compared(wanted, lambda _: np.array([[0.9, 0.1], [0.6, 0.4]], np.float32), held)
    assert (found["n"], found["same_winner"], found["images"]) == (2, 0.5, "two images")
    np.testing.assert_allclose([found["worst"], found["mean"]], [0.4, 0.2], atol=1e-6)
    with pytest.raises(UserError, match=r"says something else"):
        check(found, "f32")
    with pytest.raises(UserError, match=r"says something else"):
        check({**found, "worst": float("nan")}, "f32")
    with pytest.raises(UserError, match="another shape"):
        compared(wanted, lambda _: wanted[:1], held)


def test_the_command(toy, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["frostline", "export", "toy", "--to", "onnx", "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["out"], told["form"]) == ("toy.onnx", "onnx")
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "is there already" in capsys.readouterr().err


def test_a_link_to_an_earlier_export_is_followed(toy, tmp_path):
    export(toy, "openvino", tmp_path / "ir")
    (tmp_path / "ir" / "marker").touch()
    (tmp_path / "link").symlink_to(tmp_path / "ir")
    export(toy, "openvino", tmp_path / "link", overwrite=True)
    assert (tmp_path / "link").is_symlink()
    assert not (tmp_path / "ir" / "marker").exists()
    assert (tmp_path / "ir" / "graph.xml").is_file()
    for number, to in enumerate(("nowhere", "loop-1")):
        (tmp_path / f"loop-{number}").symlink_to(tmp_path / to)
        with pytest.raises(UserError, match="leads nowhere"):
            export(toy, "openvino", tmp_path / f"loop-{number}", overwrite=True)


def test_what_cannot_be_put_in_its_place_leaves_what_was_there(toy, tmp_path, monkeypatch):
    export(toy, "openvino", tmp_path / "ir")
    (tmp_path / "ir" / "marker").touch()
    replace = os.replace

    def refuses(source, target):
        if Path(target) == tmp_path / "ir" and not Path(source).name.endswith(".before"):
            raise PermissionError(13, "open elsewhere")
        replace(source, target)

    monkeypatch.setattr("frostline.exports.exporting.os.replace", refuses)
    with pytest.raises(PermissionError):
        export(toy, "openvino", tmp_path / "ir", overwrite=True)
    assert (tmp_path / "ir" / "marker").exists()
    assert (tmp_path / "ir" / "graph.xml").is_file()
