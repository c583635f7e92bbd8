"""Where in an image a saved model looks: Grad-CAM from its graph, in NumPy, and occlusion where there is no last map. No torch.

Legend: V views, C channels and h×w places of the last feature map, H×W pixels, K classes. Everything here is computed in f32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.engine import core, resulting
from frostline.errors import UserError
from frostline.explaining.backward import Port, gradient, port_of, reached_from
from frostline.preprocess import enlarge
from frostline.vino import ops, ov

Image8 = NDArray[np.uint8]
Floats = NDArray[np.float64]

GRAD_CAM, BY_POSITION, OCCLUSION = "grad-cam", "grad-cam by position", "occlusion"
#: Operations that bring every place of the last map together.
_POOLING = {"ReduceMean", "ReduceMax", "ReduceSum", "AdaptiveAvgPool"}
#: Operations that only show a tensor's values in another order.
_RESHUFFLING = {"Split", "VariadicSplit", "Slice", "StridedSlice", "Transpose", "Reshape", "Squeeze", "Unsqueeze"}
#: A square that hides part of an image has this share of its shorter side, and moves by half of that.
HIDDEN = 0.25
#: Colours of the overlay from no heat to most: the ends and the middle of Matplotlib's inferno, which grows steadily brighter.
_COLOURS = np.array([(20, 11, 53), (101, 21, 110), (187, 55, 84), (243, 120, 25), (252, 255, 164)], np.float64)
#: Of the hottest place, how much of it is colour.
_OPACITY = 0.72


@dataclass(frozen=True)
class Heat:
    """How much each place of a map speaks for a class.

    Attributes:
        values: (h, w), none negative, in the units of the method: of a logit, or of a probability for occlusion.
        method: "grad-cam", "grad-cam by position" (where the map is flattened), or "occlusion".
        number: the class, in the order of the probabilities.
    """

    values: Floats
    method: str
    number: int

    @property
    def shares(self) -> Floats:
        """(h, w) of the hottest place's; all 0 where nothing speaks for the class."""
        most = float(self.values.max())
        return self.values / most if most > 0 else np.zeros_like(self.values)

    @property
    def peak(self) -> tuple[float, float]:
        """(down, right): the middle of the hottest place, as shares of the image's sides."""
        row, column = np.unravel_index(int(self.values.argmax()), self.values.shape)
        h, w = self.values.shape
        return (float(row) + 0.5) / h, (float(column) + 0.5) / w


