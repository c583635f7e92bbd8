"""Anyone's ONNX network becomes a model: the same answers as by ONNX Runtime, and nothing is taken from hostile files."""

import json
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from drawing import tinted_folders
from onnx import TensorProto, helper, numpy_helper

from frostline.cli import main
from frostline.compare import table
from frostline.drawn import drawn_images
from frostline.errors import UserError
from frostline.explaining.gradcam import GradCam
from frostline.imports.graph import PRESETS, framing, read_preprocess, read_size
from frostline.imports.importing import import_onnx, read_classes, size_of
from frostline.imports.onnx_reading import read_onnx
from frostline.judge import evaluate
from frostline.model_card import read_card
from frostline.preprocess import Preprocess, enlargement
from frostline.reporting.write import report
from frostline.runs import Run
from frostline.serve.predictor import Predictor

SIDE = 12
CLASSES = ["a", "b", "c"]


def tensor(name, shape, seed):
    values = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return numpy_helper.from_array(values, name)


def network(layout="nchw", ending="logits", batch="batch", inputs=1, extra=(), outputs=1):
    """A convolution, ReLU, the mean over the picture and a linear layer, as an ONNX model."""
    nodes = []
    start = "input"
    if layout == "nhwc":
        nodes.append(helper.make_node("Transpose", ["input"], ["turned"], perm=[0, 3, 1, 2]))
        start = "turned"
    nodes += [
        helper.make_node("Conv", [start, "filters", "shifts"], ["conv"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["conv"], ["map"]),
        helper.make_node("GlobalAveragePool", ["map"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight", "bias"], ["logits"], transB=1),
        *extra,
    ]
    endings = {"probabilities": "Softmax", "sigmoid": "Sigmoid"}
    if ending in endings:
        nodes.append(helper.make_node(endings[ending], ["logits"], [ending]))
    shape = [batch, 3, SIDE, SIDE] if layout == "nchw" else [batch, SIDE, SIDE, 3]
    taken = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("input", "second")[:inputs]]
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, 3]) for name in (ending, "logits")[:outputs]]
    held = [tensor("filters", (4, 3, 3, 3), 0), tensor("shifts", (4,), 1), tensor("weight", (3, 4), 2), tensor("bias", (3,), 3)]
    graph = helper.make_graph(nodes, "net", taken, given, held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="somebody")


def written(model, folder):
    path = folder / "net.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def frame(preset="imagenet", **values):
    return framing((SIDE, SIDE), read_preprocess(preset, "squash"), **values)


def by_runtime(path, images, preset, layout="nchw", softmax=True):
    given = PRESETS[preset]
    x = (images / 255 - np.array(given["mean"])) / np.array(given["std"])
    x = x[..., ::-1] if given.get("channels") == "bgr" else x
    x = x.transpose(0, 3, 1, 2) if layout == "nchw" else x
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: np.ascontiguousarray(x, np.float32)})[0]
    odds = np.exp(found - found.max(1, keepdims=True))
    return odds / odds.sum(1, keepdims=True) if softmax else found


@pytest.mark.parametrize(
    ("preset", "layout", "ending"), [*((name, "nchw", "logits") for name in sorted(PRESETS)), ("caffe", "nhwc", "probabilities")]
)
def test_the_same_answers_as_by_onnx_runtime(preset, layout, ending, tmp_path):
    path = written(network(layout, ending), tmp_path)
    model = import_onnx(path, CLASSES, frame(preset), tmp_path / "model", licence="mit")
    predictor = Predictor(model)
    images = drawn_images(5, SIDE, SIDE)
    wanted = by_runtime(path, images, preset, layout, softmax=ending == "logits")
    np.testing.assert_allclose(predictor.predict(images), wanted, atol=1e-4)
    told = predictor.card.values["architecture"]
    assert told["framing"]["layout"] == layout
    assert told["framing"]["gives"] == ending
    assert (told["kind"], told["producer"], told["parameters"], told["features"]) == ("imported", "somebody", 127, 4)
    assert predictor.card.licences["weights"] == "mit"
    assert {name for port in predictor.graph.outputs for name in port.get_names()} >= {"probabilities", "features", "map"}
    assert next(predictor.features([images])).shape == (5, 1, 4)


