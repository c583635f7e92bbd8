"""Runs compiled graphs on a CPU with OpenVINO, and joins and splits them. No torch.

A graph takes "images" (B, h, w, 3) uint8. Its body ends in "features" (and "map"); behind them a head may give "probabilities".
"""

from __future__ import annotations

import os
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.data.views import served
from frostline.environment import cores, has_bf16
from frostline.errors import UserError
from frostline.vino import ops, ov

#: Images per inference. Small batches on several streams beat large ones on few cores, and one fixed size means that a row's
#: features do not depend on how many rows follow it.
BATCH = 16
Array = NDArray[Any]
_PORTS = {"images", "features", "map", "probabilities"}


@cache
def core() -> ov.Core:
    """OpenVINO's one entry, made on first use."""
    return ov.Core()


def resolve_precision(wanted: str) -> str:
    """ "bf16" or "f32": "auto" is bf16 where the processor computes in it, else f32; bf16 elsewhere is a ``UserError``."""
    if wanted == "bf16" and not has_bf16():
        raise UserError("This processor does not compute in bf16.", hint="--precision auto (or f32)")
    return ("bf16" if has_bf16() else "f32") if wanted == "auto" else wanted


class Engine:
    """A graph compiled for one batch size.

    Args:
        graph: with an input "images" or "features".
        precision: "bf16" or "f32", of computing; inputs and outputs stay as they are. "int8" for a graph that was quantised:
            what is not quantised in it is computed in bf16 where the processor can.
        outputs: names of the outputs to compute; the rest of the graph is left out.
        batch: rows per inference; short blocks are padded and cut.
        threads: processor threads; 0 for all.
    """

    def __init__(
        self, graph: ov.Model, precision: str, outputs: Sequence[str] = ("features",), batch: int = BATCH, threads: int = 0
    ) -> None:
        self.batch, self.outputs, self.precision = batch, tuple(outputs), precision
        threads = threads or cores()
        pruned = subgraph(graph, outputs)
        pruned.reshape({pruned.inputs[0]: ov.PartialShape([batch, *list(pruned.inputs[0].get_partial_shape())[1:]])})
        options = {
            "INFERENCE_PRECISION_HINT": resolve_precision("auto") if precision == "int8" else precision,
            "PERFORMANCE_HINT": "THROUGHPUT",
            "NUM_STREAMS": str(threads),
            "INFERENCE_NUM_THREADS": str(threads),
        }
        self.compiled = core().compile_model(pruned, "CPU", options)
        self._dtype = np.uint8 if "images" in pruned.inputs[0].get_names() else np.float32
        self.ahead = threads + 2
        self._idle = deque(self.compiled.create_infer_request() for _ in range(self.ahead))

    def run(self, blocks: Iterable[Array]) -> Iterator[tuple[Array, ...]]:
        """The outputs of each block of at most ``batch`` rows, in order; a few blocks are in flight at a time.

        ``blocks`` is read lazily, so that making a block (decoding) overlaps with computing the ones before it. Several threads,
        or one in the middle of another run, may call it: each run has requests of its own.
        """
        flying: deque[tuple[ov.InferRequest, int]] = deque()
        try:
            for block in blocks:
                if len(flying) == self.ahead:
                    yield self._landed(flying)
                request = self._take()
                flying.append((request, len(block)))
                request.start_async({0: self._padded(block)})
            while flying:
                yield self._landed(flying)
        finally:  # a reader that leaves early must not leave requests at work
            for request, _ in flying:
                request.wait()
                self._give_back(request)

    def _take(self) -> ov.InferRequest:
        try:
            return self._idle.pop()
        except IndexError:  # other runs have them
            return self.compiled.create_infer_request()

    def _give_back(self, request: ov.InferRequest) -> None:
        if len(self._idle) < self.ahead:
            self._idle.append(request)

    def _landed(self, flying: deque[tuple[ov.InferRequest, int]]) -> tuple[Array, ...]:
        request, rows = flying.popleft()
        outputs = self._collect(request, rows)
        self._give_back(request)
        return outputs

    def features(self, images: Array) -> Array:
        """The first output for (N, ...) inputs of any N, stacked."""
        parts = [outputs[0] for outputs in self.run(images[i : i + self.batch] for i in range(0, len(images), self.batch))]
        return np.concatenate(parts)

    def _padded(self, block: Array) -> Array:
        block = np.ascontiguousarray(block, self._dtype)
        if len(block) == self.batch:
            return block
        return np.concatenate([block, np.zeros((self.batch - len(block), *block.shape[1:]), block.dtype)])

    def _collect(self, request: ov.InferRequest, rows: int) -> tuple[Array, ...]:
        request.wait()
        return tuple(request.get_output_tensor(i).data[:rows].copy() for i in range(len(self.outputs)))


