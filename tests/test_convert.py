"""From torch to a graph: names, shapes, preprocessing inside, and layers kept in f32 where bf16 would do harm."""

import numpy as np
import pytest
import torch
from torch import nn

from frostline import convert
from frostline.convert import BF16_TOLERANCE, FromUint8, convert_head, convert_network, with_exact_layers
from frostline.drawn import drawn_images
from frostline.engine import Engine
from frostline.environment import has_bf16
from frostline.models.heads import HEADS, make_head
from frostline.preprocess import Preprocess, enlarge
from frostline.vino import ov

OpConversionFailure = ov.frontend.OpConversionFailure
MADE = Preprocess(size=(12, 20), stored=(8, 10), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
needs_bf16 = pytest.mark.skipif(not has_bf16(), reason="this processor has no bf16")


class Small(nn.Module):
    """Six convolutions; with ``uneven``, channels of the first differ in size ten thousand times and are levelled by the second."""

    def __init__(self, uneven=False, maps=True):
        super().__init__()
        self.maps = maps
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layers = nn.ModuleList(nn.Conv2d(3 if i == 0 else 8, 8, 3, padding=1) for i in range(6))
        if uneven:
            self._cancel()

    @torch.no_grad()
    def _cancel(self):
        # the second convolution subtracts nearly equal large numbers, of which bf16 keeps three digits
        first, second = self.layers[0], self.layers[1]
        first.weight[4:] = first.weight[:4] + 1e-3 * first.weight[4:]
        first.bias[:] = 3
        second.weight[:, 4:] = -second.weight[:, :4]
        second.weight *= 3000
        for layer in self.layers[1:]:
            layer.bias[:] = 0

    def forward(self, x):
        for layer in self.layers:
            x = torch.relu(layer(x))
        return (x.mean((2, 3)), x) if self.maps else x.mean((2, 3))


class Rounded(nn.Module):
    """Sixteen equal positive inputs whose weights nearly cancel: rounding each to the nearest moves their sum."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first, self.second = nn.Conv2d(3, 16, 1), nn.Conv2d(16, 8, 1)
        with torch.no_grad():
            self.first.weight[:] = 0.3 * self.first.weight[:1]
            self.first.bias[:] = 4
            self.second.weight[:] = 1 + 0.1 * self.second.weight
            self.second.weight[:, ::2] *= -1
            self.second.bias[:] = 0

    def forward(self, x):
        x = self.second(torch.relu(self.first(x)))
        return x.mean((2, 3)), x


def test_preprocessing_in_torch_is_the_reference():
    images = drawn_images(3, 8, 10)
    found = FromUint8(nn.Identity(), MADE)(torch.from_numpy(images))
    wanted = (enlarge(images.astype(np.float64), 12, 20, "bicubic") / 255 - MADE.mean) / MADE.std
    np.testing.assert_allclose(found.numpy(), wanted.transpose(0, 3, 1, 2), atol=1e-5)


@pytest.mark.parametrize("maps", [True, False])
def test_names_and_shapes(maps):
    graph = convert_network(Small(maps=maps).eval(), MADE)
    assert [sorted(port.get_names()) for port in graph.inputs] == [["images"]]
    assert [sorted(port.get_names()) for port in graph.outputs] == ([["features"], ["map"]] if maps else [["features"]])
    assert str(graph.inputs[0].get_partial_shape()) == "[?,8,10,3]"
    assert graph.inputs[0].get_element_type().get_type_name() == "u8"
    assert str(graph.output("features").get_partial_shape()) == "[?,8]"


def test_a_network_that_export_does_not_take_goes_the_older_way(monkeypatch):
    images = drawn_images(3, 8, 10)
    wanted = Engine(convert_network(Small().eval(), MADE), "f32").features(images)

    def refuse(*_given, **_options):
        raise RuntimeError("data-dependent control flow")

    monkeypatch.setattr(torch.export, "export", refuse)
    np.testing.assert_allclose(Engine(convert_network(Small().eval(), MADE), "f32").features(images), wanted, atol=1e-5)


def test_a_network_that_neither_way_takes_is_a_runtime_error(monkeypatch):
    """OpenVINO's own errors are no RuntimeError, which is what everybody who falls back to torch waits for."""
    assert not issubclass(OpConversionFailure, RuntimeError)

    def refuse(*_given, **_options):
        raise OpConversionFailure(
            "Check 'is_conversion_successful' failed at frontend.cpp:193:\nNo conversion rule for: aten::strange"
        )

    monkeypatch.setattr(convert.ov, "convert_model", refuse)
    with pytest.raises(RuntimeError, match=r"^OpConversionFailure: No conversion rule for: aten::strange$"):
        convert_network(Small().eval(), MADE)


def test_an_operation_that_openvino_does_not_know():
    class Strange(nn.Module):
        def forward(self, x):
            return torch.special.bessel_j0(x).mean((2, 3))

    with pytest.raises(RuntimeError, match="bessel_j0"):
        convert_network(Strange().eval(), MADE)


def test_conversion_leaves_the_network_as_it_was():
    network = Small().eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    convert_network(network, MADE)
    assert all((network.state_dict()[name] == value).all() for name, value in before.items())


@pytest.mark.parametrize(("views", "temperature"), [(1, 0.6), (2, 1.0), (3, 4.0)])
@pytest.mark.parametrize("name", ["linear", *HEADS])
def test_a_head_is_averaged_over_any_number_of_views(name, views, temperature):
    """Mean of log-probabilities, then the temperature; every row of a batch."""
    head = nn.Linear(7, 5) if name == "linear" else make_head(name, 7, 5, seed=1).eval()
    features = np.random.default_rng(0).normal(size=(20, views, 7)).astype(np.float32)
    with torch.no_grad():
        log_p = torch.log_softmax(head(torch.from_numpy(features)), -1).numpy().astype(np.float64)
    wanted = np.exp(log_p.mean(1) / temperature)
    wanted /= wanted.sum(1, keepdims=True)
    graph = convert_head(head, 7, temperature)
    assert [sorted(port.get_names()) for port in (*graph.inputs, *graph.outputs)] == [["features"], ["probabilities"]]
    np.testing.assert_allclose(Engine(graph, "f32", ("probabilities",)).features(features), wanted, atol=1e-5)


@needs_bf16
def test_a_network_that_bears_bf16_is_left_as_it_is():
    graph = convert_network(Small().eval(), MADE)
    marked, layers, difference = with_exact_layers(graph, drawn_images(16, 8, 10))
    assert (layers, marked is graph) == (0, True)
    assert difference <= BF16_TOLERANCE


@needs_bf16
def test_layers_that_bf16_would_harm_stay_in_f32():
    graph, images = convert_network(Small(uneven=True).eval(), MADE), drawn_images(16, 8, 10)
    exact = Engine(graph, "f32").features(images)
    harmed = np.linalg.norm(Engine(graph, "bf16").features(images) - exact) / np.linalg.norm(exact)
    assert harmed > BF16_TOLERANCE
    marked, layers, difference = with_exact_layers(graph, images)
    assert layers in (3, 4)  # the resize's products count as two
    found = np.linalg.norm(Engine(marked, "bf16").features(images) - exact) / np.linalg.norm(exact)
    assert difference == pytest.approx(found)
    assert found <= BF16_TOLERANCE
    np.testing.assert_array_equal(Engine(marked, "f32").features(images), exact)  # activations do the harm: weights stay


@needs_bf16
def test_where_rounding_weights_well_is_enough_no_layer_stays_in_f32():
    graph, images = convert_network(Rounded().eval(), MADE), drawn_images(16, 8, 10)
    exact = Engine(graph, "f32").features(images)
    assert np.linalg.norm(Engine(graph, "bf16").features(images) - exact) / np.linalg.norm(exact) > BF16_TOLERANCE
    marked, layers, difference = with_exact_layers(graph, images)
    assert layers == 0
    assert difference < BF16_TOLERANCE
    assert marked is not graph


class Shifted:
    """Gives its inputs, moved by ``by`` where they are above 100."""

    batch = 2

    def __init__(self, by):
        self.by, self.seen = by, 0

    def features(self, images):
        self.seen += len(images)
        return images + self.by * (images > 100)


def test_the_batch_that_differs_most_counts():
    reference = np.array([[1.0], [2.0], [200.0], [200.0], [3.0], [400.0]], np.float32)
    runs = Shifted(4.0)
    assert convert._worst(runs, reference, reference) == pytest.approx(4 / 200)
    assert runs.seen == 6
    assert convert._worst(runs, reference, reference, 0.01) == pytest.approx(4 / 200)
    assert runs.seen == 6 + 4  # the second batch was enough to know


@needs_bf16
def test_borders_that_do_not_compile_are_passed_over(monkeypatch):
    graph, images = convert_network(Small(uneven=True).eval(), MADE), drawn_images(16, 8, 10)
    real, made = convert.Engine, []

    def failing(candidate, precision, *others):
        made.append(precision)
        if len(made) in (4, 5):  # the first two borders
            raise RuntimeError("object is not initialized")
        return real(candidate, precision, *others)

    monkeypatch.setattr(convert, "Engine", failing)
    _, layers, difference = with_exact_layers(graph, images)
    assert layers == 6
    assert difference <= BF16_TOLERANCE


@pytest.mark.parametrize("shape", [(3, 8, 10), (7, 12)], ids=["maps", "tokens"])
def test_what_is_above_a_frost_line_takes_flat_rows(shape):
    class Above(nn.Module):
        def forward(self, activations):
            assert activations.shape[1:] == shape
            return activations.flatten(2).mean(2), activations

    rows = np.random.default_rng(0).standard_normal((5, int(np.prod(shape)))).astype(np.float32)
    found = Engine(convert.convert_upper(Above(), shape), "f32").features(rows)
    np.testing.assert_allclose(found, rows.reshape(5, shape[0], -1).mean(2), atol=1e-5)


def test_what_works_in_place_is_converted_apart_and_left_in_place():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU6(inplace=True), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    seen = []
    network[1].register_forward_pre_hook(lambda module, _: seen.append(module.inplace))
    graph = convert_network(network, MADE)
    assert seen
    assert not any(seen)
    assert (network[1].inplace, network[2].inplace) == (True, False)
    images = drawn_images(3, *MADE.stored)
    with torch.no_grad():
        wanted = FromUint8(network, MADE)(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(Engine(graph, "f32").features(images), wanted, atol=1e-4)


def test_a_head_that_is_compiled_wrong_is_an_error(monkeypatch):
    head, real = nn.Linear(4, 3), convert._convert
    monkeypatch.setattr(
        convert, "_convert", lambda module, *rest, **free: real(type(module)(nn.Linear(4, 3), 1.0).eval(), *rest, **free)
    )
    with pytest.raises(RuntimeError, match="compiled head differs from torch by"):
        convert.convert_head(head, 4, 1.0)


@needs_bf16
def test_where_nothing_compiles_the_error_is_not_hidden(monkeypatch):
    graph, images = convert_network(Small().eval(), MADE), drawn_images(16, 8, 10)
    real = convert.Engine

    def failing(candidate, precision, *others):
        if precision == "bf16":
            raise RuntimeError("object is not initialized")
        return real(candidate, precision, *others)

    monkeypatch.setattr(convert, "Engine", failing)
    with pytest.raises(RuntimeError, match="not initialized"):
        with_exact_layers(graph, images)
