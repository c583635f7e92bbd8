"""torch networks to OpenVINO graphs: uint8 images in, features and the last map out.

The graph holds the whole of preprocessing (normalisation, enlargement), so that nothing outside it can differ. Views and heads
are joined to it as graph operations: a network is converted once.
"""

from __future__ import annotations

import logging
import math
import tempfile
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from frostline.drawn import drawn_images
from frostline.engine import BATCH, Engine
from frostline.errors import UserError
from frostline.models.layers import nothing_in_place
from frostline.preprocess import Preprocess, enlargement
from frostline.rounding import COMPUTING, nearest_layers, rounded_layers, with_rounded_weights
from frostline.vino import ov

#: Beginnings of the lines of OpenVINO's errors that name its own source files.
_TELLS_NOTHING = ("Check '", "Exception from", "FrontEnd API failed")
#: A bf16 graph may differ from f32 by this much (Euclidean norm, relative); layers are kept in f32 until it does not.
BF16_TOLERANCE = 0.045
#: A compiled graph in f32 that differs from torch by more (Euclidean norm, relative) computes something else.
F32_TOLERANCE = 0.01
#: The same for a head, of a probability.
HEAD_TOLERANCE = 1e-3
#: Drawn images by which the precision of layers is chosen.
PROBE = 8 * BATCH
#: Of the drawn images by which weights are rounded.
ROUNDING_SEED = 2


class FromUint8(nn.Module):
    """Preprocessing in front of a network: (B, h, w, 3) uint8 to whatever the network returns."""

    scale: Tensor
    offset: Tensor
    rows: Tensor
    columns: Tensor

    def __init__(self, network: nn.Module, preprocess: Preprocess) -> None:
        super().__init__()
        self.network: Any = network
        scale = 1 / (255 * np.array(preprocess.std))
        self.register_buffer("scale", _column(scale))
        self.register_buffer("offset", _column(-np.array(preprocess.mean) / preprocess.std))
        self.enlarges = preprocess.stored != preprocess.size
        if self.enlarges:
            rows = enlargement(preprocess.stored[0], preprocess.size[0], preprocess.kernel)
            columns = enlargement(preprocess.stored[1], preprocess.size[1], preprocess.kernel)
            self.register_buffer("rows", torch.tensor(rows, dtype=torch.float32))
            self.register_buffer("columns", torch.tensor(columns.T.copy(), dtype=torch.float32))

    def forward(self, images: Tensor) -> Any:
        """Normalise, enlarge as A x Bᵀ, run."""
        x = images.permute(0, 3, 1, 2).to(torch.float32)
        # Normalise before enlarging: A's rows sum to one, so the result is the same, and OpenVINO 2026.4 fails to
        # compile a per-channel operation behind the products.
        x = x * self.scale + self.offset
        if self.enlarges:
            x = self.rows @ x @ self.columns
        return self.network(x)


