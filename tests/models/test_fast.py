"""The fast networks begin as the published facts say: whitened patches, identities, unit scales that do not train."""

import pytest
import torch
from torch import nn

from frostline.drawn import drawn_images
from frostline.errors import UserError
from frostline.models.cnn import make_network
from frostline.models.fast import HEAD_DIVISOR, Whitening, begin_from


def images(n=300, side=12):
    pixels = torch.from_numpy(drawn_images(n, side, side)).permute(0, 3, 1, 2).float()
    return (pixels - pixels.mean((0, 2, 3), keepdim=True)) / pixels.std((0, 2, 3), keepdim=True)


def test_whitened_patches_are_uncorrelated_and_of_one_size():
    layer = Whitening()
    layer.begin_from(images())
    with torch.inference_mode():
        found = layer(images()).transpose(0, 1).flatten(1)
    torch.testing.assert_close(found[:12], -found[12:])  # both signs of every direction
    covariance = torch.cov(found[:12].double())
    values = torch.linalg.eigvalsh(torch.cov(nn.functional.unfold(images(), 2).transpose(1, 2).flatten(0, 1).T.double()))
    wanted = (values / (values + 5e-4)).flip(0)  # of one size but for the epsilon
    torch.testing.assert_close(covariance.diagonal(), wanted, rtol=0, atol=1e-3)
    assert (covariance - torch.diag(covariance.diagonal())).abs().max() < 1e-3


def test_the_same_images_give_the_same_filters_with_fixed_signs():
    first, second = Whitening(), Whitening()
    first.begin_from(images())
    second.begin_from(images())
    assert torch.equal(first.weight, second.weight)
    rows = first.weight[:12].flatten(1)
    assert (rows.gather(1, rows.abs().argmax(1, keepdim=True)) > 0).all()


def test_only_networks_with_a_whitening_layer_take_anything_from_images():
    for name, changes in [("fast-small", True), ("cnn-small", False)]:
        network = make_network(name, 3, (12, 12))
        before = {key: value.clone() for key, value in network.state_dict().items()}
        asked = []
        begin_from(network, lambda pixels, asked=asked: asked.append(pixels) or images())
        assert bool(asked) == changes
        changed = [key for key, value in network.state_dict().items() if not torch.equal(value, before[key])]
        assert changed == (["body.0.weight"] if changes else [])


@pytest.mark.parametrize("name", ["fast-small", "fast-medium", "fast-large"])
def test_a_convolution_begins_as_an_identity_as_far_as_it_goes(name):
    network = make_network(name, 3, (16, 16))
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and not isinstance(module, Whitening):
            x = torch.randn(1, module.in_channels, 5, 5)
            same = min(module.in_channels, module.out_channels)
            torch.testing.assert_close(module(x)[:, :same], x[:, :same])


def test_what_trains():
    network = make_network("fast-small", 10, (32, 32))
    fixed = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    norms = {f"body.{group}.norms.{number}.weight" for group in (2, 3, 4) for number in (0, 1)}
    assert fixed == {"body.0.weight"} | norms
    # filters 24→64, 64→64, 64→256, 256→256 three times, nine weights each; shifts; the whitening bias; the head
    filters = 9 * (24 * 64 + 64 * 64 + 64 * 256 + 3 * 256 * 256)
    trained = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    assert trained == filters + 2 * (64 + 256 + 256) + 24 + 256 * 10


def test_features_are_the_maximum_over_the_picture():
    network = make_network("fast-small", 2, (32, 32)).eval()
    x = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        maps = network.body[:-1](x)
        torch.testing.assert_close(network.body(x), maps.flatten(2).max(2).values / HEAD_DIVISOR)
    assert maps.shape == (2, 256, 3, 3)


def test_images_too_small_for_it_are_refused():
    with pytest.raises(UserError, match="at least 4 pixels"):
        make_network("fast-small", 2, (3, 40))
