"""Where in a foreign network the features and the last map are, so that it can be explained and its neighbours found."""

from __future__ import annotations

from typing import Any

import numpy as np

from frostline.vino import ops, ov

#: Operations behind which there is still the same map.
_SHAPES = ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Convert")
#: Operations whose answers always have their channels first.
_CHANNELS_FIRST = ("Convolution", "GroupConvolution", "MaxPool", "AvgPool")


def parted(images: Any, answer: Any, probabilities: bool) -> ov.Model:
    """One graph with "features" (B, 1, D) where the last linear layer takes them, and a "map" before that where there is one.

    Args:
        images: the graph's input.
        answer: what comes out, (B, K); probabilities: whether it is that already, or logits.
    """
    place = _features(answer)
    width = place.get_partial_shape()[1].get_length()
    found = _map(place, width)
    readers = _readers(place)
    features = ops.reshape(place, ops.constant(np.array([-1, 1, width], np.int64)), special_zero=False)
    flat = ops.reshape(features, ops.constant(np.array([-1, width], np.int64)), special_zero=False)
    if place == answer:
        answer = flat.output(0)
    for target in readers:
        target.replace_source_output(flat.output(0))
    given = answer if probabilities else ops.softmax(answer, 1).output(0)
    results = [_result(given, "probabilities"), _result(features.output(0), "features")]
    if found is not None:
        results.append(_result(found, "map"))
    return ov.Model(results, [images], "frostline")


def _result(port: Any, name: str) -> Any:
    result = ops.result(port)
    result.output(0).set_names({name})
    return result


def _features(answer: Any) -> Any:
    """What the last linear layer takes, (B, D) floats; the answer itself where there is none that everything passes."""
    port = answer
    while True:
        node = port.get_node()
        inputs = [node.input_value(i) for i in range(node.get_input_size())]
        computed = [each for each in inputs if not _constant(each)]
        if len(computed) != 1 or len(_readers(port)) > 1:
            return answer
        port = computed[0]
        if node.get_type_name() == "MatMul":
            shape = port.get_partial_shape()
            flat = len(shape) == 2 and shape[1].is_static and port.get_element_type() == ov.Type.f32
            return port if flat and len(_readers(port)) == 1 else answer


def _readers(port: Any) -> list[Any]:
    """Inputs of operations that take a value; results are none."""
    return [target for target in port.get_target_inputs() if target.get_node().get_type_name() != "Result"]


def _constant(port: Any) -> bool:
    """Whether a value is a constant behind a conversion or another shape of it."""
    node = port.get_node()
    while node.get_type_name() in _SHAPES and node.get_input_size():
        node = node.input_value(0).get_node()
    return bool(node.get_type_name() == "Constant")


def _map(features: Any, D: int) -> Any:
    """The last map (B, C, h, w) of more than a pixel on the way to the features, or None.

    One with its channels last is turned, and back again for what reads it.
    """
    port = features
    while True:
        node, axis = port.get_node(), _channels(port, D)
        if axis == 1:
            return port
        if axis == 3:
            return _turned(port)
        computed = [each for each in (node.input_value(i) for i in range(node.get_input_size())) if not _constant(each)]
        if len(computed) != 1:
            return None
        port = computed[0]


def _channels(port: Any, D: int) -> int:
    """The axis of the channels where a value is surely a map of more than a pixel: 1, 3, or 0 where it is not."""
    shape, kind = port.get_partial_shape(), port.get_node().get_type_name()
    if len(shape) != 4 or any(shape[axis].is_dynamic for axis in (1, 2, 3)) or kind in _SHAPES:
        return 0
    _, one, two, three = (1, *(shape[axis].get_length() for axis in (1, 2, 3)))
    if (kind in _CHANNELS_FIRST or one == D) and two * three > 1:
        return 1
    return 3 if three == D and one * two > 1 else 0


def _turned(port: Any) -> Any:
    readers = _readers(port)
    first = ops.transpose(port, ops.constant(np.array([0, 3, 1, 2])))
    back = ops.transpose(first, ops.constant(np.array([0, 2, 3, 1])))
    for target in readers:
        target.replace_source_output(back.output(0))
    return first.output(0)
