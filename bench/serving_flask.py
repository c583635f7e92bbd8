"""Flask with Keras-TensorFlow as bench/serving.py meets it: one photo as a multipart upload in, the classes' probabilities out.

    python bench/serving_flask.py PORT

Runs in the environment of bench/serving-requirements.txt, behind waitress. The network is Keras' own MobileNetV2 at 160, with
random weights (as fast as any), as a compiled function rather than ``predict``, which is slower for single images; Pillow decodes.
"""

from __future__ import annotations

import io
import sys
from typing import Any

import numpy as np
import tensorflow as tf
from flask import Flask, jsonify, request
from PIL import Image
from waitress import serve

SIDE, CLASSES, THREADS = 160, 10, 8

network = tf.keras.applications.MobileNetV2((SIDE, SIDE, 3), weights=None, classes=CLASSES)
app = Flask("peer")


@tf.function(input_signature=[tf.TensorSpec((1, SIDE, SIDE, 3))])
def classify(images: Any) -> Any:
    return network(images / 127.5 - 1, training=False)


@app.get("/readyz")
def ready() -> str:
    return "ready"


@app.post("/predict")
def predict() -> Any:
    image = Image.open(io.BytesIO(request.files["file"].read())).convert("RGB")
    pixels = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.float32)
    return jsonify({str(k): float(p) for k, p in enumerate(classify(tf.constant(pixels[None])).numpy()[0])})


if __name__ == "__main__":
    serve(app, host="127.0.0.1", port=int(sys.argv[1]), threads=THREADS)
