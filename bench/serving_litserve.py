"""LitServe as bench/serving.py meets it: Frostline's saved model, and Frostline's reading of images, behind another server.

    python bench/serving_litserve.py PORT MODEL WORKERS BATCH

Runs in the environment of bench/serving-requirements.txt. One photo as a multipart upload in, the classes' probabilities out.
"""

from __future__ import annotations

import sys
from typing import Any

import litserve as ls
import numpy as np

#: Seconds for which a batch that is not full waits, as in Frostline.
WAIT_S = 0.002


class Classifier(ls.LitAPI):
    """Decoding and inference in the worker, which is where LitServe has them. At the module's level, since workers are spawned."""

    def __init__(self, model: str, workers: int, size: int) -> None:
        batched = {"max_batch_size": size, "batch_timeout": WAIT_S} if size > 1 else {}
        super().__init__(**batched)
        self.folder, self.workers, self.size = model, workers, size

    def setup(self, device: str) -> None:
        from frostline.environment import cores
        from frostline.serve.predictor import Predictor

        self.model = Predictor(self.folder, batch=self.size, threads=max(1, cores() // self.workers))

    def decode_request(self, request):  # without an annotation: LitServe then hands over the form
        from frostline.stored import read_stored

        return read_stored(request["file"].file.read(), self.model.card.preprocess)

    def batch(self, inputs: Any) -> Any:
        return np.stack(inputs)

    def predict(self, images: Any) -> Any:
        return next(self.model.stored([images if images.ndim == 4 else images[None]]))

    def unbatch(self, output: Any) -> Any:
        return list(output)

    def encode_response(self, output: Any) -> Any:
        return {str(k): float(p) for k, p in enumerate(np.ravel(output))}


if __name__ == "__main__":
    port, model, workers, size = sys.argv[1:]
    server = ls.LitServer(
        Classifier(model, int(workers), int(size)),
        accelerator="cpu",
        workers_per_device=int(workers),
        healthcheck_path="/readyz",
    )
    server.run(port=int(port), host="127.0.0.1", generate_client_file=False, log_level="warning")
