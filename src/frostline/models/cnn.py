"""Networks trained from scratch, by name: the sources' ``cnn-vgg`` (B) and ``cnn-small`` (D), and the fast ones."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from frostline.errors import UserError, nearest
from frostline.models.fast import Pooled, fast
from frostline.models.layers import NORM_EPSILON, NORM_MOMENTUM, Classifier, Dropout, keras_start, seeded


class _Layers:
    """A body as it grows: the layers so far, their output's channels and its size (H, W)."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.modules: list[nn.Module] = []
        self.channels, self.size = 3, size

    def convolve(self, channels: int, norm: bool) -> None:
        """3×3 convolution with same padding, then ReLU, then BatchNorm: the order of ``Conv2D(activation="relu")`` in Keras."""
        self.modules += [nn.Conv2d(self.channels, channels, 3, padding=1), nn.ReLU(inplace=True)]
        if norm:
            self.modules.append(nn.BatchNorm2d(channels, eps=NORM_EPSILON, momentum=NORM_MOMENTUM))
        self.channels = channels

    def pool(self, dropout: float = 0.0) -> None:
        """2×2 maximum; a side of one pixel is left as it is. Then dropout."""
        window = tuple(min(2, side) for side in self.size)
        self.modules.append(nn.MaxPool2d(window))
        self.size = (self.size[0] // window[0], self.size[1] // window[1])
        if dropout:
            self.modules.append(Dropout(dropout))

    def dense(self, features: int, dropout: float) -> None:
        """Flatten, linear, ReLU, dropout: the end of a body."""
        inputs = self.channels * self.size[0] * self.size[1]
        self.modules += [nn.Flatten(), nn.Linear(inputs, features), nn.ReLU(inplace=True), Dropout(dropout)]


def cnn_vgg(classes: int, size: tuple[int, int]) -> Classifier:
    """Source B's network, stated at > 88 % on CIFAR-10; 612,362 parameters for 10 classes at 32×32.

    Conv32-BN-Conv32-BN-MaxPool-Drop.2 · Conv64-BN-Conv32-BN-MaxPool-Drop.2 · Conv128-BN-MaxPool-Drop.2 ·
    Flatten-Dense256-Drop.45-Dense K. The source does not name the activation of Dense256: it is ReLU here, as in the others.
    Other sizes (H, W) change the flattened width only; a side that has shrunk to one pixel is no longer pooled.
    """
    layers = _Layers(size)
    for widths in ((32, 32), (64, 32), (128,)):
        for width in widths:
            layers.convolve(width, norm=True)
        layers.pool(dropout=0.2)
    layers.dense(256, dropout=0.45)
    return keras_start(Classifier(nn.Sequential(*layers.modules), nn.Linear(256, classes)))


def cnn_small(classes: int, size: tuple[int, int]) -> Classifier:
    """Source D's network, stated at about 75 % on CIFAR-10; 620,362 parameters for 10 classes at 32×32.

    Conv32·Pool·Conv64·Pool·Conv128·Pool·Flatten·Dense256·Drop.5·Dense K. The source names neither padding nor
    activations: same padding and ReLU here. Other sizes as in ``cnn_vgg``.
    """
    layers = _Layers(size)
    for width in (32, 64, 128):
        layers.convolve(width, norm=False)
        layers.pool()
    layers.dense(256, dropout=0.5)
    return keras_start(Classifier(nn.Sequential(*layers.modules), nn.Linear(256, classes)))


#: Name → builder from (classes K, size (H, W)); the weights come from torch's global generator (see ``make_network``).
NETWORKS: dict[str, Callable[[int, tuple[int, int]], Classifier]] = {
    "cnn-small": cnn_small,
    "cnn-vgg": cnn_vgg,
    "fast-small": fast((64, 256, 256)),
    "fast-medium": fast((128, 384, 384)),
    "fast-large": fast((128, 512, 512), depth=3),
    "fast-inside": fast((96, 240, 240), depth=3),  # with filters in 8 bits its model directory has less than 4 MiB
}


class WithMap(nn.Module):
    """A scratch network's body that gives (features, map), as pretrained networks do.

    The map is the last convolutions' answer before it is pooled: (B, 128, H/4, W/4) of ``cnn-vgg``, which Grad-CAM is drawn from.
    Weights are shared with the body.

    Args:
        body: of a network in ``NETWORKS``: layers in a row, the last of which that pools is one of them.
    """

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        layers = list(body.children())
        pools = [number for number, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d | Pooled)]
        self.below, self.above = nn.Sequential(*layers[: pools[-1]]), nn.Sequential(*layers[pools[-1] :])

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised (B, 3, H, W) to features (B, D) and their last map (B, C, h, w)."""
        last = self.below(images)
        return self.above(last), last


def make_network(name: str, classes: int, size: tuple[int, int], seed: int = 0) -> Classifier:
    """A scratch network by name, its starting weights drawn from ``seed``; an unknown name is a ``UserError``."""
    if name not in NETWORKS:
        raise UserError(f"There is no network '{name}'.", received=name, hint=nearest(name, sorted(NETWORKS)))
    with seeded(seed):
        return NETWORKS[name](classes, size)
