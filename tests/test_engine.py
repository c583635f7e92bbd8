"""Compiled graphs: the enlargement is the kernel's, a row is a row wherever it stands, and saved bytes are reproducible."""

import numpy as np
import pytest
import torch
from torch import nn

from frostline import engine
from frostline.convert import convert_head, convert_network, with_exact_layers
from frostline.data.views import served
from frostline.drawn import drawn_images
from frostline.engine import BATCH, Engine, join, read_graph, save_graph, split_head, subgraph, with_views
from frostline.environment import has_bf16
from frostline.errors import UserError
from frostline.files import digest_file
from frostline.models.backbones import FeatureNetwork
from frostline.models.cnn import make_network
from frostline.preprocess import Preprocess, enlarge

PRECISIONS = ["f32", pytest.param("bf16", marks=pytest.mark.skipif(not has_bf16(), reason="this processor has no bf16"))]
MEAN, STD = (0.48, 0.45, 0.41), (0.23, 0.22, 0.26)


def preprocess(stored=(32, 32), size=(48, 48), kernel="bicubic"):
    return Preprocess(size=size, stored=stored, kernel=kernel, mean=MEAN, std=STD)


class Everything(nn.Module):
    """Its features are the network's whole input."""

    def forward(self, x):
        return x.flatten(1)


