"""Servers of bench/serving.py, each a program of its own: one photo as a multipart upload in, the classes' probabilities out.

    python bench/serving_contestants.py flask PORT
    python bench/serving_contestants.py litserve PORT MODEL WORKERS BATCH

Both run in the environment of bench/serving-requirements.txt. ``flask``: Flask behind waitress, the network Keras' own MobileNetV2
at 160 (random weights: as fast as any) as a compiled function, Pillow for decoding. ``litserve``: LitServe with Frostline's saved
model and Frostline's reading of images.
"""

from __future__ import annotations

import io
import sys
from typing import Any

import numpy as np

SIDE = 160


def flask(port: int) -> None:
    import tensorflow as tf
    from flask import Flask, jsonify, request
    from PIL import Image
    from waitress import serve

    network = tf.keras.applications.MobileNetV2((SIDE, SIDE, 3), weights=None, classes=10)
    classify = tf.function(lambda x: network(x / 127.5 - 1, training=False), input_signature=[tf.TensorSpec((1, SIDE, SIDE, 3))])
    app = Flask("peer")

    @app.get("/readyz")
    def ready() -> Any:
        return "ready"

    @app.post("/predict")
    def predict() -> Any:
        image = Image.open(io.BytesIO(request.files["file"].read())).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        found = classify(tf.constant(np.asarray(image, np.float32)[None])).numpy()[0]
        return jsonify({str(k): float(p) for k, p in enumerate(found)})

    serve(app, host="127.0.0.1", port=port, threads=8)


def litserve(port: int, model: str, workers: int, batch: int) -> None:
    import litserve as ls

    class Classifier(ls.LitAPI):
        def setup(self, device: str) -> None:
            from frostline.environment import cores
            from frostline.serve.predictor import Predictor

            self.model = Predictor(model, batch=batch, threads=max(1, cores() // workers))

        def decode_request(self, request: Any) -> Any:
            from frostline.stored import read_stored

            return read_stored(request["file"].file.read(), self.model.card.preprocess)

        def batch(self, inputs: Any) -> Any:
            return np.stack(inputs)

        def predict(self, images: Any) -> Any:
            images = images if images.ndim == 4 else images[None]
            return next(self.model.stored([images]))

        def unbatch(self, output: Any) -> Any:
            return list(output)

        def encode_response(self, output: Any) -> Any:
            row = np.ravel(output)
            return {str(k): float(p) for k, p in enumerate(row)}

    api = Classifier(max_batch_size=batch, batch_timeout=0.002) if batch > 1 else Classifier()
    server = ls.LitServer(api, accelerator="cpu", workers_per_device=workers, healthcheck_path="/readyz")
    server.run(port=port, host="127.0.0.1", generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    kind, port, *rest = sys.argv[1:]
    flask(int(port)) if kind == "flask" else litserve(int(port), rest[0], int(rest[1]), int(rest[2]))