def test_a_network_that_torch_has_exported(tmp_path):
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, 2, 1), torch.nn.BatchNorm2d(8), torch.nn.SiLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
        torch.nn.Linear(8, 3),
    ).eval()  # fmt: skip
    path = tmp_path / "torch.onnx"
    program = torch.export.export(net, (torch.zeros(2, 3, SIDE, SIDE),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    with torch.no_grad():
        saved(net, program, path)
    predictor = Predictor(import_onnx(path, CLASSES, frame(), tmp_path / "model"))
    images = drawn_images(5, SIDE, SIDE)
    np.testing.assert_allclose(predictor.predict(images), by_runtime(path, images, "imagenet"), atol=1e-4)


def saved(net, program, path):
    """By torch's older exporter: the newer one needs a package that we do not."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch speaks of its newer exporter
        torch.onnx.export(
            net, (torch.zeros(2, 3, SIDE, SIDE),), str(path), dynamo=False, dynamic_axes={"x": {0: "b"}}, input_names=["x"]
        )


def test_a_model_of_ours_goes_out_and_comes_back(tmp_path):
    """The inner network of an export is somebody's ONNX network too, but for its uint8 input."""
    path = written(network(), tmp_path)
    first = import_onnx(path, CLASSES, frame(), tmp_path / "first")
    from frostline.exports.exporting import export

    place, record = export(first, "onnx", tmp_path / "again.onnx")
    assert record["parity"]["worst"] < 1e-4
    with pytest.raises(UserError, match="does not take images") as caught:
        import_onnx(place, CLASSES, frame(), tmp_path / "second", output_name="probabilities")
    assert caught.value.received.startswith("u8")


# what an imported model is good for


def test_it_is_judged_compared_and_reported_on(tmp_path, monkeypatch, capsys):
    data = tinted_folders(tmp_path / "data", CLASSES, 4)
    path = written(network(), tmp_path)
    folder = import_onnx(path, CLASSES, frame(), tmp_path / "run", data=data)
    assert "not known" in capsys.readouterr().err
    run = Run.open(tmp_path / "run")
    predictions, scores = evaluate(folder, data)
    assert scores["seen_in_training"] is None
    np.testing.assert_array_equal(predictions.probabilities, run.predictions("test").probabilities)
    (row,) = table([run])
    assert (row["n"], row["accuracy"]) == (12, scores["accuracy"])
    files = report([tmp_path / "run"], tmp_path / "report")
    assert "imported" in files[1].read_text()


def test_images_of_classes_that_it_does_not_know_count_as_mistakes_if_asked(tmp_path):
    data = tinted_folders(tmp_path / "data", [*CLASSES, "d"], 3)
    path = written(network(), tmp_path)
    with pytest.raises(UserError, match="does not know: d"):
        import_onnx(path, CLASSES, frame(), tmp_path / "run", data=data)
    import_onnx(path, CLASSES, frame(), tmp_path / "other", data=data, unknown_as_wrong=True)
    assert Run.open(tmp_path / "other").scores("test")["unknown"] == 3
    report([tmp_path / "other"], tmp_path / "report")
    text = (tmp_path / "report" / "report.md").read_text()
    assert "How an imported network was trained is not known here" in text
    assert "older than the record of its layers" not in text
    assert "0 trained" not in text


def test_nothing_passes_for_unseen(tmp_path):
    model = import_onnx(written(network(), tmp_path), CLASSES, frame(), tmp_path / "model")
    assert not read_card(model).knows_seen


def test_weights_lie_beside_by_name(tmp_path):
    from safetensors.numpy import load_file

    model = import_onnx(written(network(), tmp_path), CLASSES, frame(), tmp_path / "model")
    weights = load_file(model / "weights.safetensors")
    assert set(weights) == {"filters", "shifts", "weight", "bias"}


def test_one_of_several_outputs(tmp_path):
    path = written(network(ending="probabilities", outputs=2), tmp_path)
    with pytest.raises(UserError, match="has 2 outputs") as caught:
        import_onnx(path, CLASSES, frame(), tmp_path / "model")
    assert "--output-name" in caught.value.hint
    model = import_onnx(path, CLASSES, frame(), tmp_path / "model", output_name="logits")
    assert read_card(model).values["architecture"]["framing"]["gives"] == "logits"


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_its_map_has_channels_first_and_explains(layout, tmp_path):
    model = network(layout)
    if layout == "nhwc":  # the map itself with its channels last, as Keras' exports have it
        for node in model.graph.node:
            if node.op_type == "GlobalAveragePool":
                node.op_type = "ReduceMean"
                node.attribute.extend([helper.make_attribute("axes", [1, 2]), helper.make_attribute("keepdims", 1)])
        place = next(i for i, node in enumerate(model.graph.node) if node.op_type == "Relu")
        model.graph.node[place].input[0] = "last"
        model.graph.node.insert(place, helper.make_node("Transpose", ["conv"], ["last"], perm=[0, 2, 3, 1]))
    predictor = Predictor(import_onnx(written(model, tmp_path), CLASSES, frame(), tmp_path / "model"))
    assert list(predictor.graph.output("map").get_partial_shape())[1:] == [4, SIDE, SIDE]
    values, gradient = GradCam(predictor.graph).map_and_gradient(drawn_images(1, SIDE, SIDE)[0], 1)
    assert values.shape == gradient.shape
    # the mean over the picture, then a linear layer: every pixel of a channel has the same gradient
    assert np.abs(gradient).max() > 0
    np.testing.assert_allclose(gradient, gradient.mean((-2, -1), keepdims=True) + 0 * gradient, rtol=1e-4)


# what is refused


def outside(place):
    model = network()
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=place)
    return model


REFUSED = {
    "two inputs": (lambda: network(inputs=2), {}, "takes 2 inputs"),
    "images that mix": (lambda: _that_mixes(), {}, "otherwise for several images"),
    "another size": (network, {"size": (16, 16)}, "another size"),
    "other classes": (network, {"classes": ["a", "b"]}, "one number a class"),
    "no probabilities": (network, {"gives": "probabilities"}, "does not give probabilities"),
    "sigmoids": (lambda: network(ending="sigmoid"), {}, "each class by itself"),
    "the other layout": (network, {"layout": "nhwc"}, "no images of three channels"),
    "operators of its own": (lambda: _with_domain(), {}, "not ONNX' own"),
    "operators of its own within a graph": (lambda: _with_domain_within(), {}, "not ONNX' own"),
    "an unknown operator": (lambda: network(extra=[helper.make_node("Wonder", ["logits"], ["x"])]), {}, "no ONNX network"),
    "weights by an absolute path": (lambda: outside("/etc/passwd"), {}, "not taken from"),
    "weights above": (lambda: outside("../weights.bin"), {}, "not taken from"),
    "weights that are missing": (lambda: outside("none.bin"), {}, "not taken from"),
    "terabytes": (lambda: _that_asks_for_terabytes(), {}, "too much memory|no ONNX network"),
    "no output": (network, {"output_name": "none"}, "has no output"),
}


def _with_domain():
    model = network()
    model.graph.node[1].domain = "com.somebody"
    return model


def _with_domain_within():
    """A branch of an If has the strange operator."""
    model = network()
    inner = [helper.make_node("Gelu", ["logits"], ["chosen"], domain="com.somebody")]
    branch = helper.make_graph(inner, "branch", [], [helper.make_tensor_value_info("chosen", TensorProto.FLOAT, None)])
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    model.graph.node.append(helper.make_node("If", ["yes"], ["x"], then_branch=branch, else_branch=branch))
    model.opset_import.append(helper.make_opsetid("com.somebody", 1))
    return model


def _with_fixed_reshape():
    model = network(batch=1)
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 4]), "shape"))
    del model.graph.node[3]
    model.graph.node.insert(3, helper.make_node("Reshape", ["pooled", "shape"], ["flat"]))
    return model


