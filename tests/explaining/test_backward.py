"""Every rule against torch autograd on the same operation."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from frostline.engine import core
from frostline.errors import UserError
from frostline.explaining.backward import RULES, gradient, port_of, reached_from
from frostline.vino import ops, ov

RNG = np.random.default_rng(5)
X = RNG.normal(size=(2, 3, 4, 6)).astype(np.float32)
ROW = RNG.uniform(0.5, 2, (3, 1, 1)).astype(np.float32)
W = RNG.normal(size=(6, 5)).astype(np.float32)
#: BatchNorm's scale, shift, mean and variance.
NORM = [RNG.uniform(0.5, 2, 3).astype(np.float32) for _ in range(4)]


def whole(*values):
    return ops.constant(np.array(values, np.int64))


def taken(x, dimension, index):
    return torch.index_select(x, dimension, torch.tensor(index))


#: Kind of operation, the operation in a graph, the same in torch.
CASES = [
    ("Abs", ops.absolute, torch.abs),
    ("AdaptiveAvgPool", lambda x: ops.adaptive_avg_pool(x, whole(1, 1)), lambda x: functional.adaptive_avg_pool2d(x, 1)),
    ("Add", lambda x: ops.add(x, x), lambda x: x + x),
    ("Add", lambda x: ops.add(ops.constant(ROW), x), lambda x: torch.from_numpy(ROW) + x),
    (
        "BatchNormInference",
        lambda x: ops.batch_norm_inference(x, *map(ops.constant, NORM), epsilon=0.01),
        lambda x: functional.batch_norm(x, *(torch.from_numpy(NORM[i]) for i in (2, 3, 0, 1)), eps=0.01),
    ),
    ("Concat", lambda x: ops.concat([x, ops.relu(x), x], 1), lambda x: torch.cat([x, x.relu(), x], 1)),
    ("Convert", lambda x: ops.convert(x, "f32"), lambda x: x),
    (
        "Convolution",
        lambda x: ops.convolution(x, ops.constant(W[:3, :3, None, None].copy()), [1, 1], [0, 0], [0, 0], [1, 1]),
        lambda x: functional.conv2d(x, torch.from_numpy(W[:3, :3, None, None])),
    ),
    ("Divide", lambda x: ops.divide(x, ops.constant(ROW)), lambda x: x / torch.from_numpy(ROW)),
    ("Divide", lambda x: ops.divide(ops.constant(ROW), x), lambda x: torch.from_numpy(ROW) / x),
    ("Gather", lambda x: ops.gather(x, whole(5, 0, 5), whole(3)), lambda x: taken(x, 3, [5, 0, 5])),
    ("Gather", lambda x: ops.gather(x, ops.constant(np.int64(-1)), whole(2)), lambda x: x[:, :, -1]),
    ("Gelu", lambda x: ops.gelu(x, "erf"), functional.gelu),
    ("HSwish", ops.hswish, functional.hardswish),
    ("MVN", lambda x: ops.mvn(x, whole(1, 3), True, 1e-3, "inside_sqrt"), lambda x: standard(x, lambda v: (v + 1e-3).sqrt())),
    ("MVN", lambda x: ops.mvn(x, whole(1, 3), True, 1e-1, "outside_sqrt"), lambda x: standard(x, lambda v: v.sqrt() + 1e-1)),
    ("MVN", lambda x: ops.mvn(x, whole(1, 3), False, 1e-3, "inside_sqrt"), lambda x: x - x.mean((1, 3), keepdim=True)),
    ("MatMul", lambda x: ops.matmul(x, ops.constant(W), False, False), lambda x: x @ torch.from_numpy(W)),
    ("MatMul", lambda x: ops.matmul(ops.constant(W), x, True, True), lambda x: torch.from_numpy(W).T @ x.transpose(2, 3)),
    ("MaxPool", lambda x: pooled(x, [2, 2], [2, 2], [0, 0]), lambda x: functional.max_pool2d(x, 2)),
    ("MaxPool", lambda x: pooled(x, [3, 3], [2, 2], [1, 1]), lambda x: functional.max_pool2d(x, 3, 2, 1)),
    ("Multiply", lambda x: ops.multiply(x, x), lambda x: x * x),
    ("Power", lambda x: ops.power(ops.absolute(x), ops.constant(np.float32(0.75))), lambda x: x.abs() ** 0.75),
    ("ReduceMax", lambda x: ops.reduce_max(x, whole(2, 3), keep_dims=False), lambda x: x.amax((2, 3))),
    ("ReduceMean", lambda x: ops.reduce_mean(x, whole(1, -1), keep_dims=True), lambda x: x.mean((1, 3), keepdim=True)),
    ("ReduceSum", lambda x: ops.reduce_sum(x, whole(-2), keep_dims=False), lambda x: x.sum(2)),
    ("Relu", ops.relu, torch.relu),
    ("Reshape", lambda x: ops.reshape(x, whole(6, -1), False), lambda x: x.reshape(6, -1)),
    ("Sigmoid", ops.sigmoid, torch.sigmoid),
    ("Sign", ops.sign, torch.sign),
    ("Slice", lambda x: ops.slice(x, whole(1, 0), whole(2**31, 5), whole(1, 2), whole(2, 3)), lambda x: x[:, :, 1:, 0:5:2]),
    ("Split", lambda x: ops.split(x, ops.constant(np.int64(3)), 3).output(1), lambda x: x[..., 2:4]),
    ("Squeeze", lambda x: ops.squeeze(ops.reduce_sum(x, whole(1), True), whole(1)), lambda x: x.sum(1)),
    ("Subtract", lambda x: ops.subtract(ops.constant(ROW), x), lambda x: torch.from_numpy(ROW) - x),
    ("Swish", ops.swish, functional.silu),
    ("Tanh", ops.tanh, torch.tanh),
    ("Transpose", lambda x: ops.transpose(x, whole(2, 0, 3, 1)), lambda x: x.permute(2, 0, 3, 1)),
    ("Unsqueeze", lambda x: ops.unsqueeze(x, whole(1)), lambda x: x[:, None]),
]


def pooled(x, window, steps, pads):
    return ops.max_pool(x, steps, [1, 1], pads, pads, window, "floor").output(0)


def standard(x, scale):
    centred = x - x.mean((1, 3), keepdim=True)
    return centred / scale(centred.square().mean((1, 3), keepdim=True))


def by_rules(operation, x):
    """An operation's value, and the gradient of its sum weighted by ``weights_of``."""
    parameter = ops.parameter(x.shape, np.float32, name="x")
    made = operation(parameter)
    end = made if isinstance(made, ov.Output) else made.output(0)
    nodes = ov.Model([ops.result(end)], [parameter], "one").get_ordered_ops()
    for number, node in enumerate(nodes):
        node.set_friendly_name(str(number))
    start, between = port_of(parameter.output(0)), reached_from(nodes, port_of(parameter.output(0)))
    between = [node for node in between if node.get_type_name() != "Result"]
    ports = {port_of(each): each for node in between for each in (*node.input_values(), *node.outputs())}
    ports |= {start: parameter.output(0), port_of(end): end}
    graph = ov.Model([ops.result(each) for each in ports.values()], [parameter], "all")
    found = core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(x)
    values = {port: np.array(found[i]) for i, port in enumerate(ports)}
    seed = weights_of(values[port_of(end)].shape)
    return values[port_of(end)], gradient(between, values, start, port_of(end), seed), {node.get_type_name() for node in between}