class GradCam:
    """The last map of a saved graph, and the gradient of a class' logit by it.

    With views the gradient is that of the image as it is: the first of the views that the model averages.

    Args:
        graph: as ``artifact.read_model`` gives it.

    Raises:
        UserError: the graph has no last map, or its answer does not come from it.
    """

    def __init__(self, graph: ov.Model) -> None:
        copy = graph.clone()
        # before anything is looked up: fixing the batch replaces what only depended on shapes by constants
        copy.reshape({copy.inputs[0]: ov.PartialShape([1, *list(copy.inputs[0].get_partial_shape())[1:]])})
        names = {name: port for port in copy.outputs for name in port.get_names()}
        if "map" not in names:
            raise UserError(
                "This model was saved without its last feature map, so there is no Grad-CAM of it.",
                expected="a model of this version: earlier ones, trained from scratch, have no map",
                hint="--method occlusion, or train it again",
            )
        ordered = copy.get_ordered_ops()
        for number, node in enumerate(ordered):  # two operations of body and head may have one name
            node.set_friendly_name(f"{node.get_type_name()}_{number}")
        features = names["features"].get_node().input_value(0)
        trunk = _trunk(ordered, names["map"].get_node().input_value(0), features)
        self._start, logits = port_of(trunk), _logits(names["probabilities"].get_node())
        self._end = port_of(logits)
        between = _leading_to(reached_from(ordered, self._start), logits)
        pooling = _leading_to(between, features)
        self.method = GRAD_CAM if _POOLING & {node.get_type_name() for node in pooling} else BY_POSITION
        self._nodes = between
        self._as_map = _as_map(copy, self._start)
        self._compiled, self._ports = _with_values(copy, [trunk, logits, *_all_ports(between)])

    def map_and_gradient(self, image: Image8, number: int) -> tuple[Floats, Floats]:
        """The last map (C, h, w) of an image, and the gradient of the logit of class ``number`` by it.

        Args:
            image: (H, W, 3) uint8 of the stored size.
            number: the class, in the order of the probabilities.

        Raises:
            UserError: an operation between the two has no rule (see ``backward``), or no place of the map has a say.
        """
        found = self._compiled(image[None])
        values: dict[Port, NDArray[Any]] = {port: np.array(found[i]) for i, port in enumerate(self._ports)}
        seed: NDArray[Any] = np.zeros(values[self._end].shape)
        seed.reshape(-1, seed.shape[-1])[0, number] = 1
        by_trunk = gradient(self._nodes, values, self._start, self._end, seed)
        shown, by_map = (self._as_map(each) for each in (values[self._start], by_trunk))
        if by_trunk.any() and not by_map.any():
            raise UserError(
                "This network's answer comes from its class token, not from its last map: the gradient by the map is 0 everywhere.",
                expected="features that are pooled or flattened from the last map",
                hint="--method occlusion",
            )
        return shown[0].astype(np.float64), by_map[0].astype(np.float64)

    def __call__(self, image: Image8, number: int) -> Heat:
        """Grad-CAM of class ``number`` (Selvaraju et al. 2017, arXiv 1610.02391, eq. 1 and 2).

        Where the features are means or maxima of the map, channel k weighs the mean of its gradient, α_k (eq. 1), and the heat is
        ReLU(Σ_k α_k A_k) (eq. 2), with y the logit before the softmax. Where the map is flattened, each place has a gradient of
        its own, and their mean would weigh a channel alike where it speaks for the class and where it speaks against it: the heat
        is then ReLU(Σ_k ∂y/∂A_k · A_k) by position (Draelos and Carin 2020, arXiv 2011.08891, section 3.3), which for means is
        the same up to a factor.
        """
        A, by_map = self.map_and_gradient(image, number)
        weights = by_map.mean(axis=(1, 2), keepdims=True) if self.method == GRAD_CAM else by_map
        return Heat(np.maximum((weights * A).sum(axis=0), 0.0), self.method, number)


def _trunk(ordered: Sequence[Any], shown: Any, features: Any) -> Any:
    """The tensor that both the map and the features come from: the map itself, or what it shows in another order."""
    port = shown
    while port_of(features) not in _reached(ordered, port_of(port)):
        if port.get_node().get_type_name() not in _RESHUFFLING:
            raise UserError(
                "This network's features are not computed from its last map, so there is no Grad-CAM of it.",
                hint="--method occlusion",
            )
        port = port.get_node().input_value(0)
    return port


def _reached(ordered: Sequence[Any], start: Port) -> set[Port]:
    return {port_of(each) for node in reached_from(ordered, start) for each in node.outputs()}


def _leading_to(nodes: Sequence[Any], end: Any) -> list[Any]:
    """Of operations in the order of computing those that ``end`` depends on."""
    wanted, found = {port_of(end)}, []
    for node in reversed(nodes):
        if any(port_of(each) in wanted for each in node.outputs()):
            wanted |= {port_of(each) for each in node.input_values()}
            found.append(node)
    return found[::-1]


def _logits(probabilities: Any) -> Any:
    """What the first softmax of the head is taken of: (B, V, K) logits, or (B, K) where views are averaged before it."""
    node, logits = probabilities, None
    while node.get_input_size() and "features" not in node.output(0).get_names():
        if node.get_type_name() in ("LogSoftmax", "Softmax"):
            logits = node.input_value(0)
            if node.get_type_name() == "LogSoftmax":
                break
        node = node.input_value(0).get_node()
    if logits is None:
        raise UserError(
            "This model's probabilities come from no softmax: there are no logits to explain.", hint="--method occlusion"
        )
    return logits