def _that_asks_for_terabytes():
    model = network()
    model.graph.initializer.append(numpy_helper.from_array(np.array([1_000_000, 1_000_000]), "huge"))
    fill = helper.make_tensor("value", TensorProto.FLOAT, [1], [0.0])
    model.graph.node.append(helper.make_node("ConstantOfShape", ["huge"], ["zeros"], value=fill))
    model.graph.node.append(helper.make_node("ReduceMax", ["zeros"], ["zero"], keepdims=0))
    model.graph.node.append(helper.make_node("Add", ["logits", "zero"], ["sum"]))
    model.graph.output[0].name = "sum"
    return model


def _that_mixes():
    """Takes the mean over the batch away, as BatchNorm in training does."""
    model = network()
    model.graph.node.append(helper.make_node("ReduceMean", ["logits"], ["mean"], axes=[0]))
    model.graph.node.append(helper.make_node("Sub", ["logits", "mean"], ["mixed"]))
    model.graph.output[0].name = "mixed"
    return model


def test_a_network_saved_for_one_image_takes_several(tmp_path):
    path = written(_with_fixed_reshape(), tmp_path)
    predictor = Predictor(import_onnx(path, CLASSES, frame(), tmp_path / "model"))
    images = drawn_images(5, SIDE, SIDE)
    wanted = np.concatenate([by_runtime(path, images[i : i + 1], "imagenet") for i in range(5)])
    np.testing.assert_allclose(predictor.predict(images), wanted, atol=1e-4)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name, tmp_path):
    make, given, told = REFUSED[name]
    path = written(make(), tmp_path)
    given = dict(given)
    options = {key: given.pop(key) for key in ("output_name",) if key in given}
    classes, size = given.pop("classes", CLASSES), given.pop("size", (SIDE, SIDE))
    with pytest.raises(UserError, match=told):
        import_onnx(path, classes, framing(size, read_preprocess("imagenet", "squash"), **given), tmp_path / "model", **options)
    assert [entry.name for entry in tmp_path.iterdir()] == ["net.onnx"]


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "secret.bin").write_bytes(b"\0" * 432)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "weights.bin").symlink_to(tmp_path / "secret.bin")
    with pytest.raises(UserError, match="not taken from"):
        read_onnx(written(outside("weights.bin"), tmp_path / "in"))