def _column(values: NDArray[np.float64]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(1, 3, 1, 1)


def convert_network(network: nn.Module, preprocess: Preprocess) -> ov.Model:
    """A graph from "images" (B, h, w, 3) uint8 to "features" (B, D) and, where the network returns one, "map" (B, C, h, w)."""
    example = torch.zeros(2, *preprocess.stored, 3, dtype=torch.uint8)
    graph = _convert(FromUint8(network, preprocess).eval(), example, free=1)
    graph.reshape({0: ov.PartialShape([-1, *preprocess.stored, 3])})
    graph.inputs[0].set_names({"images"})
    for output, name in zip(graph.outputs, ("features", "map"), strict=False):
        output.set_names({name})
    return graph


def convert_upper(upper: nn.Module, shape: tuple[int, ...]) -> ov.Model:
    """A graph of what is above a frost line, from "activations" (B, D₁) of this shape, flat, float32, to "features" (B, D₂)."""
    width = math.prod(shape)
    graph = _convert(_FromFlat(upper, shape).eval(), torch.zeros(2, width), free=1)
    graph.reshape({0: ov.PartialShape([-1, width])})
    graph.inputs[0].set_names({"activations"})
    graph.outputs[0].set_names({"features"})
    return graph


class _FromFlat(nn.Module):
    def __init__(self, upper: nn.Module, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.upper, self.shape = upper, shape

    def forward(self, activations: Tensor) -> Any:
        return self.upper(activations.unflatten(1, self.shape))[0]


def convert_head(head: nn.Module, features: int, temperature: float) -> ov.Model:
    """A graph from "features" (B, V, D) to "probabilities" (B, K): log-probabilities averaged over views, then the temperature."""
    graph = _convert(ViewAverage(head, temperature).eval(), torch.zeros(2, 2, features), free=2)
    graph.reshape({0: ov.PartialShape([-1, -1, features])})
    graph.inputs[0].set_names({"features"})
    graph.outputs[0].set_names({"probabilities"})
    _check_head(graph, head, features, temperature)
    return graph


def _check_head(graph: ov.Model, head: nn.Module, features: int, temperature: float) -> None:
    probe = np.random.default_rng(0).standard_normal((5, 3, features)).astype(np.float32)
    with torch.no_grad():
        wanted = ViewAverage(head, temperature).eval()(torch.from_numpy(probe)).numpy()
    worst = float(np.abs(Engine(graph, "f32", ("probabilities",)).features(probe) - wanted).max())
    if not worst <= HEAD_TOLERANCE:
        raise RuntimeError(f"the compiled head differs from torch by {worst:.2g} in a probability")


class ViewAverage(nn.Module):
    """A head on the features of several views (B, V, D): log-probabilities averaged, then the temperature; (B, K)."""

    def __init__(self, head: nn.Module, temperature: float) -> None:
        super().__init__()
        self.head, self.temperature = head, temperature

    def forward(self, features: Tensor) -> Tensor:
        """Probabilities (B, K)."""
        logits = self.head(features.flatten(0, 1)).unflatten(0, features.shape[:2])
        # OpenVINO 2026.4 computes only the first row of a division behind the mean: it comes before
        return (torch.log_softmax(logits, -1) / self.temperature).mean(1).softmax(-1)


def _convert(module: nn.Module, example: Tensor, free: int) -> ov.Model:
    """``free``: of how many axes, from the first, any length is to be taken."""
    dims = dict.fromkeys(range(free), torch.export.Dim.DYNAMIC)
    with torch.no_grad(), quiet(), nothing_in_place(module):
        try:
            return ov.convert_model(torch.export.export(module, (example,), dynamic_shapes=(dims,)))
        except Exception:  # either library raises many kinds for what it does not know; the older way in knows some more
            return _convert_traced(module, example)


def _convert_traced(module: nn.Module, example: Tensor) -> ov.Model:
    """The older way in; ``RuntimeError`` for whatever it raises: OpenVINO's own kinds (OpConversionFailure, …) are none."""
    try:
        return ov.convert_model(module, example_input=example)
    except UserError:
        raise
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        telling = [line for line in lines if not line.startswith(_TELLS_NOTHING)]
        raise RuntimeError(f"{type(error).__name__}: {' '.join(telling or lines)}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Conversion's deprecation chatter is for its authors."""
    loggers = [logging.getLogger(name) for name in ("torch.export", "torch._export", "openvino")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def checked_features(graph: ov.Model, network: nn.Module, preprocess: Preprocess, probe: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Features of ``probe`` (n, h, w, 3) by the compiled graph in f32, once the first of them are known to be torch's.

    Raises:
        RuntimeError: they are not; conversion or OpenVINO is wrong about an operation of this network.
    """
    found = Engine(graph, "f32").features(probe)
    with torch.no_grad():
        answer = FromUint8(network, preprocess).eval()(torch.from_numpy(probe[:BATCH]))
    wanted = (answer[0] if isinstance(answer, tuple) else answer).numpy()
    difference = relative(found[:BATCH], wanted)
    if not difference <= F32_TOLERANCE:
        raise RuntimeError(f"the compiled graph differs from torch by {difference:.2g}, more than {F32_TOLERANCE:g}")
    return found


def with_exact_layers(
    graph: ov.Model, probe: NDArray[np.uint8], exact: NDArray[np.float32] | None = None
) -> tuple[ov.Model, int, float]:
    """Keep bf16 inference within ``BF16_TOLERANCE``: where it is not, by weights rounded well, and first layers in f32.

    Networks whose BatchNorm is folded have first layers of very uneven channels (MobileNetV2's first depthwise
    convolution alone moves the features by 20 %); Nagel et al. 2019, section 3.1, describe the same for int8. In some most of the
    harm is done to weights and biases, and ``rounding`` undoes it. Where it does not halve the difference, they are left alone.

    Args:
        graph: from ``convert_network``.
        probe: (n, h, w, 3) uint8 drawn images. Each batch of them must be within the tolerance: some networks bear most images.
        exact: their features in f32; computed where not given.

    Returns:
        The graph as it is, or a rounded and marked one (the marks are saved with it); the number of layers in f32; and the
        difference that remains, of the worst batch.
    """
    reference = Engine(graph, "f32").features(probe) if exact is None else exact
    difference = _worst(Engine(graph, "bf16"), probe, reference)
    if difference <= BF16_TOLERANCE:
        return graph, 0, difference
    rounded, total = _rounded(graph, probe, reference, difference), _count(graph)
    for layers in (*((0,) if rounded else ()), 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, total):
        marked = with_rounded_weights(graph, rounded, layers) if rounded else graph
        marked = _mark(marked, layers) if layers else marked
        try:
            difference = _worst(Engine(marked, "bf16"), probe, reference, BF16_TOLERANCE)
        except RuntimeError:  # OpenVINO 2026.4 cannot compile some borders between the precisions (ResNet50V2 after 6 layers)
            if layers >= total:
                raise
            continue
        if difference <= BF16_TOLERANCE or layers >= total:
            return marked, layers, difference
    raise AssertionError("the last candidate is all layers")


def _rounded(
    graph: ov.Model, probe: NDArray[np.uint8], reference: NDArray[np.float32], difference: float
) -> list[NDArray[np.float32]]:
    """Weights rounded well, where that halves the ``difference`` that bf16 makes; else none."""
    nearest = with_rounded_weights(graph, nearest_layers(graph))
    by_weights = _worst(Engine(nearest, "f32"), probe, reference)
    if by_weights**2 < 0.75 * difference**2:  # the rest comes from activations, and errors add up by their squares
        return []
    # other images than those that judge: weights fit the ones they are rounded by
    height, width = probe.shape[1:3]
    rounded = rounded_layers(graph, drawn_images(BATCH, height, width, seed=ROUNDING_SEED))
    again = _worst(Engine(with_rounded_weights(graph, rounded), "bf16"), probe, reference)
    return rounded if again <= difference / 2 else []


def _worst(runs: Engine, probe: NDArray[np.uint8], reference: NDArray[np.float32], enough: float = np.inf) -> float:
    """The difference of the batch that differs most; the first one above ``enough`` will do."""
    worst = 0.0
    for start in range(0, len(probe), runs.batch):
        some = slice(start, start + runs.batch)
        worst = max(worst, relative(runs.features(probe[some]), reference[some]))
        if worst > enough:
            break
    return worst


def relative(value: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    """Euclidean norm of the difference, as a share of the reference's."""
    return float(np.linalg.norm(value - reference) / max(float(np.linalg.norm(reference)), 1e-30))


def _count(graph: ov.Model) -> int:
    return sum(operation.get_type_name() in COMPUTING for operation in graph.get_ordered_ops())


def _mark(graph: ov.Model, layers: int) -> ov.Model:
    """Mark everything up to the n-th computing layer as not to be converted to bf16.

    The attribute is only reachable through the graph's XML: OpenVINO's Python API refuses to set it.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.xml"
        ov.save_model(graph, path, compress_to_fp16=False)
        tree = ElementTree.parse(path)
        seen = 0
        for layer in tree.getroot().iterfind("layers/layer"):
            seen += layer.get("type") in COMPUTING
            if seen > layers:
                break
            if layer.get("type") not in ("Const", "Parameter"):
                _add_mark(layer)
        text = ElementTree.tostring(tree.getroot(), encoding="utf-8")
        weights = np.fromfile(path.with_suffix(".bin"), np.uint8)
        return ov.Core().read_model(text, ov.Tensor(weights))


def _add_mark(layer: ElementTree.Element) -> None:
    info = layer.find("rt_info")
    if info is None:
        info = ElementTree.Element("rt_info")
        layer.insert(0 if layer.find("data") is None else 1, info)
    ElementTree.SubElement(info, "attribute", name="precise", version="0")
