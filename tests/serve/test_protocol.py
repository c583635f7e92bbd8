"""The Open Inference Protocol: an unmodified client of Triton's drives it, and wrong requests are refused in its own words."""

import base64
import json

import numpy as np
import pytest
from drawing import drawn, encoded
from served import live, pictures, toy
from starlette.testclient import TestClient
from toymodel import CLASSES, probabilities

from frostline.serve.api import create_app
from frostline.serve.settings import ServeSettings

triton = pytest.importorskip("tritonclient.http", reason="tritonclient[http] (extra dev) is not installed")
INFER = "/v2/models/toy/infer"


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    return toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def app(predictor):
    return create_app({"toy": predictor}, ServeSettings(max_images=10))


@pytest.fixture(scope="module")
def remote(app):
    with live(app) as port:
        client = triton.InferenceServerClient(f"127.0.0.1:{port}", concurrency=2)
        yield client
        client.close()


@pytest.fixture(scope="module")
def client(predictor):
    with TestClient(create_app({"toy": predictor}, ServeSettings(max_images=10))) as client:
        yield client


# Triton's own client


def pixels_input(pixels, binary=True):
    tensor = triton.InferInput("images", list(pixels.shape), "UINT8")
    return tensor.set_data_from_numpy(pixels, binary_data=binary)


def encoded_input(files):
    tensor = triton.InferInput("encoded", [len(files)], "BYTES")
    return tensor.set_data_from_numpy(np.array(files, object))


def test_without_the_key_its_client_says_what_is_wrong(predictor):
    with live(create_app({"toy": predictor}, ServeSettings(api_key="a key"))) as port:
        client = triton.InferenceServerClient(f"127.0.0.1:{port}")
        with pytest.raises(triton.InferenceServerException) as raised:
            client.get_model_metadata("toy")
        assert "This service needs a key." in str(raised.value)
        assert client.get_model_metadata("toy", headers={"X-API-Key": "a key"})["name"] == "toy"
        client.close()


def test_states_and_metadata(remote):
    assert remote.is_server_live()
    assert remote.is_server_ready()
    assert remote.is_model_ready("toy")
    assert not remote.is_model_ready("none")
    assert remote.get_server_metadata()["name"] == "frostline"
    told = remote.get_model_metadata("toy", model_version="1")
    assert [(each["name"], each["datatype"], each["shape"]) for each in told["inputs"]] == [
        ("images", "UINT8", [-1, -1, -1, 3]),
        ("encoded", "BYTES", [-1]),
    ]
    assert told["outputs"] == [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]}]


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False, None])
def test_pixels(remote, binary_in, binary_out):
    pixels, _ = pictures(5)
    outputs = None if binary_out is None else [triton.InferRequestedOutput("probabilities", binary_data=binary_out)]
    found = remote.infer("toy", [pixels_input(pixels, binary_in)], outputs=outputs, request_id="seven")
    np.testing.assert_allclose(found.as_numpy("probabilities"), probabilities(pixels), atol=1e-5)
    assert found.as_numpy("probabilities").dtype == np.float32
    told = found.get_response()
    assert (told["id"], told["model_name"], told["model_version"]) == ("seven", "toy", "1")


def test_whole_files_of_any_size_are_what_the_predictor_says(remote, predictor):
    files = [encoded(drawn(i, 30 + i, 200), kind) for i, kind in enumerate(["JPEG", "PNG", "WEBP", "GIF"])]
    found = remote.infer("toy", [encoded_input(files)], model_version="1").as_numpy("probabilities")
    np.testing.assert_allclose(found, predictor.predict(files), atol=1e-5)


def test_larger_pixels_are_brought_to_the_models_size(remote, predictor):
    pixels = np.stack([np.asarray(drawn(i, 70, 50)) for i in range(3)])
    found = remote.infer("toy", [pixels_input(pixels)]).as_numpy("probabilities")
    np.testing.assert_allclose(found, predictor.predict(pixels), atol=1e-5)


