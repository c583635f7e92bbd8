"""Pretrained backbones: a table over timm. Each is used up to its last feature map and the pooled features behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import timm
from torch import Tensor, nn

from frostline import inside
from frostline.errors import UserError, nearest


@dataclass(frozen=True)
class Backbone:
    """A row of the table.

    Attributes:
        timm: timm's name, with the tag of the weights that its hub serves.
        photos: side in pixels at which photos are stored and seen.
        arrays: side to which small arrays (CIFAR-10's 32) are enlarged.
        sized: the architecture is built for one input size (transformers).
    """

    timm: str
    photos: int = 224
    arrays: int = 160
    sized: bool = False


BACKBONES: dict[str, Backbone] = {
    "mobilenetv2": Backbone("mobilenetv2_100.ra_in1k"),
    "densenet169": Backbone("densenet169.tv_in1k", arrays=128),
    "vgg16": Backbone("vgg16.tv_in1k", arrays=128),
    "resnet50": Backbone("resnet50.a1_in1k", arrays=128),
    "resnet50v2": Backbone("resnetv2_50.a1h_in1k", arrays=128),
    "efficientnetb0": Backbone("efficientnet_b0.ra_in1k"),
    "efficientnetb2": Backbone("efficientnet_b2.ra_in1k", photos=256),
    "efficientnetb4": Backbone("efficientnet_b4.ra2_in1k", photos=320),
    "efficientnetv2s": Backbone("tf_efficientnetv2_s.in21k_ft_in1k", photos=300, arrays=128),
    "convnext-tiny": Backbone("convnext_tiny.fb_in22k_ft_in1k", arrays=128),
    "vit-small": Backbone("vit_small_patch16_224.augreg_in21k_ft_in1k", arrays=224, sized=True),
}

#: The network of the classifier that ships in the package: not timm's, and nothing is downloaded for it.
INSIDE = Backbone("", photos=32, arrays=32)


class FeatureNetwork(nn.Module):
    """A timm network without its classifier: normalised (B, 3, H, W) to features (B, D) and their last map (B, C, h, w)."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network: Any = network
        # timm's VGG keeps its two 4,096-wide layers in ``pre_logits`` even without a classifier; the features proper end before.
        if hasattr(network, "pre_logits"):
            network.pre_logits = nn.Identity()
            self.dense_top = True
        else:
            self.dense_top = False

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, D) and the last map (B, C, h, w); a transformer's map is its patch tokens."""
        features, grid = self.pooled(x)
        return features, as_map(grid, getattr(self.network, "num_prefix_tokens", 0), x.shape[-1] / x.shape[-2])

    def pooled(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, D) and what they were pooled from, as the network has it."""
        grid = self.network.forward_features(x)
        features = grid.mean((2, 3)) if self.dense_top else self.network.forward_head(grid, pre_logits=True)
        channels_last = getattr(self.network, "output_fmt", "NCHW") == "NHWC"  # timm's Swin and others
        return features, grid.permute(0, 3, 1, 2) if channels_last else grid


def as_map(grid: Tensor, prefix_tokens: int, aspect: float) -> Tensor:
    """(B, C, h, w) of a map, which it is already, or of tokens (B, prefix + h·w, C) of an image of this width over height."""
    if grid.ndim == 4:
        return grid
    tokens = grid[:, prefix_tokens:]
    h = round((tokens.shape[1] / aspect) ** 0.5)
    return tokens.transpose(1, 2).reshape(tokens.shape[0], tokens.shape[2], h, tokens.shape[1] // h)


def find(name: str) -> Backbone:
    """The table's row, or one made for ``timm:NAME``. Unknown names are a ``UserError`` with the nearest."""
    if name == inside.BACKBONE:
        return INSIDE
    if name in BACKBONES:
        return BACKBONES[name]
    if not name.startswith("timm:"):
        names = [*BACKBONES, inside.BACKBONE, "timm:NAME"]
        raise UserError(f"There is no backbone '{name}'.", received=name, hint=nearest(name, names))
    architecture = name.removeprefix("timm:")
    if architecture.split(".")[0] not in timm.list_models():
        close = nearest(architecture, timm.list_models())
        raise UserError(f"timm {timm.__version__} has no model '{architecture}'.", received=name, hint=close[:300])
    try:
        config: Any = timm.get_pretrained_cfg(architecture) or timm.get_pretrained_cfg(architecture.split(".")[0])
    except RuntimeError as error:  # a tag it does not know
        known = ", ".join(timm.list_pretrained(f"{architecture.split('.')[0]}.*"))
        raise UserError(f"timm {timm.__version__} has no weights '{architecture}'.", expected=known, received=name) from error
    side, fixed = config.input_size[1], bool(config.fixed_input_size)
    return Backbone(architecture, photos=side, arrays=side if fixed else min(160, side), sized=fixed)


def build(name: str, size: tuple[int, int], *, classes: int = 0, **model_args: Any) -> Any:
    """The bare timm network (random weights; no classifier, or timm's for K ``classes``) for inputs of ``size``.

    ``model_args`` may be of a config.json.
    """
    row = find(name)
    sized: dict[str, Any] = {"img_size": size} if row.sized else {}
    arguments = {**model_args, "num_classes": classes, **sized}
    try:
        return timm.create_model(row.timm.split(".")[0], pretrained=False, **arguments)
    except (TypeError, ValueError, AttributeError, KeyError, AssertionError, RuntimeError) as error:
        raise UserError(f"timm {timm.__version__} cannot build '{row.timm}' with these arguments.", received=str(error)) from error
