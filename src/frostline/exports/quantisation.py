"""Post-training quantisation with NNCF: a saved graph whose network computes in 8 bits.

What stands before the network (views, normalisation, the products that enlarge) and the head stay as they are: only what lies
between the first convolution and the last feature map is quantised. NNCF on a graph with those products was killed for memory
at 24 GiB; and what is behind the map must stay differentiable for explanations (``gradcam``).
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

import numpy as np
from numpy.typing import NDArray

from frostline import engine
from frostline.errors import UserError
from frostline.vino import ops, ov

_CONVOLUTIONS = ("Convolution", "GroupConvolution")


def quantised(graph: ov.Model, images: NDArray[np.uint8], float_layers: int = 0) -> ov.Model:
    """The same model with an int8 network.

    Args:
        graph: as ``artifact.write_model`` takes it, in f32 or with float16 weights.
        images: (N, h, w, 3) uint8 of the stored size, from whose activations the ranges are taken; a few hundred.
        float_layers: how many of the first computing layers stay as they are. Networks whose BatchNorm is folded have first layers
            of very uneven channels, which one range for all of them cannot hold (Nagel et al. 2019, section 3.1).

    Raises:
        UserError: there is no convolution to quantise, the graph is quantised already, or NNCF is missing.
    """
    outputs = [name for name in ("features", "map") if any(name in port.get_names() for port in graph.outputs)]
    front, network = _apart(engine.subgraph(with_full_weights(graph), outputs))
    prepare = engine.core().compile_model(front, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    samples = [prepare({0: images[i : i + 1]})[0].copy() for i in range(len(images))]
    smaller = _quantise(network, samples, float_layers)
    body = _joined(front, smaller, outputs)
    return engine.join(body, engine.split_head(graph))


def with_full_weights(graph: ov.Model) -> ov.Model:
    """A copy of a graph whose constants of float16, or of 8 bits and scales, are float32: what they are computed as anyway."""
    copy = graph.clone()
    for node in copy.get_ordered_ops():
        inputs = [port.get_node() for port in node.input_values()]
        if not all(each.get_type_name() == "Constant" for each in inputs):
            continue
        if node.get_type_name() == "Convert" and node.get_element_type() == ov.Type.f32:
            if inputs[0].get_element_type() in (ov.Type.f16, ov.Type.i8):
                node.output(0).replace(ops.constant(inputs[0].data.astype(np.float32)).output(0))
        elif node.get_type_name() == "Multiply":
            node.output(0).replace(ops.constant(inputs[0].data * inputs[1].data).output(0))
    return copy


def _apart(body: ov.Model) -> tuple[ov.Model, ov.Model]:
    """From images to what the first convolution takes; from there on to the outputs."""
    kinds = [node.get_type_name() for node in body.get_ordered_ops()]
    if "FakeQuantize" in kinds:
        raise UserError("This model is quantised already.", expected="a model in f32 or bf16")
    place = next((number for number, kind in enumerate(kinds) if kind in _CONVOLUTIONS), None)
    if place is None:
        raise UserError(
            "There is nothing to quantise: the network has no convolution.", received=", ".join(sorted(set(kinds)))[:200]
        )
    rest = body.clone()
    cut = body.get_ordered_ops()[place].input_value(0)
    front = ov.Model([ops.result(cut)], body.get_parameters(), "front")
    parameter = ops.parameter(cut.get_partial_shape(), np.float32, name="normalised")
    rest.get_ordered_ops()[place].input_value(0).replace(parameter.output(0))
    try:
        return front, ov.Model(rest.get_results(), [parameter], "network")
    except RuntimeError as error:
        raise UserError(
            "The network cannot be told from what stands before it.", received=str(error).splitlines()[-1][:200]
        ) from error


def _joined(front: ov.Model, network: ov.Model, outputs: list[str]) -> ov.Model:
    front, network = front.clone(), network.clone()
    network.get_parameters()[0].output(0).replace(front.get_results()[0].input_value(0))
    results = []
    for name, result in zip(outputs, network.get_results(), strict=True):
        fresh = ops.result(result.input_value(0))
        fresh.output(0).set_names({name})
        results.append(fresh)
    return ov.Model(results, front.get_parameters(), "frostline")


def _quantise(network: ov.Model, samples: list[NDArray[np.float32]], float_layers: int) -> ov.Model:
    try:
        with _quiet():
            import nncf
    except ImportError as error:
        raise UserError("Quantisation needs NNCF.", hint="pip install 'frostline[export]'") from error
    attention = any(node.get_type_name() == "ScaledDotProductAttention" for node in network.get_ops())
    with _quiet():
        return nncf.quantize(
            network,
            nncf.Dataset(samples),
            # symmetric weights; activations as they come, for GELU and SiLU dip below zero
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(samples),
            model_type=nncf.ModelType.TRANSFORMER if attention else None,
            ignored_scope=nncf.IgnoredScope(names=[*_first_layers(network, float_layers), *_behind_the_map(network)]),
        )


def _first_layers(network: ov.Model, number: int) -> list[str]:
    computing = (*_CONVOLUTIONS, "MatMul")
    return [node.get_friendly_name() for node in network.get_ordered_ops() if node.get_type_name() in computing][:number]


def _behind_the_map(network: ov.Model) -> list[str]:
    """Operations between the last feature map and the features."""
    results = {name: result for result in network.get_results() for name in result.output(0).get_names()}
    if "map" not in results:
        return []
    start = results["map"].input_value(0).get_node()
    while start.get_type_name() in ("Split", "Transpose", "Reshape"):  # one view's part of it, or tokens as a map
        start = start.input_value(0).get_node()
    found: dict[str, None] = {}
    waiting = [start]
    while waiting:
        for port in waiting.pop().outputs():
            for reader in (target.get_node() for target in port.get_target_inputs()):
                name = reader.get_friendly_name()
                if name not in found and reader.get_type_name() != "Result":
                    found[name] = None
                    waiting.append(reader)
    return list(found)


@contextmanager
def _quiet() -> Iterator[None]:
    """The progress bars and chatter of NNCF, and of the torch that it loads, are for their authors."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
