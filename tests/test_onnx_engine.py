"""A model with an ONNX graph predicts where OpenVINO cannot be imported; without one it says what to install."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from toymodel import SHARPNESS, probabilities, write_toy

from frostline.artifact import read_model
from frostline.drawn import drawn_images
from frostline.errors import UserError
from frostline.files import digest_file, digest_json
from frostline.onnx_engine import OnnxRunner
from frostline.serve.predictor import Predictor

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def write_onnx(path, side=8):
    """The toy's graph as ONNX: features (N, 1, 3) are the means of the channels."""
    from onnx import TensorProto, helper, numpy_helper

    def constant(name, value):
        return numpy_helper.from_array(np.asarray(value), name)

    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["floats", "scale"], ["scaled"]),
        helper.make_node("ReduceMean", ["scaled", "sides"], ["means"], keepdims=0),
        helper.make_node("Unsqueeze", ["means", "view"], ["features"]),
        helper.make_node("ReduceMean", ["features", "view"], ["averaged"], keepdims=0),
        helper.make_node("Mul", ["averaged", "sharpness"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", side, side, 3])],
        [
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 3]),
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", 1, 3]),
        ],
        [
            constant("scale", np.float32(1 / 255)),
            constant("sides", np.array([1, 2], np.int64)),
            constant("view", np.array([1], np.int64)),
            constant("sharpness", np.float32(SHARPNESS)),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 10
    onnx.save(model, path)
    return path


def with_onnx(folder):
    write_onnx(folder / "graph.onnx")
    values = json.loads((folder / "model.json").read_text())
    values.pop("digest")
    values["files"]["graph.onnx"] = digest_file(folder / "graph.onnx")
    (folder / "model.json").write_text(json.dumps({**values, "digest": digest_json(values)}))
    return folder


def without_onnx(folder):
    """As models were saved before they held this graph."""
    (folder / "graph.onnx").unlink()
    values = json.loads((folder / "model.json").read_text())
    values.pop("digest")
    values["files"].pop("graph.onnx")
    (folder / "model.json").write_text(json.dumps({**values, "digest": digest_json(values)}))
    return folder


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return without_onnx(write_toy(tmp_path_factory.mktemp("plain") / "model"))


def test_a_model_is_saved_with_the_graph(tmp_path, no_openvino):
    found = Predictor(shutil.copytree(write_toy(tmp_path / "toy"), tmp_path / "elsewhere"))
    images = drawn_images(3, 8, 8)
    assert found._compiled.how["engine"].startswith("onnxruntime")
    np.testing.assert_allclose(found.predict(images), probabilities(images), atol=1e-5)


@pytest.fixture(scope="module")
def both(plain, tmp_path_factory):
    return with_onnx(shutil.copytree(plain, tmp_path_factory.mktemp("both") / "model"))


@pytest.fixture
def no_openvino(monkeypatch):
    monkeypatch.setattr("frostline.vino.available", False)


def test_openvino_is_preferred(both, capsys):
    assert read_model(both)[1] is not None
    assert Predictor(both)._compiled.how["engine"].startswith("openvino")
    assert capsys.readouterr().err == ""


def test_without_openvino_the_onnx_graph_gives_the_same(both, no_openvino, capsys):
    images = drawn_images(21, 8, 8)
    found = Predictor(both, batch=4)
    assert "ONNX Runtime runs this model" in capsys.readouterr().err
    assert (found.precision, found._compiled.how["engine"].split()[0]) == ("f32", "onnxruntime")
    np.testing.assert_allclose(found.predict(images), probabilities(images), atol=1e-5)
    blocks = list(found.features([images[:4], images[4:6]]))
    assert [block.shape for block in blocks] == [(4, 1, 3), (2, 1, 3)]
    np.testing.assert_allclose(np.concatenate(blocks)[:, 0], images[:6].mean((1, 2)) / 255, atol=1e-5)


def test_without_either_it_says_what_to_install(plain, both, no_openvino, monkeypatch):
    with pytest.raises(UserError, match=r"has no graph\.onnx") as caught:
        Predictor(plain)
    assert "pip install openvino" in caught.value.hint
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match="Neither OpenVINO nor ONNX Runtime") as caught:
        Predictor(both)
    assert "frostline[onnx]" in caught.value.hint


def test_a_changed_onnx_graph_is_refused(both, tmp_path, no_openvino):
    copy = shutil.copytree(both, tmp_path / "model")
    with open(copy / "graph.onnx", "ab") as stream:
        stream.write(b"\0")
    with pytest.raises(UserError, match=r"graph\.onnx is not the file"):
        Predictor(copy)


def test_another_onnx_graph_fails_the_self_test(both, tmp_path, no_openvino, monkeypatch):
    copy = shutil.copytree(both, tmp_path / "model")
    monkeypatch.setattr(f"{__name__}.SHARPNESS", 7.0)
    with_onnx(copy)
    with pytest.raises(UserError, match="self-test"):
        Predictor(copy)


@pytest.mark.parametrize("data", [b"", b"text", b"\x08\x0a"])
def test_what_is_no_graph(tmp_path, data):
    (tmp_path / "graph.onnx").write_bytes(data)
    with pytest.raises(UserError, match=r"cannot run|no classifier's graph"):
        OnnxRunner(tmp_path / "graph.onnx", 4)


def test_in_a_process_without_openvino(both, tmp_path):
    """Nothing on the way to a prediction imports it, nor torch."""
    code = (
        "import sys; sys.modules['openvino'] = None; from frostline.serve.predictor import load_model; import numpy as np;"
        f"p = load_model({str(both)!r}); red = np.full((8, 8, 3), [250, 0, 0], np.uint8);"
        "print(p.predict(red).argmax(), 'torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout.split()) == (0, ["0", "False"]), ran.stderr