def subgraph(graph: ov.Model, outputs: Sequence[str]) -> ov.Model:
    """A copy of the graph that computes only these outputs."""
    copy = graph.clone()
    named = {name: port for port in copy.outputs for name in port.get_names()}
    kept = [named[name] for name in outputs]
    results = [port.get_node() for port in kept]
    return ov.Model(results, copy.get_parameters(), graph.get_friendly_name())


def with_views(graph: ov.Model, views: int) -> ov.Model:
    """The body for the first V of ``data.views.SERVED``: "features" become (B, V, D); view 0 is the image itself."""
    body = graph.clone()
    parameter = body.get_parameters()[0]
    shape = body.inputs[0].get_partial_shape()
    images = ops.parameter(shape, np.uint8, name="images")
    images.output(0).set_names({"images"})
    size = (shape[1].get_length(), shape[2].get_length())
    seen = [_seen_as(images, number, size) for number in range(views)]
    parameter.output(0).replace(ops.concat(seen, 0).output(0) if views > 1 else images.output(0))
    features, *maps = (result.input_value(0) for result in body.get_results())
    D = features.get_partial_shape()[1].get_length()
    apart = ops.reshape(features, ops.constant(np.array([views, -1, D], np.int64)), special_zero=False)  # V B D
    ordered = ops.transpose(apart, ops.constant(np.array([1, 0, 2], np.int64)))  # B V D
    results = [_result(ordered.output(0), "features")]
    if maps:
        first = ops.split(maps[0], ops.constant(np.int64(0)), views).output(0) if views > 1 else maps[0]
        results.append(_result(first, "map"))
    return ov.Model(results, [images], "frostline")


def _seen_as(images: ov.Node, number: int, size: tuple[int, int]) -> ov.Node:
    """Images (B, h, w, 3) as the served view of this number."""
    for axis, (places, side) in enumerate(zip(served(number, size), size, strict=True), start=1):
        if not np.array_equal(places, np.arange(side)):
            images = ops.gather(images, ops.constant(places), ops.constant(np.int64(axis)))
    return images


def join(body: ov.Model, head: ov.Model) -> ov.Model:
    """Body and head as one graph: "probabilities", "features" and, where the body has one, "map"."""
    body, head = body.clone(), head.clone()
    features = body.output("features").get_node().input_value(0)
    head.get_parameters()[0].output(0).replace(features)
    probabilities = head.outputs[0].get_node().input_value(0)
    results = [_result(probabilities, "probabilities"), *body.get_results()]
    return ov.Model(results, body.get_parameters(), "frostline")


def split_head(graph: ov.Model) -> ov.Model:
    """The part of a joined graph from "features" to "probabilities": run in f32 whatever the body runs in."""
    copy = graph.clone()
    features = copy.output("features").get_node().input_value(0)
    shape = features.get_partial_shape()
    parameter = ops.parameter([-1, shape[1].get_length(), shape[2].get_length()], np.float32, name="features")
    parameter.output(0).set_names({"features"})
    features.replace(parameter.output(0))
    return ov.Model([copy.output("probabilities").get_node()], [parameter], "head")


def resulting(port: Any, parameters: Sequence[Any]) -> ov.Model:
    """A graph from these parameters to one output."""
    return ov.Model([ops.result(port)], list(parameters), "part")


def _result(port: Any, name: str) -> Any:
    result = ops.result(port)
    result.output(0).set_names({name})
    return result


def save_graph(graph: ov.Model, path: Path, half: bool = False) -> None:
    """Write ``path`` (.xml) and its weights (.bin) in f32, or in f16; the same graph gives the same bytes.

    OpenVINO names operations after a counter of the process, which says nothing and differs from run to run.
    """
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        temporary = Path(folder) / path.name
        ov.save_model(graph, temporary, compress_to_fp16=half)
        tree = ElementTree.parse(temporary)
        for layer in tree.getroot().iterfind("layers/layer"):
            if layer.get("type") != "Parameter":
                layer.set("name", f"{layer.get('type')}_{layer.get('id')}")
            for port in layer.iterfind("output/port"):
                port.attrib.pop("names", None) if not _PORTS & set(port.get("names", "").split(",")) else None
        tree.write(temporary, encoding="utf-8", xml_declaration=True)
        os.replace(temporary.with_suffix(".bin"), path.with_suffix(".bin"))
        os.replace(temporary, path)


def read_graph(path: Path) -> ov.Model:
    """Read a graph written by ``save_graph``."""
    return core().read_model(path)


def version() -> str:
    """OpenVINO's version, as it stands in cache keys and records."""
    return str(ov.get_version())
