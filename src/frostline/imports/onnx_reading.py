"""Anyone's ONNX file, read with suspicion: nothing in it is run but the operators of the standard, and nothing is opened outside
its folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline import engine
from frostline.errors import UserError, few
from frostline.vino import ov

#: A file with its weights beside it has a few megabytes; one that holds them has at most what protobuf takes.
MOST_BYTES = 2**31 - 1
#: Weights outside the file, all together.
MOST_OUTSIDE = 2**33
#: Operator sets of the standard; "ai.onnx.ml" has decision trees, and whatever else is there is somebody's own.
_DOMAINS = {"", "ai.onnx"}


@dataclass(frozen=True)
class Foreign:
    """A network from an ONNX file.

    Attributes:
        graph: with one input and one output.
        weights: its initialisers of floats, by name.
        about: producer, operator set, number of weights.
    """

    graph: ov.Model
    weights: Mapping[str, NDArray[Any]]
    about: Mapping[str, Any]


def read_onnx(path: Path, output: str = "") -> Foreign:
    """The network in an ONNX file.

    Args:
        path: the file; weights outside it must lie in its folder.
        output: which of several outputs gives the classes.

    Raises:
        UserError: no such file, none of ONNX, damaged, too large, with weights elsewhere, several inputs, or operators of its own.
    """
    model = _parsed(path)
    _check_outside(path, model)
    _check_operators(path, model)
    try:
        import onnx

        onnx.checker.check_model(str(path))
        graph = engine.core().read_model(path)
    except Exception as error:  # both libraries raise kinds of their own
        raise UserError(f"{path} is no ONNX network that can be run.", received=_short(error)) from error
    if len(graph.inputs) != 1:
        raise UserError(f"{path} takes {len(graph.inputs)} inputs.", expected="one, the images", received=_names(graph.inputs))
    return Foreign(_one_output(path, graph, output), _weights(path, model), _about(model))


def _parsed(path: Path) -> Any:
    try:
        import onnx
    except ImportError as error:
        raise UserError("Importing needs the package onnx.", hint="pip install 'frostline[export]'") from error
    try:
        if (size := path.stat().st_size) > MOST_BYTES:
            raise UserError(f"{path} is too large.", expected=f"at most {MOST_BYTES:,} bytes", received=f"{size:,}")
        return onnx.load(str(path), load_external_data=False)
    except UserError:
        raise
    except Exception as error:  # protobuf's kinds of error change with its versions
        raise UserError(f"{path} is no ONNX file.", received=_short(error)) from error


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _parts(model: Any) -> Iterator[Any]:
    """All that holds nodes: the graph, graphs within graphs, and functions."""
    waiting = [model.graph, *model.functions]
    while waiting:
        part = waiting.pop()
        yield part
        for attribute in (each for node in part.node for each in node.attribute):
            waiting += [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]


def _tensors(model: Any) -> list[Any]:
    """Every tensor of a model: initialisers, and what attributes hold."""
    found = []
    for part in _parts(model):
        if hasattr(part, "initializer"):
            found += [*part.initializer, *(each for tensor in part.sparse_initializer for each in (tensor.values, tensor.indices))]
        for attribute in (each for node in part.node for each in node.attribute):
            found += [*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors]
    return found


def _check_outside(path: Path, model: Any) -> None:
    """Weights in other files must be plain files of the same folder; ONNX' own history has several ways out of it."""
    folder, total = path.parent.resolve(), 0
    for tensor in _tensors(model):
        if tensor.data_location != tensor.EXTERNAL:
            continue
        place = {entry.key: entry.value for entry in tensor.external_data}.get("location", "")
        file = folder / place
        if not place or Path(place).is_absolute() or ".." in Path(place).parts or file.is_symlink() or not file.is_file():
            raise UserError(
                f"{path} keeps weights where they are not taken from.",
                expected="plain files in its own folder",
                received=ascii(place)[:200],
            )
        if file.resolve().parent != folder and folder not in file.resolve().parents:
            raise UserError(f"{path} keeps weights outside its folder.", received=ascii(place)[:200])
        total = max(total, file.stat().st_size)
    if total > MOST_OUTSIDE:
        raise UserError(f"The weights of {path} are too large.", expected=f"at most {MOST_OUTSIDE:,} bytes", received=f"{total:,}")


def _check_operators(path: Path, model: Any) -> None:
    own = {node.domain for part in _parts(model) for node in part.node}
    if strange := own - _DOMAINS - {function.domain for function in model.functions}:
        raise UserError(
            f"{path} has operators that are not ONNX' own.", expected="the standard set", received=few(map(ascii, strange))
        )


def _names(ports: Any) -> str:
    return few(port.get_any_name() if port.get_names() else "?" for port in ports)


def _one_output(path: Path, graph: ov.Model, wanted: str) -> ov.Model:
    named = {name: port for port in graph.outputs for name in port.get_names()}
    if wanted and wanted not in named:
        raise UserError(f"{path} has no output {wanted!r}.", expected=few(named), received=wanted)
    if not wanted and len(graph.outputs) != 1:
        raise UserError(f"{path} has {len(graph.outputs)} outputs.", expected="one", received=few(named), hint="--output-name NAME")
    port = named[wanted] if wanted else graph.outputs[0]
    return ov.Model([port.get_node()], graph.get_parameters(), "imported")


def _weights(path: Path, model: Any) -> dict[str, NDArray[Any]]:
    """Initialisers of floats. Names that safetensors cannot hold twice do not occur: ONNX wants them unique."""
    from onnx import TensorProto, numpy_helper

    kinds = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
    found = {}
    for tensor in model.graph.initializer:
        if tensor.data_type in kinds:
            found[tensor.name] = np.asarray(numpy_helper.to_array(tensor, str(path.parent)))
    return found


def _about(model: Any) -> dict[str, Any]:
    opsets = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    return {"producer": f"{model.producer_name} {model.producer_version}".strip(), "opset": opsets, "ir_version": model.ir_version}
