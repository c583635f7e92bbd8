"""ONNX computes what OpenVINO computes in f32: every operation of the table, tiny networks of every family, whole models."""

import numpy as np
import onnx
import onnxruntime
import pytest
import timm
import torch

from frostline import engine, inside
from frostline.convert import convert_head, convert_network
from frostline.drawn import drawn_images
from frostline.errors import UserError
from frostline.exports.ir import read_layers
from frostline.exports.onnx_graph import to_onnx
from frostline.exports.onnx_rules import RULES
from frostline.exports.onnx_writing import IR_VERSION, OPSET
from frostline.models.backbones import BACKBONES, FeatureNetwork, build
from frostline.models.cnn import NETWORKS, WithMap, make_network
from frostline.models.heads import HEADS, compressed_linear, make_head
from frostline.preprocess import Preprocess
from frostline.vino import ops, ov

OUTPUTS = ("probabilities", "features", "map")


def session(model):
    """ONNX Runtime on a model in memory, or in a file."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    given = model if isinstance(model, str) else model.SerializeToString()
    return onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])


def computed(graph, value):
    """Every output of an OpenVINO graph in f32, by name."""
    compiled = engine.core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled({0: value})
    return {port.get_any_name(): found[port].copy() for port in compiled.outputs}


def assert_same(path, value, tolerance=1e-4):
    graph = engine.read_graph(path)
    wanted = computed(graph, value)
    model = to_onnx(path)
    onnx.checker.check_model(model, full_check=True)
    runner = session(model)
    names = [port.name for port in runner.get_outputs()]
    found = dict(zip(names, runner.run(names, {runner.get_inputs()[0].name: value}), strict=True))
    assert set(names) == set(wanted)
    for name, values in wanted.items():
        scale = max(1.0, float(np.abs(values).max()))
        np.testing.assert_allclose(found[name] / scale, values / scale, atol=tolerance, err_msg=name)


# whole models


def test_the_classifier_inside_with_its_float16_weights():
    images = drawn_images(7, 32, 32)
    assert_same(inside.place() / "graph.xml", images)
    model = to_onnx(inside.place() / "graph.xml")
    assert {tensor.data_type for tensor in model.graph.initializer} >= {onnx.TensorProto.FLOAT16}
    assert [entry.version for entry in model.opset_import] == [OPSET]
    assert model.ir_version == IR_VERSION
    assert [port.name for port in model.graph.output] == list(OUTPUTS)
    (port,) = model.graph.input
    assert port.name == "images"
    assert port.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert port.type.tensor_type.shape.dim[0].dim_param == "batch"


def saved(network, head, preprocess, views, path):
    graph = convert_network(network.eval(), preprocess)
    width = graph.output("features").get_partial_shape()[1].get_length()
    made = convert_head(head(width).eval(), width, 0.7)
    engine.save_graph(engine.join(engine.with_views(graph, views), made), path)
    return path


SMALL = ["cnn-small", "cnn-vgg", "fast-small"]
LARGE = sorted(set(NETWORKS) - set(SMALL))


@pytest.mark.parametrize("name", [*SMALL, *(pytest.param(name, marks=pytest.mark.slow) for name in LARGE)])
def test_networks_from_scratch(name, tmp_path):
    torch.manual_seed(0)
    network = make_network(name, 4, (16, 16))
    preprocess = Preprocess((16, 16), (16, 16), mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    path = saved(WithMap(network.body), lambda _: network.head, preprocess, 2, tmp_path / "graph.xml")
    assert_same(path, drawn_images(3, 16, 16))


FEW = ["test_convnext"]
MORE = ["test_resnet", "test_vit", "test_efficientnet", "test_efficientnet_gn", "test_vit4", "test_byobnet"]


@pytest.mark.parametrize("name", [*FEW, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE)])
def test_tiny_networks_of_many_families(name, tmp_path):
    torch.manual_seed(0)
    sized = {"img_size": 64, "dynamic_img_size": False} if "vit" in name else {}
    network = FeatureNetwork(timm.create_model(name, num_classes=0, **sized))
    path = saved(network, lambda width: torch.nn.Linear(width, 3), Preprocess((64, 64), (24, 24)), 1, tmp_path / "graph.xml")
    assert_same(path, drawn_images(3, 24, 24))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_every_backbone(name, tmp_path):
    torch.manual_seed(0)
    side = BACKBONES[name].arrays if BACKBONES[name].sized else 64
    network = FeatureNetwork(build(name, (side, side)))
    path = saved(network, lambda width: torch.nn.Linear(width, 10), Preprocess((side, side), (32, 32)), 2, tmp_path / "graph.xml")
    assert_same(path, drawn_images(3, 32, 32))


@pytest.mark.parametrize("name", [*HEADS, "power"])
def test_heads(name, tmp_path):
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((12, 5)).astype(np.float32)
    head = compressed_linear(weight, weight[0, :5], 0.75) if name == "power" else make_head(name, 12, 5)
    engine.save_graph(convert_head(head.eval(), 12, 0.6), tmp_path / "head.xml")
    assert_same(tmp_path / "head.xml", rng.standard_normal((4, 2, 12)).astype(np.float32))


# single operations


def whole(*values):
    return ops.constant(np.array(values, np.int64))


def at(value):
    return ops.constant(np.int64(value))


def floats(value):
    return ops.constant(np.asarray(value, np.float32))


FILTERS = floats(np.linspace(-1, 1, 6 * 4 * 9).reshape(4, 6, 3, 3))
GROUPED = floats(np.linspace(-1, 1, 3 * 4 * 2 * 9).reshape(3, 4, 2, 3, 3))
RANGE = [floats(value) for value in (-1.0, 1.5, -1.2, 1.4)]


def tokens(x):
    """(B, 64, 6)."""
    return ops.transpose(ops.reshape(x, whole(0, 6, 64), special_zero=True), whole(0, 2, 1))


#: From what arrives, (B, 6, 8, 8) floats of both signs, to one output.
OPERATIONS = {
    "Abs": lambda x: ops.absolute(x),
    "Add": lambda x: ops.add(x, floats([[[1.0]], [[2.0]], [[3.0]], [[4.0]], [[5.0]], [[6.0]]])),
    "AvgPool with padding": lambda x: ops.avg_pool(x, [2, 2], [1, 1], [1, 0], [3, 3], False),
    "AvgPool without": lambda x: ops.avg_pool(x, [2, 2], [1, 1], [1, 0], [3, 3], True),
    "Broadcast": lambda x: ops.broadcast(
        ops.reduce_mean(x, whole(2, 3), keep_dims=True), ops.shape_of(x), broadcast_spec="BIDIRECTIONAL"
    ),
    "Ceiling": lambda x: ops.ceiling(x),
    "Clamp": lambda x: ops.clamp(x, -0.5, 0.7),
    "Concat": lambda x: ops.concat([x, x], 1),
    "Convert": lambda x: ops.convert(ops.convert(ops.clamp(x, 0.0, 200.0), "i32"), "f32"),
    "Convolution": lambda x: ops.convolution(x, FILTERS, [2, 1], [0, 1], [1, 2], [1, 2]),
    "Convolution, same": lambda x: ops.convolution(x, FILTERS, [2, 2], [0, 0], [0, 0], [1, 1], "same_upper"),
    "Divide": lambda x: ops.divide(x, floats(3.0)),
    "Erf": lambda x: ops.erf(x),
    "Exp": lambda x: ops.exp(x),
    "FakeQuantize": lambda x: ops.fake_quantize(x, *RANGE, 256),
    "Floor": lambda x: ops.floor(x),
    "Gather": lambda x: ops.gather(x, whole(3, 0, 0), at(2)),
    "Gelu": lambda x: ops.gelu(x, "erf"),
    "Gelu by tanh": lambda x: ops.gelu(x, "tanh"),
    "GroupConvolution": lambda x: ops.group_convolution(x, GROUPED, [1, 2], [0, 1], [1, 0], [1, 1]),
    "GroupConvolution of reshaped filters": lambda x: ops.group_convolution(
        x,
        ops.convert(ops.constant(np.linspace(-1, 1, 54, dtype=np.float16).reshape(6, 1, 1, 3, 3)), "f32"),
        [1, 1],
        [1, 1],
        [1, 1],
        [1, 1],
    ),
    "GroupNormalization": lambda x: ops.group_normalization(x, floats([1, 2, 3, 4, 5, 6]), floats([0, 1, 0, 1, 0, 1]), 3, 1e-3),
    "HSwish": lambda x: ops.hswish(x),
    "Log": lambda x: ops.log(ops.exp(x)),
    "LogSoftmax": lambda x: ops.log_softmax(x, 1),
    "MVN": lambda x: ops.mvn(x, whole(2, 3), True, 1e-3, "inside_sqrt"),
    "MVN, epsilon outside": lambda x: ops.mvn(x, whole(1), True, 1e-3, "outside_sqrt"),
    "MVN of the mean alone": lambda x: ops.mvn(x, whole(-1), False, 1e-3, "inside_sqrt"),
    "MatMul": lambda x: ops.matmul(tokens(x), floats(np.linspace(-1, 1, 30).reshape(5, 6)), False, True),
    "MatMul, turned": lambda x: ops.matmul(tokens(x), floats(np.linspace(-1, 1, 64 * 2).reshape(64, 2)), True, False),
    "MaxPool": lambda x: ops.max_pool(x, [2, 2], [1, 1], [1, 1], [0, 1], [3, 3]).output(0),
    "Maximum": lambda x: ops.maximum(x, floats(0.2)),
    "Minimum": lambda x: ops.minimum(x, floats(0.2)),
    "Mish": lambda x: ops.mish(x),
    "Multiply": lambda x: ops.multiply(x, x),
    "Negative": lambda x: ops.negative(x),
    "PReLU": lambda x: ops.prelu(x, floats([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])),
    "Power": lambda x: ops.power(ops.absolute(x), floats(0.75)),
    "ReLU": lambda x: ops.relu(x),
    "Range": lambda x: ops.multiply(x, ops.convert(ops.range(at(0), at(8), at(1), "i32"), "f32")),
    "ReduceL2": lambda x: ops.reduce_l2(x, whole(1), keep_dims=True),
    "ReduceMax": lambda x: ops.reduce_max(x, whole(2, 3), keep_dims=False),
    "ReduceMean": lambda x: ops.reduce_mean(x, whole(1), keep_dims=False),
    "ReduceMin": lambda x: ops.reduce_min(x, whole(2, 3), keep_dims=True),
    "ReduceSum": lambda x: ops.reduce_sum(x, at(2), keep_dims=True),
    "Reshape": lambda x: ops.reshape(x, whole(0, -1, 4), special_zero=True),
    "ScaledDotProductAttention": lambda x: ops.scaled_dot_product_attention(tokens(x), tokens(ops.exp(x)), tokens(x)),
    "ScaledDotProductAttention with a mask and a scale": lambda x: ops.scaled_dot_product_attention(
        tokens(x), tokens(ops.exp(x)), tokens(x), floats(np.linspace(0, 1, 64).reshape(1, 64)), floats(0.3)
    ),
    "ShapeOf": lambda x: ops.convert(ops.shape_of(x, "i32"), "f32"),
    "Sigmoid": lambda x: ops.sigmoid(x),
    "Sign": lambda x: ops.sign(x),
    "Slice": lambda x: ops.slice(x, whole(1, 6), whole(5, 0), whole(2, -2), whole(1, 3)),
    "Slice of the first axes": lambda x: ops.slice(x, whole(0, 1), whole(9, 4), whole(1, 1)),
    "SoftMax": lambda x: ops.softmax(x, -1),
    "SoftPlus": lambda x: ops.softplus(x),
    "Split": lambda x: ops.split(x, at(1), 3).output(1),
    "Sqrt": lambda x: ops.sqrt(ops.absolute(x)),
    "Squeeze": lambda x: ops.squeeze(ops.reduce_mean(x, whole(2, 3), keep_dims=True), whole(2, 3)),
    "Subtract": lambda x: ops.subtract(floats(1.0), x),
    "Swish": lambda x: ops.swish(x),
    "Swish, scaled": lambda x: ops.swish(x, floats(1.7)),
    "Tanh": lambda x: ops.tanh(x),
    "Transpose": lambda x: ops.transpose(x, whole(0, 3, 1, 2)),
    "Unsqueeze": lambda x: ops.unsqueeze(x, whole(1)),
    "VariadicSplit": lambda x: ops.variadic_split(x, at(1), whole(1, -1, 2)).output(1),
}


def graph_of(operation):
    x = ops.parameter([-1, 6, 8, 8], np.float32, name="x")
    result = ops.result(operation(x))
    result.output(0).set_names({"y"})
    return ov.Model([result], [x], "one")


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation(name, tmp_path):
    engine.save_graph(graph_of(OPERATIONS[name]), tmp_path / "graph.xml")
    value = np.random.default_rng(1).standard_normal((3, 6, 8, 8)).astype(np.float32)
    kinds = {layer.kind for layer in read_layers(tmp_path / "graph.xml")}
    assert name.split()[0].rstrip(",") in kinds
    assert_same(tmp_path / "graph.xml", value, 2e-6)


def test_every_rule_is_tried():
    assert set(RULES) == {name.split()[0].rstrip(",") for name in OPERATIONS}


@pytest.mark.parametrize(
    ("operation", "told"),
    [
        (lambda x: ops.cumsum(x, at(1)), "CumSum"),
        (lambda x: ops.gather(x, ops.constant(np.zeros((1, 2), np.int64)), at(1), 0), None),
        (lambda x: ops.convert(ops.divide(ops.convert(x, "i32"), ops.constant(np.int32(3))), "f32"), "whole numbers"),
        (lambda x: ops.transpose(x, ops.convert(ops.range(at(0), at(4), at(1), "i32"), "i64")), "computed"),
    ],
)
def test_what_cannot_be_written_is_named(operation, told, tmp_path):
    engine.save_graph(graph_of(operation), tmp_path / "graph.xml")
    if told is None:
        assert to_onnx(tmp_path / "graph.xml").graph.node
        return
    with pytest.raises(UserError, match=told):
        to_onnx(tmp_path / "graph.xml")


def test_no_graph_there(tmp_path):
    with pytest.raises(UserError, match="is not a graph"):
        to_onnx(tmp_path / "graph.xml")
    (tmp_path / "graph.xml").write_text("<net><layers><layer/></layers></net>")
    with pytest.raises(UserError, match="is not a graph"):
        to_onnx(tmp_path / "graph.xml")


# weights that stay where they are


def test_the_form_beside_the_graph_holds_no_weights_twice(tmp_path):
    for name in ("graph.xml", "graph.bin"):
        (tmp_path / name).write_bytes((inside.place() / name).read_bytes())
    whole_model, beside = to_onnx(tmp_path / "graph.xml"), to_onnx(tmp_path / "graph.xml", outside=True)
    assert len(beside.SerializeToString()) < 20_000 < 3_000_000 < len(whole_model.SerializeToString())
    (tmp_path / "graph.onnx").write_bytes(beside.SerializeToString())
    onnx.checker.check_model(str(tmp_path / "graph.onnx"), full_check=True)
    images = drawn_images(3, 32, 32)
    found, wanted = (session(model).run(None, {"images": images}) for model in (str(tmp_path / "graph.onnx"), whole_model))
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)
    outside = [tensor for tensor in beside.graph.initializer if tensor.data_location == tensor.EXTERNAL]
    size = (tmp_path / "graph.bin").stat().st_size
    for tensor in outside:
        place = {entry.key: entry.value for entry in tensor.external_data}
        assert place["location"] == "graph.bin"
        assert int(place["offset"]) + int(place["length"]) <= size


def test_the_same_graph_gives_the_same_bytes():
    one, other = (to_onnx(inside.place() / "graph.xml").SerializeToString(deterministic=True) for _ in range(2))
    assert one == other