def _all_ports(nodes: Sequence[Any]) -> Iterator[Any]:
    for node in nodes:
        yield from node.input_values()
        yield from node.outputs()


def _with_values(graph: ov.Model, wanted: Sequence[Any]) -> tuple[Any, list[Port]]:
    """The graph compiled to give the values of these outputs; and their names in that order."""
    ports = {port_of(each): each for each in wanted}
    whole = ov.Model([ops.result(each) for each in ports.values()], graph.get_parameters(), "explained")
    return core().compile_model(whole, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}), list(ports)


def _as_map(graph: ov.Model, start: Port) -> Callable[[NDArray[Any]], NDArray[np.float32]]:
    """Brings values of the trunk into the shape of the map: of the first view, (1, C, h, w)."""
    copy = graph.clone()
    trunk = next(each for node in copy.get_ordered_ops() for each in node.outputs() if port_of(each) == start)
    parameter = ops.parameter(trunk.get_partial_shape(), np.float32, name="trunk")
    shown = copy.output("map").get_node().input_value(0)
    if port_of(shown) == start:
        return lambda values: np.asarray(values, np.float32)
    trunk.replace(parameter.output(0))
    compiled = core().compile_model(resulting(shown, [parameter]), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda values: np.array(compiled(np.asarray(values, np.float32))[0])


def occlusion(probabilities: Callable[[Image8], NDArray[Any]], image: Image8, number: int, grey: Sequence[int]) -> Heat:
    """How much a class' probability falls while parts of an image are hidden (Zeiler and Fergus 2014, section 4.2).

    Args:
        probabilities: (N, H, W, 3) uint8 to (N, K).
        image: (H, W, 3) uint8 of the stored size.
        number: the class.
        grey: R, G, B of the square that hides a quarter of each side and moves by half of itself.

    Returns:
        (H, W) heat: at each pixel the mean fall over the squares that hid it; where the probability rose, 0.
    """
    H, W = image.shape[:2]
    side = max(1, round(HIDDEN * min(H, W)))
    places = [(y, x) for y in _steps(H, side) for x in _steps(W, side)]
    hidden = np.repeat(image[None], len(places) + 1, axis=0)
    for row, (y, x) in zip(hidden[1:], places, strict=True):
        row[y : y + side, x : x + side] = grey
    found = probabilities(hidden)[:, number].astype(np.float64)
    total, count = np.zeros((H, W)), np.zeros((H, W))
    for (y, x), fall in zip(places, found[0] - found[1:], strict=True):
        total[y : y + side, x : x + side] += fall
        count[y : y + side, x : x + side] += 1
    return Heat(np.maximum(total / count, 0.0), OCCLUSION, number)


def _steps(length: int, side: int) -> list[int]:
    """Where squares begin: half a square apart, the last one at the edge."""
    return sorted({*range(0, length - side, max(1, side // 2)), length - side})


def overlay(image: Image8, heat: Heat) -> Image8:
    """An image (H, W, 3) of any size, as the model sees it, with the heat over it: uint8 of the same size.

    The map is enlarged in straight lines between the middles of its places. What has no heat stays as it is.
    """
    H, W = image.shape[:2]
    shares = np.clip(enlarge(heat.shares[..., None], H, W, "bilinear"), 0, 1)
    at = np.linspace(0, 1, len(_COLOURS))
    colour = np.stack([np.interp(shares[..., 0], at, _COLOURS[:, channel]) for channel in range(3)], axis=-1)
    blended = image + _OPACITY * shares * (colour - image)
    return np.rint(blended).astype(np.uint8)
