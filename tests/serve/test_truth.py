"""One truth over HTTP: two hundred images of all formats get the predictor's own numbers from /predict and from /v2."""

import base64
import json
import struct

import numpy as np
import pytest
from starlette.testclient import TestClient
from truth_images import COUNT, truth_images

from frostline import inside
from frostline.model_card import read_card
from frostline.serve.api import create_app
from frostline.serve.predictor import Predictor
from frostline.serve.settings import ServeSettings
from frostline.stored import read_stored

#: Images in one request, so that a request stays below its limit.
SOME = 20
WITHIN = 1e-4


@pytest.fixture(scope="module")
def truth():
    """(200, 10): what a predictor of its own says, in another batch size than the service's."""
    return Predictor("inside", "f32", batch=16, threads=1).predict(list(truth_images().values()))


@pytest.fixture(scope="module")
def client():
    predictor = Predictor("inside", "f32", batch=4, threads=1)
    with TestClient(create_app({"inside": predictor}, ServeSettings(max_request_bytes=2**28))) as client:
        yield client


def parts():
    names = list(truth_images())
    return [names[i : i + SOME] for i in range(0, COUNT, SOME)]


def told_by(answer):
    assert answer.status_code == 200, answer.text[:500]
    return [list(row["probabilities"].values()) for row in answer.json()["predictions"]]


def test_uploads(client, truth):
    found = []
    for names in parts():
        files = [("file", (name, truth_images()[name])) for name in names]
        found += told_by(client.post("/predict?probabilities=true", files=files))
    np.testing.assert_allclose(found, truth, atol=WITHIN)


def test_uploads_one_by_one(client, truth):
    found = []
    for name, data in truth_images().items():
        found += told_by(client.post("/predict?probabilities=true", files=[("file", (name, data))]))
    np.testing.assert_allclose(found, truth, atol=WITHIN)


def test_base64(client, truth):
    found = []
    for names in parts():
        images = [base64.b64encode(truth_images()[name]).decode() for name in names]
        found += told_by(client.post("/predict?probabilities=true", json={"images": images}))
    np.testing.assert_allclose(found, truth, atol=WITHIN)


def test_the_protocols_bytes(client, truth):
    found = []
    for names in parts():
        blob = b"".join(struct.pack("<I", len(truth_images()[name])) + truth_images()[name] for name in names)
        told = {"name": "encoded", "datatype": "BYTES", "shape": [len(names)], "parameters": {"binary_data_size": len(blob)}}
        header = json.dumps({"inputs": [told], "parameters": {"binary_data_output": True}}).encode()
        length = {"Inference-Header-Content-Length": str(len(header))}
        answer = client.post("/v2/models/inside/infer", content=header + blob, headers=length)
        assert answer.status_code == 200, answer.text[:500]
        values = answer.content[int(answer.headers["inference-header-content-length"]) :]
        found.append(np.frombuffer(values, "<f4").reshape(len(names), -1))
    np.testing.assert_allclose(np.concatenate(found), truth, atol=WITHIN)


def test_the_protocols_pixels(client, truth):
    preprocess, found = read_card(inside.folder()).preprocess, []
    for names in parts():
        pixels = np.stack([read_stored(truth_images()[name], preprocess) for name in names])
        asked = {"name": "images", "datatype": "UINT8", "shape": list(pixels.shape), "data": pixels.ravel().tolist()}
        answer = client.post("/v2/models/inside/infer", json={"inputs": [asked]})
        assert answer.status_code == 200, answer.text[:500]
        (output,) = answer.json()["outputs"]
        found.append(np.reshape(output["data"], output["shape"]))
    np.testing.assert_allclose(np.concatenate(found), truth, atol=WITHIN)