class Two(nn.Module):
    """A network of a second: features (B, 8) and their map."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first, self.second = nn.Conv2d(3, 16, 3, stride=2), nn.Conv2d(16, 8, 3, stride=2)

    def forward(self, x):
        grid = torch.relu(self.second(torch.relu(self.first(x))))
        return grid.mean((2, 3)), grid


@pytest.fixture(scope="module")
def two():
    return convert_network(Two().eval(), preprocess())


@pytest.fixture(scope="module")
def real(tiny_weights):
    """A network with all that backbones have: strides, BatchNorm, shortcuts, pooling."""
    import timm
    from safetensors.torch import load_file

    network = timm.create_model("test_resnet", num_classes=0)
    network.load_state_dict(load_file(tiny_weights / "model.safetensors"))
    return convert_network(FeatureNetwork(network).eval(), preprocess())


def reference(images, made):
    """Enlarged and normalised in float64, (N, 3, H, W)."""
    large = enlarge(images.astype(np.float64), *made.size, made.kernel)
    return ((large / 255 - made.mean) / made.std).transpose(0, 3, 1, 2)


@pytest.mark.parametrize(
    ("stored", "size", "kernel"),
    [
        ((32, 32), (160, 160), "bicubic"),
        ((32, 32), (128, 128), "bilinear"),
        ((28, 28), (28, 28), "bicubic"),
        ((9, 40), (31, 64), "bicubic"),
        ((1, 1), (5, 5), "bicubic"),
        ((64, 48), (32, 32), "bicubic"),
    ],
)
def test_the_compiled_enlargement_is_the_kernels(stored, size, kernel):
    made = preprocess(stored, size, kernel)
    images = np.random.default_rng(0).integers(0, 256, (3, *stored, 3), dtype=np.uint8)
    images[0] = np.indices(stored).sum(0)[:, :, None] % 2 * 255  # the hardest: black and white in turn
    found = Engine(convert_network(Everything(), made), "f32").features(images)
    np.testing.assert_allclose(found.reshape(3, 3, *size), reference(images, made), atol=1e-4)


def test_a_graph_gives_what_torch_gives(two):
    images = drawn_images(5, 32, 32)
    with torch.no_grad():
        features, grid = Two().eval()(torch.from_numpy(reference(images, preprocess())).float())
    runner = Engine(two, "f32", ("features", "map"))
    (found,) = runner.run([images])
    np.testing.assert_allclose(found[0], features.numpy(), atol=1e-5)
    np.testing.assert_allclose(found[1], grid.numpy(), atol=1e-5)
    assert found[1].shape == (5, 8, 11, 11)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_row_is_the_same_wherever_it_stands(real, precision):
    """Bit for bit: the cache depends on it."""
    images, runner = drawn_images(BATCH + 5, 32, 32), Engine(real, precision)
    alone = np.concatenate([runner.features(image[None]) for image in images])
    np.testing.assert_array_equal(runner.features(images), alone)
    order = np.random.default_rng(0).permutation(len(images))
    np.testing.assert_array_equal(runner.features(images[order]), alone[order])
    beside = np.concatenate([images[3:4], np.full((BATCH - 1, 32, 32, 3), 255, np.uint8)])
    np.testing.assert_array_equal(runner.features(beside)[0], alone[3])
    np.testing.assert_array_equal(Engine(real, precision).features(images[order]), alone[order])


def test_blocks_keep_their_order_and_their_lengths(two):
    images = drawn_images(100, 32, 32)
    lengths = [16, 3, 16, 1, 16, 16, 16, 10, 6]
    cuts = np.split(images, np.cumsum(lengths))[:-1]
    whole, runner = Engine(two, "f32").features(images), Engine(two, "f32")
    found = [features for (features,) in runner.run(iter(cuts))]
    assert [len(block) for block in found] == lengths
    np.testing.assert_array_equal(np.concatenate(found), whole)
    assert list(runner.run([])) == []


def test_blocks_are_read_lazily(two):
    read = []

    def blocks():
        for number in range(50):
            read.append(number)
            yield drawn_images(1, 32, 32, seed=number)

    runner = Engine(two, "f32", threads=2)
    going = runner.run(blocks())
    next(going)
    assert len(read) <= 6
    going.close()
    again = [features for (features,) in runner.run(drawn_images(1, 32, 32, seed=number) for number in range(50))]
    np.testing.assert_array_equal(again[7], runner.features(drawn_images(1, 32, 32, seed=7)))


def test_results_stay_what_they_were(two):
    """Nothing handed out is a view of a buffer that the next inference writes to."""
    runner = Engine(two, "f32", threads=1)
    first = runner.features(drawn_images(1, 32, 32, seed=1))
    kept = first.copy()
    runner.features(drawn_images(64, 32, 32, seed=2))
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("batch", [1, 5])
def test_other_batches_give_the_same(two, batch):
    images = drawn_images(11, 32, 32)
    np.testing.assert_allclose(Engine(two, "f32", batch=batch).features(images), Engine(two, "f32").features(images), atol=1e-6)


# views


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_mirrored_view_is_the_mirror_images_features_bit_for_bit(real, precision):
    images = drawn_images(BATCH, 32, 32)
    plain = Engine(real, precision)
    both = Engine(with_views(real, 2), precision).features(images)
    assert both.shape == (BATCH, 2, 96)
    wanted = np.stack([plain.features(images), plain.features(images[:, :, ::-1])], 1)
    if precision == "f32":
        np.testing.assert_array_equal(both, wanted)
    else:  # twice the rows in one inference may choose other kernels
        np.testing.assert_allclose(both, wanted, rtol=0.05, atol=0.05 * wanted.max())


def test_six_views_are_the_image_moved_and_mirrored_before_the_network(two):
    images = drawn_images(5, 32, 32)
    seen = [images[:, rows][:, :, columns] for rows, columns in (served(number, (32, 32)) for number in range(6))]
    plain = Engine(two, "f32")
    wanted = np.stack([plain.features(np.ascontiguousarray(view)) for view in seen], axis=1)
    np.testing.assert_allclose(Engine(with_views(two, 6), "f32").features(images), wanted, atol=1e-6)


def test_one_view_is_the_graph_itself(two):
    images = drawn_images(3, 32, 32)
    runner = Engine(with_views(two, 1), "f32", ("features", "map"))
    plain = Engine(two, "f32", ("features", "map"))
    (found,), (wanted,) = runner.run([images]), plain.run([images])
    np.testing.assert_array_equal(found[0], wanted[0][:, None])
    np.testing.assert_array_equal(found[1], wanted[1])


def test_the_map_is_the_images_not_its_mirrors(two):
    images = drawn_images(3, 32, 32)
    (found,) = Engine(with_views(two, 2), "f32", ("map",)).run([images])
    (wanted,) = Engine(two, "f32", ("map",)).run([images])
    np.testing.assert_allclose(found[0], wanted[0], atol=1e-6)


# heads


def linear(features, classes):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Linear(features, classes)


def probabilities_by_hand(features, head, temperature):
    """(B, V, D): log-probabilities averaged over the views, divided by the temperature, normalised."""
    with torch.no_grad():
        log_p = torch.log_softmax(head(torch.from_numpy(features).double().float()), -1).double().mean(1) / temperature
    return torch.softmax(log_p, -1).numpy()


@pytest.mark.parametrize("views", [1, 2])
@pytest.mark.parametrize("temperature", [1.0, 0.4, 3.0])
def test_a_joined_graph_averages_views_and_divides_by_the_temperature(two, views, temperature):
    head, images = linear(8, 4), drawn_images(6, 32, 32)
    joined = join(with_views(two, views), convert_head(head, 8, temperature))
    assert [sorted(port.get_names()) for port in joined.outputs] == [["probabilities"], ["features"], ["map"]]
    ((probabilities, features),) = Engine(joined, "f32", ("probabilities", "features")).run([images])
    assert features.shape == (6, views, 8)
    np.testing.assert_allclose(probabilities, probabilities_by_hand(features, head, temperature), atol=1e-5)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-6)
    again = Engine(split_head(joined), "f32", ("probabilities",)).features(features)
    np.testing.assert_allclose(again, probabilities, atol=1e-6)


def test_joining_leaves_its_parts_as_they_were(two):
    body, head = with_views(two, 2), convert_head(linear(8, 4), 8, 1.0)
    before = Engine(body, "f32").features(drawn_images(2, 32, 32))
    join(body, head)
    join(body, head)
    np.testing.assert_array_equal(Engine(body, "f32").features(drawn_images(2, 32, 32)), before)


def test_a_scratch_network_in_two_parts():
    network = make_network("cnn-small", 4, (16, 16)).eval()
    made = Preprocess(size=(16, 16), stored=(16, 16), mean=MEAN, std=STD)
    joined = join(with_views(convert_network(network.body, made), 1), convert_head(network.head, 256, 1.0))
    images = drawn_images(3, 16, 16)
    with torch.no_grad():
        wanted = network(torch.from_numpy(reference(images, made)).float()).softmax(-1)
    found = Engine(joined, "f32", ("probabilities",)).features(images)
    np.testing.assert_allclose(found, wanted.numpy(), atol=1e-5)


def test_outputs_that_are_not_asked_for_are_not_computed(two):
    joined = join(with_views(two, 2), convert_head(linear(8, 4), 8, 1.0))
    kinds = [operation.get_type_name() for operation in subgraph(joined, ("features",)).get_ordered_ops()]
    assert kinds.count("Result") == 1
    assert "Softmax" not in kinds
    with pytest.raises(KeyError):
        subgraph(joined, ("logits",))


# files


def test_converting_twice_writes_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        head = convert_head(linear(8, 4), 8, 1.5)
        graph = join(with_views(convert_network(Two().eval(), preprocess()), 2), head)
        save_graph(graph, tmp_path / name / "graph.xml")
    for ending in ("xml", "bin"):
        assert digest_file(tmp_path / "a" / f"graph.{ending}") == digest_file(tmp_path / "b" / f"graph.{ending}")
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["graph.bin", "graph.xml"]


def test_a_graph_read_again_gives_the_same(two, tmp_path):
    graph = join(with_views(two, 2), convert_head(linear(8, 4), 8, 1.5))
    save_graph(graph, tmp_path / "graph.xml")
    again = read_graph(tmp_path / "graph.xml")
    images = drawn_images(3, 32, 32)
    for output in ("probabilities", "features", "map"):
        ((found,),) = Engine(again, "f32", (output,)).run([images])
        ((wanted,),) = Engine(graph, "f32", (output,)).run([images])
        np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_nothing_in_a_saved_graph_names_a_place(two, tmp_path):
    save_graph(two, tmp_path / "graph.xml")
    text = (tmp_path / "graph.xml").read_text()
    assert str(tmp_path) not in text
    assert "site-packages" not in text
    assert "/src/" not in text


@pytest.mark.skipif(not has_bf16(), reason="this processor has no bf16")
def test_layers_kept_in_f32_stay_so_when_saved(two, tmp_path):
    images = drawn_images(16, 32, 32)
    marked, layers, difference = with_exact_layers(two, images)
    assert 0 <= layers <= 3
    assert difference <= 0.045
    save_graph(marked, tmp_path / "graph.xml")
    again = Engine(read_graph(tmp_path / "graph.xml"), "bf16").features(images)
    np.testing.assert_array_equal(again, Engine(marked, "bf16").features(images))


# precision


def test_auto_is_what_the_processor_has(monkeypatch):
    monkeypatch.setattr(engine, "has_bf16", lambda: True)
    assert [engine.resolve_precision(name) for name in ("auto", "bf16", "f32")] == ["bf16", "bf16", "f32"]
    monkeypatch.setattr(engine, "has_bf16", lambda: False)
    assert [engine.resolve_precision(name) for name in ("auto", "f32")] == ["f32", "f32"]
    with pytest.raises(UserError, match="does not compute in bf16"):
        engine.resolve_precision("bf16")