@pytest.mark.parametrize("binary", [True, False])
def test_the_best_classes_as_text(remote, binary):
    pixels, _ = pictures(3)
    wanted = [triton.InferRequestedOutput("probabilities", binary_data=binary, class_count=2)]
    found = remote.infer("toy", [pixels_input(pixels)], outputs=wanted).as_numpy("probabilities")
    assert found.shape == (3, 2)
    value, index, name = (found[0, 0].decode() if binary else found[0, 0]).split(":")
    best = probabilities(pixels)[0]
    assert (int(index), name) == (best.argmax(), CLASSES[best.argmax()])
    assert float(value) == pytest.approx(best.max(), abs=1e-5)


def test_an_error_reaches_the_client(remote):
    with pytest.raises(triton.InferenceServerException, match="Image 1: This is not an image") as caught:
        remote.infer("toy", [encoded_input([pictures(1)[1][0], b"text"])])
    assert caught.value.status() == "415"
    with pytest.raises(triton.InferenceServerException, match="no such model"):
        remote.get_model_metadata("none")
    with pytest.raises(triton.InferenceServerException, match="no such version"):
        remote.get_model_metadata("toy", model_version="2")


# by hand


def tensor(**changes):
    pixels, _ = pictures(1)
    plain = {"name": "images", "datatype": "UINT8", "shape": [1, 8, 8, 3], "data": pixels.ravel().tolist()}
    return {key: value for key, value in {**plain, **changes}.items() if value is not None}


def test_nested_numbers_and_base64_in_json(client):
    pixels, files = pictures(2)
    nested = client.post(INFER, json={"inputs": [tensor(shape=[2, 8, 8, 3], data=pixels.tolist())]})
    texts = [base64.b64encode(data).decode() for data in files]
    whole = client.post(INFER, json={"inputs": [whole_files(2, texts)]})
    for answer in (nested, whole):
        (output,) = answer.json()["outputs"]
        assert (output["shape"], output["datatype"]) == ([2, 3], "FP32")
        np.testing.assert_allclose(output["data"], probabilities(pixels).ravel(), atol=1e-5)


def whole_files(count, data=None, **more):
    return tensor(name="encoded", datatype="BYTES", shape=[count], data=data, **more)


def with_bytes(value, blob):
    header = json.dumps(value).encode()
    return {"content": header + blob, "headers": {"Inference-Header-Content-Length": str(len(header))}}


