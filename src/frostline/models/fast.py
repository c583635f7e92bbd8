"""Networks for small images that learn in few passes: a whitening first layer, then convolutions that begin as identities.

The shape follows the published facts of airbench (Jordan 2024, "94% on CIFAR-10 in 3.29 seconds on a single GPU", arXiv
2404.00498) and of its forerunners (Page 2018, "How to train your ResNet"): a frozen 2×2 convolution that whitens patches, both
signs of each direction; 3×3 convolutions without biases, the first filters of each a Dirac identity; BatchNorm with a shift and no
scale; GELU; the maximum over what is left of the picture; a linear head on features divided by nine.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import fuse_conv_bn_eval

from frostline.errors import UserError
from frostline.models.layers import Classifier

#: What BatchNorm's running statistics take up of a part of a batch: half of airbench's 0.4, for the recipes' batches have two.
NORM_MOMENTUM = 0.2
#: What the features are divided by before the head.
HEAD_DIVISOR = 9.0
#: Added to the variances of patches before they are divided by (Page 2018).
WHITENING_EPSILON = 5e-4
#: Pixels of training images from which the patches' covariance is taken: a thousand images of 32×32.
WHITENING_PIXELS = 2**20


class Whitening(nn.Conv2d):
    """A frozen 2×2 convolution from 3 channels to 24 that makes patches' directions uncorrelated and of one size.

    Its bias trains. Before ``begin_from`` its weights are those of a random convolution.
    """

    def __init__(self) -> None:
        super().__init__(3, 24, 2)
        self.weight.requires_grad_(False)
        nn.init.zeros_(self.bias)  # type: ignore[arg-type]

    @torch.no_grad()
    def begin_from(self, images: Tensor) -> None:
        """Take the eigenvectors of the covariance of all 2×2 patches of normalised images (N, 3, H, W), in float64."""
        patches = functional.unfold(images.cpu(), 2).transpose(1, 2).flatten(0, 1)
        values, vectors = torch.linalg.eigh(torch.cov(patches.T.double(), correction=0))
        directions = (vectors / (values + WHITENING_EPSILON).sqrt()).T.flip(0)
        # an eigenvector's sign is arbitrary: its largest entry is made positive, so that every machine has the same filters
        largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))
        directions = (directions * largest.sign()).view(12, 3, 2, 2)
        self.weight.copy_(torch.cat([directions, -directions]))


def begin_from(network: nn.Module, sample: Callable[[int], Tensor]) -> None:
    """Let the whitening layer of ``network``, where it has one, take its weights from training images.

    Args:
        network: any; without such a layer nothing is asked for.
        sample: from a number of pixels to normalised images (n, 3, H, W) with about so many, one at least.
    """
    for module in network.modules():
        if isinstance(module, Whitening):
            module.begin_from(sample(WHITENING_PIXELS))


class _Group(nn.Module):
    """Convolution, 2×2 maximum, then more convolutions; a third layer adds the second's input, as airbench96 does.

    A side that has shrunk to one pixel is no longer halved.
    """

    def __init__(self, inputs: int, outputs: int, depth: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList([_conv(inputs if i == 0 else outputs, outputs) for i in range(depth)])
        self.norms = nn.ModuleList([_norm(outputs) for _ in range(depth)])

    def forward(self, x: Tensor) -> Tensor:
        # the maximum before BatchNorm, as airbench has it: a quarter of the pixels to normalise
        x = self.convs[0](x)
        x = functional.max_pool2d(x, (min(2, x.shape[2]), min(2, x.shape[3])))
        x = functional.gelu(self.norms[0](x))
        begun = x
        for number, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            if number:
                x = norm(conv(x))
                x = functional.gelu(x + begun if number == 2 else x)
        return x


class _Shift(nn.Module):
    """What BatchNorm leaves behind a maximum once the convolution before it is scaled: an addition for each channel."""

    def __init__(self, bias: Tensor) -> None:
        super().__init__()
        self.bias = nn.Parameter(bias[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias


class Pooled(nn.Module):
    """(B, C, h, w) to (B, C): the maximum over the picture, divided by nine."""

    def forward(self, x: Tensor) -> Tensor:
        return x.amax((2, 3)) / HEAD_DIVISOR


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    with torch.no_grad():
        nn.init.dirac_(conv.weight[:inputs])
    return conv


def _norm(channels: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels, momentum=NORM_MOMENTUM)
    norm.weight.requires_grad_(False)
    return norm


@torch.no_grad()
def folded(network: Classifier) -> Classifier:
    """The same function in inference mode, BatchNorm's work done by the convolution before it (Jacob et al. 2018, section 3.2).

    A convolution whose maximum is taken before BatchNorm may be scaled as well: the scales are positive.

    Args:
        network: one that ``fast`` has built, in inference mode; it stays as it is.
    """
    network = copy.deepcopy(network)
    for group in network.modules():
        if isinstance(group, _Group):
            for number, norm in enumerate(group.norms):
                conv: Any = fuse_conv_bn_eval(cast("nn.Conv2d", group.convs[number]), cast("nn.BatchNorm2d", norm))
                group.norms[number] = nn.Identity()
                if number == 0:
                    # The addition stays behind the maximum: OpenVINO 2026.4 takes GELU before a maximum that stands right in
                    # front of it, as if GELU only rose.
                    group.norms[0] = _Shift(conv.bias.detach())
                    conv.bias = None
                group.convs[number] = conv
    return network


def fast(widths: Sequence[int], depth: int = 2) -> Callable[[int, tuple[int, int]], Classifier]:
    """A builder (classes K, size (H, W)) of a network with a group of ``depth`` convolutions for each width.

    Any size from 4×4 on, and one network for all of them. Smaller images are a ``UserError``.
    """

    def build(classes: int, size: tuple[int, int]) -> Classifier:
        if min(size) < 4:
            raise UserError(
                "The fast networks need images of at least 4 pixels a side.",
                received=f"{size[0]}×{size[1]}",
                hint="--set network=cnn-small",
            )
        layers: list[nn.Module] = [Whitening(), nn.GELU()]
        inputs = 24
        for width in widths:
            layers.append(_Group(inputs, width, depth))
            inputs = width
        return Classifier(nn.Sequential(*layers, Pooled()), nn.Linear(inputs, classes, bias=False))

    return build
