"""The key, the identity of a request, its line in the log; CORS off."""

import base64
import io
import json
import logging
import threading
import time

import pytest
from served import pictures, toy
from starlette.testclient import TestClient

from frostline.serve import logs
from frostline.serve.api import create_app
from frostline.serve.settings import ServeSettings

KEY = "a long key"


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    return toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def client(predictor):
    with TestClient(create_app({"toy": predictor}, ServeSettings(api_key=KEY))) as client:
        yield client


def basic(text):
    return {"authorization": "Basic " + base64.b64encode(text.encode()).decode()}


@pytest.mark.parametrize(
    "headers", [{"x-api-key": KEY}, {"authorization": f"Bearer {KEY}"}, {"authorization": f"bearer {KEY}"}, basic(f"anyone:{KEY}")]
)
def test_with_the_key(client, headers):
    assert client.get("/model", headers=headers).status_code == 200
    assert client.get("/v2/models/toy", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-api-key": ""},
        {"x-api-key": KEY[:-1]},
        {"x-api-key": KEY + "x"},
        {"authorization": KEY},
        {"authorization": f"Bearer x{KEY}"},
        {"authorization": "Basic !"},
        {"authorization": "Basic"},
        basic(KEY),
        basic(f"{KEY}:"),
    ],
)
@pytest.mark.parametrize("path", ["/model", "/metrics", "/docs", "/openapi.json", "/v2/models/toy", "/nothing"])
def test_without_it(client, headers, path):
    answer = client.get(path, headers=headers)
    assert answer.status_code == 401
    assert "Basic" in answer.headers["www-authenticate"]
    error = answer.json()["error"]
    assert (error if path.startswith("/v2") else error["reason"]).startswith("This service needs a key.")


def test_its_description_says_how_it_is_shown(client, predictor):
    told = client.get("/openapi.json", headers={"x-api-key": KEY}).json()
    shown = told["components"]["securitySchemes"]
    assert {scheme.get("name", scheme.get("scheme")) for scheme in shown.values()} == {"X-API-Key", "bearer", "basic"}
    assert sorted(name for need in told["security"] for name in need) == sorted(shown)
    open_ones = {path for path, methods in told["paths"].items() if all(each.get("security") == [] for each in methods.values())}
    assert open_ones == {"/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"}
    assert "security" not in create_app({"toy": predictor}).openapi()


def test_bodies_are_not_read_without_it(client):
    assert client.post("/predict", content=iter([b"x"])).status_code == 401


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"])
def test_balancers_need_none(client, path):
    assert client.get(path).status_code == 200


def test_a_web_socket_is_not_opened_without_it(client):
    from starlette.websockets import WebSocketDisconnect

    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/"):
        pass


def test_a_line_for_each_request_without_what_was_in_it(predictor, caplog):
    data = pictures(1)[1][0]
    with TestClient(create_app({"toy": predictor})) as client, caplog.at_level(logging.INFO, "frostline.requests"):
        answer = client.post("/predict?top=2&secret=typed", content=data, headers={"content-type": "image/png"})
    (record,) = caplog.records
    line = json.loads(logs.JsonLines().format(record))
    assert line["request"] == answer.headers["x-request-id"]
    assert {key: line[key] for key in ("method", "path", "status", "model", "images", "bytes")} == {
        "method": "POST",
        "path": "/predict",
        "status": 200,
        "model": "toy",
        "images": 1,
        "bytes": len(data),
    }
    assert "typed" not in json.dumps(line)
    assert line["ms"] > 0


def test_a_traceback_is_one_line():
    try:
        raise ValueError("two\nlines")
    except ValueError:
        record = logging.getLogger("x").makeRecord("x", logging.ERROR, "", 0, "failed", (), __import__("sys").exc_info())
    line = logs.JsonLines().format(record)
    assert "\n" not in line
    assert "ValueError" in json.loads(line)["error"]


def said(level, text, name="frostline.requests"):
    return logging.getLogger(name).makeRecord(name, level, "", 0, text, (), None)