BYTES_OF = {"binary_data_size": 192}
REFUSED = [
    pytest.param({}, "one tensor", id="nothing"),
    pytest.param([], "not an object", id="list"),
    pytest.param({"inputs": []}, "one tensor", id="no inputs"),
    pytest.param({"inputs": [1]}, "one tensor", id="number"),
    pytest.param({"inputs": [tensor(), tensor()]}, "one tensor", id="two"),
    pytest.param({"inputs": [tensor()], "id": 7}, "id", id="id"),
    pytest.param({"inputs": [tensor(name="pixels")]}, "no such input", id="name"),
    pytest.param({"inputs": [tensor(name=[1])]}, "no such input", id="name of another type"),
    pytest.param({"inputs": [tensor(datatype="FP32")]}, "no such input", id="type"),
    pytest.param({"inputs": [tensor(shape=None)]}, "shape", id="no shape"),
    pytest.param({"inputs": [tensor(shape=[1, 8, 8])]}, "shape", id="rank"),
    pytest.param({"inputs": [tensor(shape=[1, 3, 8, 8])]}, "shape", id="channels first"),
    pytest.param({"inputs": [tensor(shape=[0, 8, 8, 3])]}, "positive", id="none"),
    pytest.param({"inputs": [tensor(shape=[1, -8, -8, 3])]}, "positive", id="negative"),
    pytest.param({"inputs": [tensor(shape=[True, 8, 8, 3])]}, "positive", id="true"),
    pytest.param({"inputs": [tensor(shape=[1, 2**40, 2**40, 3])]}, "fill", id="vast"),
    pytest.param({"inputs": [tensor(data=[1, 2, 3])]}, "fill", id="short"),
    pytest.param({"inputs": [tensor(data=None)]}, "no data", id="no data"),
    pytest.param({"inputs": [tensor(data=[[1], [2, 3]])]}, "ragged", id="ragged"),
    pytest.param({"inputs": [tensor(data=[300] * 192)]}, "0 to 255", id="range"),
    pytest.param({"inputs": [tensor(data=[-1] * 192)]}, "0 to 255", id="below"),
    pytest.param({"inputs": [tensor(data=[0.5] * 192)]}, "0 to 255", id="fractions"),
    pytest.param({"inputs": [tensor(data=["1"] * 192)]}, "0 to 255", id="texts"),
    pytest.param({"inputs": [tensor(data=[10**30] * 192)]}, "0 to 255", id="huge numbers"),
    pytest.param({"inputs": [tensor(data=[])]}, "fill", id="empty"),
    pytest.param(
        {"inputs": [tensor(data=["a" * 40_000] + [""] * 150_000)]}, "0 to 255", id="texts that would be 24 GB of one array"
    ),
    pytest.param({"inputs": [tensor(data=[1] * 150_000)]}, "fill", id="long"),
    pytest.param({"inputs": [tensor(data=[True] * 192)]}, "0 to 255", id="truths"),
    pytest.param({"inputs": [tensor(parameters=BYTES_OF)]}, "binary_data_size", id="size without bytes"),
    pytest.param({"inputs": [tensor(parameters={"binary_data_size": "9"})]}, "binary_data_size", id="size as text"),
    pytest.param({"inputs": [tensor()], "outputs": [{"name": "logits"}]}, "no such output", id="output"),
    pytest.param({"inputs": [tensor()], "outputs": 3}, "outputs", id="outputs"),
    pytest.param({"inputs": [tensor()], "outputs": [{"name": "probabilities", "parameters": 1}]}, "parameters", id="parameters"),
    pytest.param({"inputs": [tensor()], "parameters": {"binary_data_output": 1}}, "binary_data", id="binary"),
    pytest.param({"inputs": [tensor()], "parameters": []}, "binary_data", id="parameters of another type"),
    pytest.param({"inputs": [whole_files(2, ["aGk="])]}, "so many texts", id="texts missing"),
    pytest.param({"inputs": [whole_files(1, ["?"])]}, "base64", id="not base64"),
    pytest.param({"inputs": [whole_files(1, [1])]}, "so many texts", id="not text"),
]


@pytest.mark.parametrize(("value", "said"), REFUSED)
def test_requests_that_are_refused(client, value, said):
    answer = client.post(INFER, json=value)
    assert answer.status_code == 400, answer.text
    assert list(answer.json()) == ["error"]
    assert said in answer.json()["error"]


@pytest.mark.parametrize(
    ("count", "blob"),
    [
        (2, b""),
        (2, b"\1\0\0"),
        (2, b"\1\0\0\0a"),
        (1, b"\1\0\0\0ab"),
        (1, b"\xff\xff\xff\xffab"),
        (1, b"\1\0\0\0a\1\0\0\0b"),
    ],
)
def test_elements_that_do_not_fit(client, count, blob):
    value = {"inputs": [whole_files(count, parameters={"binary_data_size": len(blob)})]}
    answer = client.post(INFER, **with_bytes(value, blob))
    assert answer.status_code == 400
    assert "so many elements" in answer.json()["error"]


def test_half_a_surrogate_pair_comes_back_as_it_was(client):
    answer = client.post(INFER, content=json.dumps({"inputs": [tensor()], "id": "\ud800"}))
    assert (answer.status_code, answer.json()["id"]) == (200, "\ud800")


@pytest.mark.parametrize("length", ["-1", "x", "99999999", "9" * 40, ""])
def test_a_header_length_that_is_none(client, length):
    answer = client.post(INFER, json={"inputs": [tensor()]}, headers={"Inference-Header-Content-Length": length})
    assert (answer.status_code, "within the body" in answer.json()["error"]) == (400, True)


def test_bytes_that_nobody_claims(client):
    answer = client.post(INFER, **with_bytes({"inputs": [tensor()]}, b"more"))
    assert "no input claims" in answer.json()["error"]


def test_too_many_images(client):
    answer = client.post(INFER, json={"inputs": [tensor(shape=[11, 8, 8, 3])]})
    assert (answer.status_code, "too many images" in answer.json()["error"]) == (413, True)


