"""The routes of our own, in process: what they answer, and every way in which they refuse."""

import base64
import html
import json
import re

import numpy as np
import pytest
from drawing import drawn, encoded, png_bomb
from PIL import Image
from served import Paced, pictures, toy
from starlette.testclient import TestClient
from toymodel import CLASSES, probabilities, write_toy

from frostline.serve.api import create_app
from frostline.serve.predictor import Predictor
from frostline.serve.settings import ServeSettings

PNG = {"content-type": "image/png"}


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    return toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def client(predictor):
    settings = ServeSettings(max_request_bytes=200_000, max_images=10, max_pixels=1_000_000)
    with TestClient(create_app({"toy": predictor, "again": predictor}, settings)) as client:
        yield client


def rows_of(answer):
    assert answer.status_code == 200, answer.text
    return answer.json()["predictions"]


def numbers(row):
    return [row["probabilities"][name] for name in CLASSES]


def error_of(answer, status):
    assert answer.status_code == status, answer.text
    told = answer.json()["error"]
    assert list(told) == ["reason", "expected", "received", "hint"]
    return told


# what is answered


def test_one_raw_image(client):
    pixels, files = pictures(1)
    answer = client.post("/predict?probabilities=true", content=files[0], headers=PNG)
    (row,) = rows_of(answer)
    np.testing.assert_allclose(numbers(row), probabilities(pixels)[0], atol=1e-5)
    best = max(row["probabilities"].items(), key=lambda pair: pair[1])
    assert row["top"][0] == {"class": best[0], "probability": best[1]}
    assert (len(row["top"]), row["sure"], answer.json()["model"]) == (3, None, "toy")
    assert answer.headers["content-type"] == "application/json"


def test_the_same_numbers_as_the_predictor_in_every_way_to_send_an_image(client, predictor):
    kinds = [("JPEG", 300, 200), ("PNG", 8, 8), ("WEBP", 100, 80), ("BMP", 9, 30), ("GIF", 64, 65), ("TIFF", 40, 40)]
    files = [encoded(drawn(i, height, width), kind) for i, (kind, height, width) in enumerate(kinds)]
    wanted = predictor.predict(files)
    texts = [base64.b64encode(data).decode() for data in files]
    many = client.post("/predict?probabilities=true", files=[("file", (f"{i}", data)) for i, data in enumerate(files)])
    as_json = client.post("/predict?probabilities=true", json={"images": texts})
    alone = [client.post("/predict?probabilities=true", json={"image": text}) for text in texts]
    raw = [client.post("/predict?probabilities=true", content=data, headers={"content-type": "image/*"}) for data in files]
    for found in (rows_of(many), rows_of(as_json), [rows_of(each)[0] for each in alone], [rows_of(each)[0] for each in raw]):
        np.testing.assert_allclose([numbers(row) for row in found], wanted, atol=1e-5)


def test_names_come_back_in_order(client):
    _, files = pictures(3)
    sent = [("images", ("b.png", files[0])), ("file", ("ä.png", files[1])), ("image", (None, files[2]))]
    assert [row.get("name") for row in rows_of(client.post("/predict", files=sent))] == ["b.png", "ä.png", None]


def test_a_data_url_is_base64_with_a_prefix(client):
    pixels, files = pictures(1)
    text = "data:image/png;base64," + base64.b64encode(files[0]).decode()
    (row,) = rows_of(client.post("/predict?probabilities=true", json={"image": text}))
    np.testing.assert_allclose(numbers(row), probabilities(pixels)[0], atol=1e-5)


def test_top_and_sure(client):
    pixels, files = pictures(1)
    best = float(probabilities(pixels).max())
    for top, sure, told in ((1, best - 0.01, True), (2, best + 0.01, False), (99, 0, True)):
        (row,) = rows_of(client.post(f"/predict?top={top}&sure={sure}", content=files[0], headers=PNG))
        assert (len(row["top"]), row["sure"]) == (min(top, 3), told)
        assert "probabilities" not in row


def test_the_settings_say_what_a_request_does_not(predictor):
    with TestClient(create_app({"toy": predictor}, ServeSettings(top=1, sure_from=0.0))) as client:
        (row,) = rows_of(client.post("/predict", content=pictures(1)[1][0], headers=PNG))
        assert (len(row["top"]), row["sure"]) == (1, True)
        assert client.get("/model").json()["sure_from"] == 0


