"""Runs a model's ONNX graph with ONNX Runtime, in f32: for where OpenVINO cannot be installed. Imported only there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.environment import cores
from frostline.errors import UserError
from frostline.runner import Runner


class OnnxRunner(Runner):
    """Gives what ``artifact.Compiled`` gives, from ``graph.onnx``: "images" (N, h, w, 3) uint8 to "features" and "probabilities".

    Args:
        path: of the graph.
        batch: images per inference; short blocks are padded and cut, so that a row does not depend on how many follow it.
        threads: processor threads; 0 for all.

    Raises:
        UserError: ONNX Runtime is missing, or it does not take the graph.
    """

    def __init__(self, path: Path, batch: int, threads: int = 0) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise UserError(
                "Neither OpenVINO nor ONNX Runtime can be imported here.",
                expected="one of them, to run the model's graph",
                hint="pip install openvino, or pip install 'frostline[onnx]'",
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or cores()
        options.log_severity_level = 3  # errors only
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its own kinds of error, which share no base class
            raise UserError(f"ONNX Runtime cannot run {path}.", received=" ".join(str(error).split())[:200]) from error
        ports = {port.name for port in (*self._session.get_inputs(), *self._session.get_outputs())}
        if not {"images", "features", "probabilities"} <= ports:
            raise UserError(
                f"{path} is no classifier's graph.", expected="images, features, probabilities", received=", ".join(ports)
            )
        self.body = self
        self.batch = batch
        self.how = {"engine": f"onnxruntime {onnxruntime.__version__}", "precision": "f32", "batch": batch}

    def answers(self, blocks: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
        """The (n, K) probabilities of each block, in order."""
        for block in blocks:
            yield self._run("probabilities", block)

    def features(self, blocks: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
        """The (n, V, D) features of each block, in order."""
        for block in blocks:
            yield self._run("features", block)

    def _run(self, output: str, block: NDArray[np.uint8]) -> NDArray[np.float32]:
        missing = self.batch - len(block)
        full = np.concatenate([block, np.zeros((missing, *block.shape[1:]), np.uint8)]) if missing else block
        found: Any = self._session.run([output], {"images": np.ascontiguousarray(full)})[0]
        return np.asarray(found[: len(block)], np.float32)