def test_weights_in_the_same_folder_are_taken(tmp_path):
    model = network()
    values = numpy_helper.to_array(model.graph.initializer[0])
    (tmp_path / "weights.bin").write_bytes(values.tobytes())
    path = written(outside("weights.bin"), tmp_path)
    found = read_onnx(path)
    np.testing.assert_array_equal(found.weights["filters"], values)


@pytest.mark.parametrize("content", [b"", b"no network", b"\x08\x08" + b"\xff" * 40, None])
def test_what_is_no_onnx_file(content, tmp_path):
    path = tmp_path / "net.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match="no ONNX"):
        read_onnx(path)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.99])
def test_a_truncated_file(kept, tmp_path):
    whole = network().SerializeToString()
    (tmp_path / "net.onnx").write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(UserError, match="no ONNX"):
        read_onnx(tmp_path / "net.onnx")


def test_what_is_there_is_kept(tmp_path):
    (tmp_path / "model").mkdir()
    with pytest.raises(UserError, match="is there already"):
        import_onnx(written(network(), tmp_path), CLASSES, frame(), tmp_path / "model")


# the words of the command


def test_sizes():
    assert (read_size("224"), read_size("224x192"), read_size("20×30")) == ((224, 224), (224, 192), (20, 30))
    for wrong in ("", "0", "-3", "10x20x30", "big", "1e9", "99999"):
        with pytest.raises(UserError, match="no size"):
            read_size(wrong)


def test_preprocessing_from_json_and_files(tmp_path):
    values = {"mean": [0.1, 0.2, 0.3], "std": [1, 1, 1], "channels": "bgr", "fit": "crop", "crop": 0.875}
    (tmp_path / "p.json").write_text(json.dumps(values))
    for given in (json.dumps(values), str(tmp_path / "p.json")):
        found = framing((8, 8), read_preprocess(given, "squash"))
        assert found.channels == "bgr"
        assert (found.preprocess.fit, found.preprocess.crop, found.preprocess.mean) == ("crop", 0.875, (0.1, 0.2, 0.3))
    for wrong in ("nothing", "{", "[1]", str(tmp_path)):
        with pytest.raises(UserError, match=r"no such preprocessing|no preprocessing"):
            read_preprocess(wrong, "squash")
    for wrong in ({"mean": [0, 0]}, {"std": [0, 0, 0]}, {"sdt": [1, 1, 1]}, {"channels": "hsv"}):
        with pytest.raises(UserError):
            framing((8, 8), wrong)