def weights_of(shape):
    return np.random.default_rng(1).normal(size=shape)


def test_every_rule_is_tried():
    assert {name for name, *_ in CASES} == set(RULES)


@pytest.mark.parametrize(("name", "operation", "wanted"), CASES, ids=[f"{i}-{case[0]}" for i, case in enumerate(CASES)])
def test_a_rule_agrees_with_autograd(name, operation, wanted):
    value, found, kinds = by_rules(operation, X)
    assert name in kinds
    x = torch.from_numpy(X).requires_grad_(True)
    answer = wanted(x)
    np.testing.assert_allclose(value, answer.detach().numpy(), rtol=1e-5, atol=1e-5)
    (answer.double() * torch.from_numpy(weights_of(value.shape))).sum().backward()
    np.testing.assert_allclose(found, x.grad.numpy(), rtol=1e-4, atol=1e-4)


def test_equal_maxima_share_and_silent_powers_have_none():
    x = np.zeros((1, 1, 2, 2), np.float32)
    _, found, _ = by_rules(lambda x: ops.reduce_max(x, whole(2, 3), keep_dims=False), x)
    np.testing.assert_allclose(found, weights_of((1, 1))[0, 0] / 4 * np.ones((1, 1, 2, 2)))
    _, found, _ = by_rules(lambda x: ops.power(x, ops.constant(np.float32(0.5))), x)
    np.testing.assert_array_equal(found, 0)


def test_what_nothing_depends_on_has_no_gradient():
    _, found, kinds = by_rules(lambda x: ops.multiply(ops.convert(ops.shape_of(x), "f32"), ops.constant(np.float32(2))), X)
    assert kinds == set()
    np.testing.assert_array_equal(found, np.zeros_like(X))


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        (lambda x: ops.cos(x), "no gradient is known of here: Cos"),
        (lambda x: ops.adaptive_avg_pool(x, whole(2, 2)), "averages its last map to more than one place"),
        (
            lambda x: ops.convolution(x, ops.constant(np.ones((1, 3, 2, 2), np.float32)), [1, 1], [0, 0], [0, 0], [1, 1]),
            "convolves behind its last map",
        ),
    ],
)
def test_what_has_no_rule_is_named(operation, message):
    with pytest.raises(UserError, match=message) as caught:
        by_rules(operation, X)
    assert caught.value.hint == "--method occlusion"