def together():
    handler = logs.Together(stream := io.StringIO())
    handler.setFormatter(logs.JsonLines())
    return handler, stream


def events(stream):
    return [json.loads(line)["event"] for line in stream.getvalue().splitlines()]


def test_lines_of_requests_are_written_together_and_in_order_with_all_others(monkeypatch):
    monkeypatch.setattr(logs, "TOGETHER_S", 3600)
    handler, stream = together()
    handler.handle(said(logging.INFO, "one"))
    handler.handle(said(logging.INFO, "two"))
    assert stream.getvalue() == ""
    handler.handle(said(logging.INFO, "the server stops", "uvicorn.error"))
    assert events(stream) == ["one", "two", "the server stops"]
    handler.handle(said(logging.WARNING, "three"))
    handler.handle(said(logging.INFO, "four"))
    handler.flush()  # as logging does when the program ends
    assert events(stream)[3:] == ["three", "four"]


def test_a_line_alone_is_written_soon_and_many_do_not_pile_up(monkeypatch):
    handler, stream = together()
    for text in ("alone", "again"):
        handler.handle(said(logging.INFO, text))
        deadline = time.monotonic() + 30
        while text not in stream.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)
    assert events(stream) == ["alone", "again"]
    monkeypatch.setattr(logs, "TOGETHER_S", 3600)
    monkeypatch.setattr(logs, "MOST_TOGETHER", 3)
    handler, stream = together()
    for text in "abcd":
        handler.handle(said(logging.INFO, text))
    assert events(stream) == ["a", "b", "c"]


def test_a_log_that_nobody_reads_fails_no_request_and_takes_one_thread(monkeypatch):
    class Broken(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    before = threading.active_count()
    handler = logs.Together(Broken())
    handler.setFormatter(logs.JsonLines())
    for number in range(20):
        handler.handle(said(logging.INFO, str(number)))
        handler.handle(said(logging.ERROR, str(number)))
    assert threading.active_count() <= before + 1


def test_without_a_thread_for_it_lines_are_written_at_once(monkeypatch):
    def no_more(*_given, **_options):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(logs.threading, "Thread", no_more)
    handler, stream = together()
    handler.handle(said(logging.INFO, "one"))
    assert events(stream) == ["one"]


def test_other_pages_may_not_call_it_unless_told(predictor):
    asked = {"origin": "https://example.org"}
    with TestClient(create_app({"toy": predictor})) as client:
        assert "access-control-allow-origin" not in client.get("/healthz", headers=asked).headers
    with TestClient(create_app({"toy": predictor}, ServeSettings(cors_origins=("https://example.org",)))) as client:
        assert client.get("/healthz", headers=asked).headers["access-control-allow-origin"] == "https://example.org"
        assert "access-control-allow-origin" not in client.get("/healthz", headers={"origin": "https://other.org"}).headers


def test_a_page_that_may_call_it_may_send_its_key(predictor):
    """The browser asks before, without the key."""
    settings = ServeSettings(cors_origins=("https://example.org",), api_key="secret")
    asked = {"origin": "https://example.org", "access-control-request-method": "POST"}
    wanted = "x-api-key, authorization, content-type, inference-header-content-length"
    with TestClient(create_app({"toy": predictor}, settings)) as client:
        answer = client.options("/predict", headers={**asked, "access-control-request-headers": wanted})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "https://example.org")
        assert client.options("/predict", headers={**asked, "access-control-request-headers": "x-other"}).status_code == 400
        refused = client.get("/model", headers={"origin": "https://example.org"})
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, "https://example.org")


def test_a_browser_is_asked_by_one_challenge(client):
    """Chromium reads one challenge in a header line, and asks nobody where there are two."""
    assert client.get("/model").headers.get_list("www-authenticate") == ['Basic realm="Frostline"']


def test_what_people_call_their_files_is_not_logged(client, caplog):
    caplog.set_level("INFO", logger="frostline.requests")
    client.get("/gradio_api/file=/tmp/x/my-diagnosis.png")
    (line,) = [record.about for record in caplog.records]
    assert line["path"] == "/gradio_api/file=…"
