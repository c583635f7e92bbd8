"""Weights that bf16 holds: what a layer gives stays nearer to what it was than by rounding each number to the nearest."""

import numpy as np
import pytest
import torch
from torch import nn

from frostline import rounding
from frostline.convert import convert_network
from frostline.drawn import drawn_images
from frostline.engine import Engine
from frostline.preprocess import Preprocess
from frostline.rounding import nearest_bf16, rounded_layers, rounded_weights, with_rounded_weights

MADE = Preprocess(size=(16, 20), stored=(16, 20), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))


def positive(rows, inputs, seed=0):
    """(rows, inputs) as layers see them: positive, and much alike."""
    rng = np.random.default_rng(seed)
    return np.abs(rng.normal(1, 0.3, (rows, 1)) + rng.normal(0, 0.3, (rows, inputs)))


@pytest.mark.parametrize("inputs", [2, 9, 64])
def test_products_move_less_than_by_rounding_to_the_nearest(inputs):
    rng = np.random.default_rng(inputs)
    x = np.stack([positive(500, inputs, seed) for seed in range(3)])
    weights = rng.normal(size=(3, 5, inputs))
    found = rounded_weights(weights, x.transpose(0, 2, 1) @ x / 500)
    np.testing.assert_array_equal(found, nearest_bf16(found))

    def moved(values):
        return np.linalg.norm((values - weights) @ x.transpose(0, 2, 1))

    assert moved(found) < {2: 0.8, 9: 0.6, 64: 0.4}[inputs] * moved(nearest_bf16(weights))
    assert np.abs(found - weights).max() < 0.05  # no weight is another one


def test_two_weights_by_hand():
    """Of two inputs that are always equal, what the first loses the second gains."""
    weights = np.array([[[1 + 2.0**-9, 1 / 256]]])
    (((first, second),),) = rounded_weights(weights, np.ones((1, 2, 2)))
    assert first == 1
    assert second == pytest.approx(1 / 256 + 2.0**-9, rel=2e-3)


def test_what_was_never_seen_is_rounded_to_the_nearest():
    weights = np.random.default_rng(0).normal(size=(1, 4, 6))
    np.testing.assert_array_equal(rounded_weights(weights, np.zeros((1, 6, 6))), nearest_bf16(weights))


class Kinds(nn.Module):
    """Every kind of convolution: strided, padded, dilated, of channels each by itself, in groups, with and without a bias."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layers = nn.ModuleList(
                [
                    nn.Conv2d(3, 8, 3, stride=2, padding=(1, 0)),
                    nn.Conv2d(8, 8, 3, padding=1, groups=8),
                    nn.Conv2d(8, 12, 1, bias=False),
                    nn.Conv2d(12, 12, (3, 1), padding=(2, 0), dilation=(2, 1), groups=3),
                    nn.Conv2d(12, 6, 1),
                ]
            )

    def forward(self, x):
        for layer in self.layers:
            x = torch.relu(layer(x) + 0.5)
        return x.mean((2, 3)), x


def constants(graph):
    return [
        node.data
        for node in graph.get_ordered_ops()
        if node.get_type_name() == "Constant" and node.data.ndim >= 4 and node.data.size > 3 and node.data.dtype == np.float32
    ]


def test_a_graph_of_rounded_weights_gives_nearly_the_same():
    graph, probe, others = convert_network(Kinds().eval(), MADE), drawn_images(8, 16, 20), drawn_images(32, 16, 20, seed=1)
    before, wanted = [value.copy() for value in constants(graph)], Engine(graph, "f32").features(others)
    rounded = with_rounded_weights(graph, rounded_layers(graph, probe))
    assert all(map(np.array_equal, before, constants(graph)))  # the graph that was given is as it was
    for value in constants(rounded):
        np.testing.assert_array_equal(value, nearest_bf16(value))
    assert len(constants(rounded)) == len(before) > 8
    plain = with_nearest(graph)
    found, nearest = (np.linalg.norm(Engine(each, "f32").features(others) - wanted) for each in (rounded, plain))
    assert found < 0.4 * nearest
    assert found < 2e-3 * np.linalg.norm(wanted)


def with_nearest(graph):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounding, "rounded_weights", lambda weights, _: nearest_bf16(weights))
        return with_rounded_weights(graph, rounding.rounded_layers(graph, drawn_images(1, 16, 20)))


def test_layers_that_stay_exact_keep_their_weights():
    graph = convert_network(Kinds().eval(), MADE)
    rounded = with_rounded_weights(graph, rounded_layers(graph, drawn_images(2, 16, 20)), exact=2)
    same = [np.array_equal(one, other) for one, other in zip(constants(graph), constants(rounded), strict=True)]
    assert 0 < sum(same) < len(same)
    assert [layer.number for layer in rounding._layers(graph)] == [1, 2, 3, 4, 5]
    first, last = (list(rounding._layers(each))[0::4] for each in (graph, rounded))
    np.testing.assert_array_equal(first[0].weights(), last[0].weights())
    assert not np.array_equal(first[1].weights(), last[1].weights())


def test_inputs_are_what_the_kernel_meets():
    """Weights times inputs is the convolution, for every kind."""
    network = Kinds().eval()
    graph, image = convert_network(network, MADE), drawn_images(1, 16, 20)
    layers = list(rounding._layers(graph))
    assert [layer.bias is not None for layer in layers] == [True, True, False, True, True]
    x = (torch.from_numpy(image).permute(0, 3, 1, 2).float() / 255 - torch.tensor(MADE.mean).view(3, 1, 1)) / torch.tensor(
        MADE.std
    ).view(3, 1, 1)
    with torch.no_grad():
        for layer, each in zip(layers, network.layers, strict=True):
            found = layer.weights() @ layer.inputs(x.numpy()).astype(np.float64).transpose(0, 2, 1)
            x = each(x)
            offset = 0.5 if layer.bias is not None else 0  # an addition behind a bias is folded into it
            np.testing.assert_allclose(found.reshape(x.shape[1], -1), x[0].flatten(1) + offset, atol=1e-4)
            x = torch.relu(x + 0.5)


def test_a_convolution_with_too_many_inputs_is_left_alone(monkeypatch):
    graph = convert_network(Kinds().eval(), MADE)
    monkeypatch.setattr(rounding, "LARGEST", 20)
    kept = [layer.shape[2] * layer.shape[3] * layer.shape[4] for layer in rounding._layers(graph)]
    assert kept == [9, 8, 12, 12]
