import pytest
import torch
from torch import nn

from frostline.errors import UserError
from frostline.models.cnn import NETWORKS, make_network
from frostline.models.layers import Dropout, seeded


def counts(network):
    """(trainable parameters, BatchNorm's moving statistics, which Keras counts as non-trainable parameters)."""
    statistics = sum(b.numel() for name, b in network.named_buffers() if "running" in name)
    return sum(p.numel() for p in network.parameters()), statistics


def test_cnn_vgg_has_the_parameters_counted_by_hand():
    # Convolutions, 9 weights an input and output channel, 1 bias an output channel:
    # 3→32 896 + 32→32 9,248 + 32→64 18,496 + 64→32 18,464 + 32→128 36,992 = 84,096.
    # BatchNorm, scale and shift a channel: 2 · (32 + 32 + 64 + 32 + 128) = 576; as many moving means and variances.
    # Flatten 4 · 4 · 128 = 2,048; Dense256 2,048 · 256 + 256 = 524,544; Dense10 2,570.
    # Keras prints 612,362 in all: 611,786 trainable, 576 not.
    assert counts(make_network("cnn-vgg", 10, (32, 32))) == (84_096 + 576 + 524_544 + 2_570, 576) == (611_786, 576)


def test_cnn_small_has_the_parameters_counted_by_hand():
    # 3→32 896 + 32→64 18,496 + 64→128 73,856 = 93,248; Dense256 on 4 · 4 · 128 = 2,048: 524,544; Dense10 2,570.
    assert counts(make_network("cnn-small", 10, (32, 32))) == (93_248 + 524_544 + 2_570, 0) == (620_362, 0)


def test_the_layers_of_cnn_vgg_are_the_sources_in_order():
    kinds = [type(module).__name__ for module in make_network("cnn-vgg", 10, (32, 32)).body]
    block = ["Conv2d", "ReLU", "BatchNorm2d"]
    end = ["MaxPool2d", "Dropout"]
    assert kinds == [*block, *block, *end, *block, *block, *end, *block, *end, "Flatten", "Linear", "ReLU", "Dropout"]
    rates = [module.p for module in make_network("cnn-vgg", 10, (32, 32)).body if isinstance(module, Dropout)]
    assert rates == [0.2, 0.2, 0.2, 0.45]


SIZES = [(32, 32), (8, 8), (28, 28), (64, 64), (4, 40), (1, 1), (3, 40)]


@pytest.mark.parametrize(
    ("name", "size"),
    [(name, size) for name in NETWORKS for size in SIZES if not name.startswith("fast") or min(size) >= 4],
)
def test_any_size_and_number_of_classes(name, size):
    network = make_network(name, 7, size).eval()
    images = torch.randn(2, 3, *size)
    features = network.body(images)
    assert features.shape == (2, network.head.in_features)
    assert torch.equal(network(images), network.head(features))
    assert network(images).shape == (2, 7)


@pytest.mark.parametrize("name", NETWORKS)
def test_views_of_an_image_are_answered_one_by_one(name):
    network = make_network(name, 3, (8, 8)).eval()
    images = torch.randn(2, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = torch.stack([network(images[:, view]) for view in range(4)], dim=1)
        torch.testing.assert_close(network(images), expected)


def test_pooling_stops_at_one_pixel():
    windows = [m.kernel_size for m in make_network("cnn-small", 2, (2, 9)).body if isinstance(m, nn.MaxPool2d)]
    assert windows == [(2, 2), (1, 2), (1, 2)]


def test_the_start_is_keras_glorot_uniform_and_repeats_with_the_seed():
    first, again, other = (make_network("cnn-vgg", 10, (32, 32), seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    weight = first["body.3.weight"]
    assert not torch.equal(weight, other["body.3.weight"])
    limit = (6 / (9 * 32 + 9 * 32)) ** 0.5
    assert 0.99 * limit < weight.abs().max() <= limit
    assert torch.count_nonzero(first["body.3.bias"]) == 0


def test_making_a_network_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    make_network("cnn-small", 2, (8, 8), seed=9)
    assert torch.equal(torch.rand(3), expected)


def test_an_unknown_network_suggests_the_nearest():
    with pytest.raises(UserError, match="did you mean cnn-vgg"):
        make_network("cnn-vg", 2, (8, 8))


def test_dropout_drops_its_share_and_keeps_the_mean():
    dropout = Dropout(0.45)
    with seeded(0):
        y = dropout(torch.ones(1000, 1000))
    kept = y > 0
    assert kept.float().mean() == pytest.approx(0.55, abs=0.002)
    assert y.mean() == pytest.approx(1, abs=0.004)
    assert torch.allclose(y[kept], torch.tensor(1 / 0.55), atol=1e-4)
    # No two of the four elements that share a draw go together.
    together = (kept.view(-1, 4)[:, 0] & kept.view(-1, 4)[:, 1]).float().mean()
    assert together == pytest.approx(0.55**2, abs=0.003)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_dropout_keeps_layout_and_type_and_its_gradient_is_its_mask(layout):
    x = torch.ones(2, 3, 5, 7, dtype=torch.bfloat16).contiguous(memory_format=layout).requires_grad_()
    y = Dropout(0.5)(x)
    y.sum().backward()
    assert y.dtype == torch.bfloat16
    assert y.is_contiguous(memory_format=layout)
    assert torch.equal(x.grad, y.detach())


def test_dropout_of_a_tensor_with_gaps_and_in_evaluation():
    x = torch.ones(6, 4).t()[::2]
    assert set(Dropout(0.5)(x).unique().tolist()) <= {0.0, 2.0}
    assert Dropout(0.5).eval()(x) is x
    with pytest.raises(ValueError, match="probability"):
        Dropout(1.0)