def test_label_sets(tmp_path):
    model = Predictor(write_toy(tmp_path / "model", label_sets={0.9: 0.3, 0.95: 0.02}), batch=4, threads=1)
    pixels = np.array([[[[255, 0, 0]]], [[[120, 110, 0]]]], np.uint8).repeat(8, 1).repeat(8, 2)
    files = [("file", (f"{i}.png", encoded(Image.fromarray(each), "PNG"))) for i, each in enumerate(pixels)]
    with TestClient(create_app({"toy": model, "old": toy(tmp_path)})) as client:
        rows = rows_of(client.post("/predict?sets=0.9&top=1", files=files))
        assert [row["set"] for row in rows] == [
            {"coverage": 0.9, "classes": ["red"]},
            {"coverage": 0.9, "classes": ["red", "green"]},
        ]
        assert [len(row["top"]) for row in rows] == [1, 1]
        assert model.label_sets(model.predict(pixels), 0.95) == [
            tuple(row["set"]["classes"]) for row in rows_of(client.post("/predict?sets=0.95", files=files))
        ]
        assert all("set" not in row for row in rows_of(client.post("/predict", files=files)))
        assert [client.get(f"/model?model={name}").json()["coverages"] for name in ("toy", "old")] == [[0.9, 0.95], []]
        told = error_of(client.post("/predict?sets=0.5", files=files), 422)
        assert (told["expected"], told["received"]) == ("one of 0.9, 0.95", "0.5")
        told = error_of(client.post("/predict?sets=0.9&model=old", files=files), 422)
        assert "keeps no thresholds for label sets" in told["reason"]
        for wrong in ("0", "1", "95", "nan", "most"):
            error_of(client.post(f"/predict?sets={wrong}", files=files), 422)


def test_models_by_name(client):
    data = pictures(1)[1][0]
    assert client.post("/predict?model=again", content=data, headers=PNG).json()["model"] == "again"
    assert client.get("/model").json()["models"] == ["toy", "again"]
    told = error_of(client.post("/predict?model=agian", content=data, headers=PNG), 404)
    assert "again" in told["hint"]
    assert error_of(client.get("/model?model=none"), 404)["received"] == "none"


def test_one_bad_image_among_several_is_a_row(client):
    _, files = pictures(2)
    sent = [("file", ("a", files[0])), ("file", ("text", b"no image at all")), ("file", ("cut", files[1][:60]))]
    good, text, cut = rows_of(client.post("/predict", files=sent))
    assert good["top"]
    assert text["name"] == "text"
    assert text["error"]["received"] == "not an image: text"
    assert "broken" in cut["error"]["reason"]
    bad = rows_of(client.post("/predict", files=sent[1:]))
    assert [set(row) for row in bad] == [{"name", "error"}] * 2


def test_the_card(client, predictor):
    told = client.get("/model").json()
    assert told["classes"] == list(CLASSES)
    assert told["digest"] == predictor.card.digest
    assert told["preprocess"]["stored"] == [8, 8]
    assert told["limits"] == {"request_bytes": 200_000, "images": 10, "pixels": 1_000_000, "seconds": 30.0}


def test_states_and_counts(client):
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ready"}
    client.post("/predict", content=b"", headers=PNG)
    text = client.get("/metrics").text
    for line in (
        'frostline_requests_total{route="/predict",status="400"}',
        "frostline_batch_images_count",
        "frostline_queue_images 0.0",
    ):
        assert line in text


def test_not_ready_before_the_start_and_after_the_stop(predictor):
    app = create_app({"toy": predictor})
    client = TestClient(app)
    assert client.get("/readyz").status_code == 503
    with TestClient(app) as inside:
        assert inside.get("/readyz").status_code == 200
    assert client.get("/readyz").status_code == 503
    assert client.get("/healthz").status_code == 200


def test_the_description_has_every_route_and_examples(client):
    told = client.get("/openapi.json").json()
    assert {"/predict", "/model", "/healthz", "/readyz", "/metrics", "/v2/models/{name}/infer"} <= set(told["paths"])
    predict = told["paths"]["/predict"]["post"]
    assert set(predict["requestBody"]["content"]) >= {"multipart/form-data", "application/json", "image/jpeg"}
    example = predict["requestBody"]["content"]["application/json"]["example"]
    assert rows_of(client.post("/predict", json=example))[0]["top"]
    assert {"400", "401", "413", "415", "422", "503"} <= set(predict["responses"])