def test_the_size_is_the_networks_own(tmp_path, capsys):
    for layout in ("nchw", "nhwc"):
        assert size_of(written(network(layout), tmp_path), {}, "auto") == (SIDE, SIDE)
    assert size_of(written(network(), tmp_path), read_preprocess('{"size": [8, 9]}', "squash"), "auto") == (8, 9)
    assert size_of(written(network(), tmp_path), read_preprocess('{"size": 8}', "squash"), "auto") == (8, 8)
    free = network()
    for axis in (2, 3):
        free.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = f"side{axis}"
    assert size_of(written(free, tmp_path), {}, "auto") == (224, 224)
    assert "224×224 is assumed" in capsys.readouterr().err


def test_the_preprocessing_of_another_model_is_taken_as_it_is(tmp_path):
    said = Preprocess(size=(SIDE, SIDE), stored=(8, 8), mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6)).as_dict()
    assert framing((SIDE, SIDE), read_preprocess(json.dumps(said), "squash")).preprocess.as_dict() == said
    with pytest.raises(UserError, match="Two sizes"):
        framing((SIDE + 1, SIDE), read_preprocess(json.dumps(said), "squash"))
    model = import_onnx(written(network(), tmp_path), CLASSES, framing((SIDE, SIDE), said), tmp_path / "model")
    assert Predictor(model).predict(drawn_images(2, 8, 8)).shape == (2, 3)


def test_classes_from_text_and_files(tmp_path):
    (tmp_path / "names.txt").write_text("a\nb c\n\nd\n")
    (tmp_path / "names.json").write_text('["a", "b c", "d"]')
    assert read_classes("a, b c,d") == read_classes(str(tmp_path / "names.txt")) == read_classes(str(tmp_path / "names.json"))
    for wrong in ("", "a,a", ","):
        with pytest.raises(UserError, match="different names"):
            read_classes(wrong)


def test_the_shortest_command(tmp_path, monkeypatch):
    written(network(), tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["frostline", "import", "net.onnx", "--classes", "a,b,c", "--preprocess", "unit"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert read_card(tmp_path / "net").values["preprocess"]["size"] == [SIDE, SIDE]


def test_the_command(tmp_path, monkeypatch, capsys):
    path = written(network(), tmp_path)
    arguments = [
        "import",
        str(path),
        "--classes",
        "a,b,c",
        "--size",
        str(SIDE),
        "--preprocess",
        "caffe",
        "--out",
        str(tmp_path / "m"),
    ]
    monkeypatch.setattr(sys, "argv", ["frostline", *arguments])
    for code in (0, 2):  # the second time something is there
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == code
    assert "127 weights, 3 classes" in capsys.readouterr().err
    assert read_card(tmp_path / "m").values["architecture"]["framing"]["channels"] == "bgr"
    assert onnx.load(tmp_path / "m" / "graph.onnx").graph.output[0].name == "probabilities"


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_images_that_are_kept_small_are_enlarged_inside(tmp_path, layout):
    said = {**PRESETS["caffe"], "stored": (8, 7), "size": (SIDE, SIDE)}
    path = written(network(layout), tmp_path)
    model = import_onnx(path, CLASSES, framing((SIDE, SIDE), said), tmp_path / "model")
    images = drawn_images(3, 8, 7).astype(np.float64)
    rows, columns = enlargement(8, SIDE, "bicubic"), enlargement(7, SIDE, "bicubic")
    large = np.einsum("ah,nhwc,bw->nabc", rows, images, columns)
    wanted = by_runtime(path, large, "caffe", layout)
    np.testing.assert_allclose(Predictor(model).predict(images.astype(np.uint8)), wanted, atol=1e-4)


def test_names_of_classes_from_other_editors(tmp_path):
    (tmp_path / "names.txt").write_bytes(b"\xef\xbb\xbfcat\ndog\n")
    assert read_classes(str(tmp_path / "names.txt")) == ["cat", "dog"]
    (tmp_path / "names.txt").write_bytes("Bär\nHund\n".encode("latin-1"))
    with pytest.raises(UserError, match="not UTF-8"):
        read_classes(str(tmp_path / "names.txt"))