def test_a_busy_service_says_so_in_the_protocols_words(predictor):
    app = create_app({"toy": predictor}, ServeSettings(queue_size=2))
    with TestClient(app) as client:
        two = {"inputs": [tensor(shape=[2, 8, 8, 3], data=[0] * 384)]}
        with app.state.service.models["toy"].batcher.claim(1):
            answer = client.post(INFER, json=two)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert "busy" in answer.json()["error"]
        assert client.post(INFER, json=two).status_code == 200
        more = client.post(INFER, json={"inputs": [tensor(shape=[3, 8, 8, 3], data=[0] * 576)]})
        assert (more.status_code, "retry-after" in more.headers) == (413, False)  # there would never be room


def test_what_is_null_is_as_if_it_were_not_there(client):
    told = {"name": "images", "datatype": "UINT8", "shape": [1, 8, 8, 3], "data": [7] * 192, "parameters": None}
    asked = {"id": None, "inputs": [told], "parameters": None, "outputs": [{"name": "probabilities", "parameters": None}]}
    assert client.post(INFER, json=asked).status_code == 200


@pytest.mark.parametrize("depth", [5, 20, 400, 1200, 100_000])
def test_deep_lists_are_refused(client, depth):
    data = "[" * depth + "1" + "]" * depth
    body = f'{{"inputs": [{{"name": "images", "datatype": "UINT8", "shape": [1, 8, 8, 3], "data": {data}}}]}}'
    for text in (body, body.replace('"images"', data, 1)):
        assert client.post(INFER, content=text).status_code in (400, 413)


def test_balancers_may_ask_without_wanting_a_body(client):
    assert [client.head(path).status_code for path in ("/healthz", "/readyz")] == [200, 200]


def test_pixels_have_the_limits_of_images(predictor):
    with TestClient(create_app({"toy": predictor}, ServeSettings(max_pixels=100))) as client:
        whole = {"inputs": [tensor(shape=[1, 10, 10, 3], data=[7] * 300)]}
        assert client.post(INFER, json=whole).status_code == 200
        over = client.post(INFER, json={"inputs": [tensor(shape=[1, 10, 11, 3], data=[7] * 330)]})
        assert (over.status_code, "11 x 10 pixels" in over.json()["error"]) == (413, True)


def test_a_row_of_pixels_is_too_wide(client):
    wide = np.zeros((1, 1, 70_000, 3), np.uint8)
    parameters = {"binary_data_size": wide.nbytes}
    value = {"inputs": [{"name": "images", "datatype": "UINT8", "shape": list(wide.shape), "parameters": parameters}]}
    answer = client.post(INFER, **with_bytes(value, wide.tobytes()))
    assert (answer.status_code, "no side over" in answer.json()["error"]) == (413, True)


def test_a_photo_may_be_sent_as_nested_lists(client, monkeypatch):
    pixels = np.full((1, 300, 300, 3), 9, np.uint8)
    value = {"inputs": [tensor(shape=[1, 300, 300, 3], data=pixels.tolist())]}
    assert client.post(INFER, json=value).status_code == 200
    monkeypatch.setattr("frostline.serve.tensors.MOST_LISTS", 90_000)
    refused = client.post(INFER, json=value)
    assert (refused.status_code, "send the data flat" in refused.json()["error"]) == (413, True)


def test_an_image_without_an_answer_is_refused(predictor, monkeypatch):
    with TestClient(create_app({"toy": predictor}, ServeSettings())) as client:
        monkeypatch.setattr(type(predictor), "stored", lambda self, blocks: (np.full((len(b), 3), np.nan, "f4") for b in blocks))
        _, files = pictures(2)
        texts = [base64.b64encode(file).decode() for file in files]
        answer = client.post(INFER, json={"inputs": [whole_files(2, texts)]})
        assert (answer.status_code, "no answer for this image" in answer.json()["error"]) == (422, True)
        one = client.post("/predict", content=files[0], headers={"content-type": "image/png"})
        assert (one.status_code, one.json()["error"]["reason"]) == (422, "The model has no answer for this image.")
        both = client.post("/predict", json={"images": texts})
        assert both.status_code == 200
        assert [row["error"]["reason"] for row in both.json()["predictions"]] == ["The model has no answer for this image."] * 2