def test_the_page_of_routes_needs_no_other_host(client):
    told, page = client.get("/openapi.json").json(), client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert all(html.escape(path) in page.text for path in told["paths"])
    assert not re.search(r"https?://|<script|<link|@import", page.text)
    example = told["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["example"]
    assert html.escape(json.dumps(example, indent=2)) in page.text


# what is refused


@pytest.mark.parametrize(
    ("body", "kind", "status", "said"),
    [
        (b"", "image/png", 400, "empty"),
        (b"", "application/json", 400, "empty"),
        (b"{", "application/json", 400, "not JSON"),
        (b"[" * 100_000, "application/json", 400, "not JSON"),
        (b'{"a": NaN}', "application/json", 400, "not JSON"),
        (b"\xff\xfe", "application/json", 400, "not JSON"),
        (b"--x", "multipart/form-data; boundary=x", 400, "multipart"),
        (b"--x--", "multipart/form-data; boundary=x", 400, "no images"),
        (b"--x\r\n\r\n\r\n" * 15_000 + b"--x--\r\n", "multipart/form-data; boundary=x", 413, "too many images"),
        (b'{"image": "\\ud800"}', "application/json", 422, "not base64"),
        (b'{"\\ud800": 1}', "application/json", 422, "no images"),
        (b"nothing", "multipart/form-data", 400, "multipart"),
        (b"--x\r\n\r\n\r\n--y--\r\n", "multipart/form-data; boundary=x", 400, "multipart"),
        (b"text", "image/png", 415, "not an image"),
        (b"text", "text/plain", 415, "kind"),
        (b"text", "", 415, "kind"),
        (b"RIFF____WEBP", "image/webp", 422, "broken"),
        (b"\xff\xd8\xff cut", "image/jpeg", 422, "broken"),
        (b"GIF89a", "application/octet-stream", 422, "broken"),
        (b"%PDF-1.7", "image/png", 415, "a PDF"),
        (b"<svg></svg>", "image/svg+xml", 415, "SVG"),
        (png_bomb(), "image/png", 413, "30000 x 30000"),
        (b"1", "application/json", 422, "no images"),
        (b"[]", "application/json", 422, "no images"),
        (b"{}", "application/json", 422, "no images"),
        (b'{"images": []}', "application/json", 422, "list of texts"),
        (b'{"images": [1]}', "application/json", 422, "list of texts"),
        (b'{"images": "aGk="}', "application/json", 422, "list of texts"),
        (b'{"image": ["aGk="]}', "application/json", 422, "list of texts"),
        (b'{"image": "a", "images": ["b"]}', "application/json", 422, "no images"),
        (b'{"image": "not base64"}', "application/json", 422, "base64"),
        (b'{"image": "https://example.org/a.png"}', "application/json", 422, "URLs are not fetched"),
        (b'{"image": "file:///etc/passwd"}', "application/json", 422, "URLs are not fetched"),
        (b'{"image": "aGVsbG8="}', "application/json", 415, "not an image"),
        (b"[" * 300_000, "application/json", 413, "too"),
    ],
)
def test_bodies_that_are_refused(client, body, kind, status, said):
    answer = client.post("/predict", content=body, headers={"content-type": kind} if kind else {})
    told = error_of(answer, status)
    assert said in json.dumps(told)


def test_too_much_of_anything(client):
    _, files = pictures(11)
    assert "10" in error_of(client.post("/predict", files=[("file", data) for data in files]), 413)["expected"]
    texts = [base64.b64encode(data).decode() for data in files]
    assert error_of(client.post("/predict", json={"images": texts}), 413)["received"] == "11"
    assert "200,000 bytes" in error_of(client.post("/predict", content=bytes(200_001), headers=PNG), 413)["expected"]
    unannounced = client.post("/predict", content=iter([bytes(150_000)] * 3), headers=PNG)
    assert "200,000 bytes" in error_of(unannounced, 413)["expected"]
    lying = client.post("/predict", content=b"1", headers={**PNG, "content-length": "9" * 30})
    assert "too large" in error_of(lying, 413)["reason"]
    wide = Image.new("1", (1001, 1000))
    assert "1001 x 1000" in error_of(client.post("/predict", content=encoded(wide, "PNG"), headers=PNG), 413)["reason"]


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ("top=0", "query.top"),
        ("top=x", "query.top"),
        ("sure=2", "query.sure"),
        ("sure=nan", "query.sure"),
        ("probabilities=7", "query"),
    ],
)
def test_parameters_that_are_refused(client, query, where):
    told = error_of(client.post(f"/predict?{query}", content=pictures(1)[1][0], headers=PNG), 422)
    assert told["reason"].startswith(where)


def test_compressed_bodies_are_not_read(client):
    answer = client.post("/predict", content=b"\x1f\x8b", headers={**PNG, "content-encoding": "gzip"})
    assert error_of(answer, 415)["received"] == "gzip"


def test_fields_that_are_no_files(client):
    told = error_of(client.post("/predict", files={"file": pictures(1)[1][0]}, data={"top": "3"}), 422)
    assert (told["received"], "query" in told["expected"]) == ("top", True)


def test_unknown_routes_and_methods(client):
    assert error_of(client.get("/nothing"), 404)["hint"]
    answer = client.get("/predict")
    assert error_of(answer, 405)["hint"]
    assert answer.headers["allow"] == "POST"


def test_a_failure_of_ours_is_told_without_its_traceback(predictor):
    class Broken(Paced):
        def stored(self, blocks):
            raise RuntimeError("a secret")

    with TestClient(create_app({"toy": Broken(predictor)}), raise_server_exceptions=False) as client:
        answer = client.post("/predict", content=pictures(1)[1][0], headers=PNG)
        assert error_of(answer, 500)["reason"] == "The service failed; its log says how."
        assert "secret" not in answer.text
        assert 'status="500"' in client.get("/metrics").text


def test_an_answer_that_takes_too_long(predictor):
    paced = Paced(predictor)
    paced.gate.clear()
    with TestClient(create_app({"toy": paced}, ServeSettings(timeout_s=0.05))) as client:
        answer = client.post("/predict", content=pictures(1)[1][0], headers=PNG)
        assert error_of(answer, 503)["reason"] == "The answer took too long."
        assert answer.headers["retry-after"] == "1"
        paced.gate.set()


def test_there_must_be_a_model():
    with pytest.raises(ValueError, match="needs a model"):
        create_app({})
