"""Over real sockets: slow clients, vanished clients, huge heads, an overload, and a stop that loses nothing."""

import contextlib
import json
import socket
import threading
import time

import httpx
import numpy as np
import pytest
from served import Paced, live, pictures, toy
from toymodel import CLASSES, probabilities

from frostline.serve.api import create_app
from frostline.serve.settings import ServeSettings

PNG = {"content-type": "image/png"}


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    return toy(tmp_path_factory.mktemp("toy"))


def wait_until(condition, seconds=20.0):
    """Until something holds; a test that hangs is one that fails."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def connected(port):
    return contextlib.closing(socket.create_connection(("127.0.0.1", port), timeout=20))


def all_of(connection):
    """Whatever is answered until the connection is closed."""
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            found += part
    return found


def head(length, more=""):
    return f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: {length}\r\n{more}\r\n".encode()


def test_a_body_that_comes_too_slowly(predictor):
    with live(create_app({"toy": predictor}, ServeSettings(timeout_s=0.2))) as port, connected(port) as slow:
        slow.sendall(head(1000) + b"a few bytes")
        said = all_of(slow)
        assert said.startswith(b"HTTP/1.1 408 ")
        assert b"too slowly" in said
        assert httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200


@pytest.mark.parametrize("sent", [b"", b"POST /pre", b"POST /predict HTTP/1.1\r\nHost: x\r\nA: "])
def test_a_head_that_never_ends(predictor, sent):
    with live(create_app({"toy": predictor}), patience_s=0.05) as port, connected(port) as slow:
        slow.sendall(sent)
        assert all_of(slow) == b""


def test_a_huge_head(predictor):
    with live(create_app({"toy": predictor})) as port, connected(port) as huge:
        with contextlib.suppress(ConnectionError):
            huge.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 200_000)
        said = all_of(huge)
        assert said == b"" or (said.startswith(b"HTTP/1.1 400 ") and b'"reason": "Invalid HTTP' in said)
        assert httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200


def test_what_is_no_http_is_told_so_in_json(predictor):
    with live(create_app({"toy": predictor})) as port, connected(port) as strange:
        strange.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        start, _, body = all_of(strange).partition(b"\r\n\r\n")
        assert start.startswith(b"HTTP/1.1 400 ")
        assert b"application/json" in start
        assert json.loads(body)["error"]["reason"].startswith("Invalid HTTP")


def test_a_large_body_is_refused_before_it_comes(predictor):
    with live(create_app({"toy": predictor}, ServeSettings(max_request_bytes=1000))) as port, connected(port) as large:
        large.sendall(head(10**9))
        assert large.recv(65536).startswith(b"HTTP/1.1 413 ")


def test_all_bodies_together_are_bounded(predictor):
    app = create_app({"toy": predictor}, ServeSettings(max_request_bytes=1000, timeout_s=20))
    with live(app) as port, contextlib.ExitStack() as opened:
        for _ in range(8):
            opened.enter_context(connected(port)).sendall(head(1000) + bytes(999))
        wait_until(lambda: app.state.bodies.held == 8 * 999)
        answer = httpx.post(f"http://127.0.0.1:{port}/predict", content=bytes(100), headers=PNG)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        opened.close()
        wait_until(lambda: app.state.bodies.held == 0)


def test_the_work_of_a_client_that_went_away_is_dropped(predictor):
    paced = Paced(predictor)
    paced.gate.clear()
    app = create_app({"toy": paced})
    batcher = app.state.service.default.batcher
    data = pictures(1)[1][0]
    with live(app) as port, connected(port) as first:
        first.sendall(head(len(data)) + data)
        wait_until(lambda: batcher.computing == 1)
        with connected(port) as second:
            second.sendall(head(len(data)) + data)
            wait_until(lambda: batcher.waiting == 1)
        wait_until(lambda: batcher.waiting == 0)
        assert batcher.claimed == 1
        paced.gate.set()
        assert first.recv(100).startswith(b"HTTP/1.1 200 ")
    assert sum(paced.blocks) == 1


def ask(port, data, turns, found):
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        for _ in range(turns):
            found.append(client.post("/predict?probabilities=true", content=data, headers=PNG))


def right(answer, wanted):
    (row,) = answer.json()["predictions"]
    return np.abs(np.array([row["probabilities"][name] for name in CLASSES]) - wanted).max() < 1e-4


def test_an_overload_is_answered_rightly_or_refused_at_once_and_passes(predictor):
    paced = Paced(predictor, seconds=0.02)
    pixels, files = pictures(24)
    app = create_app({"toy": paced}, ServeSettings(queue_size=8))
    found = [[] for _ in files]
    with live(app) as port:
        threads = [threading.Thread(target=ask, args=(port, data, 6, kept)) for data, kept in zip(files, found, strict=True)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        statuses = [answer.status_code for kept in found for answer in kept]
        assert set(statuses) == {200, 503}
        assert len(statuses) == 24 * 6
        for kept, wanted in zip(found, probabilities(pixels), strict=True):
            assert all(right(answer, wanted) for answer in kept if answer.status_code == 200)
            assert all(answer.headers["retry-after"] == "1" for answer in kept if answer.status_code == 503)
        after = httpx.post(f"http://127.0.0.1:{port}/predict", content=files[0], headers=PNG)
        assert after.status_code == 200
        assert app.state.service.default.batcher.claimed == 0
        assert app.state.bodies.held == 0


def test_a_full_queue_is_told_before_the_body_comes(predictor):
    paced = Paced(predictor)
    paced.gate.clear()
    app = create_app({"toy": paced}, ServeSettings(queue_size=1))
    data = pictures(1)[1][0]
    with live(app) as port, connected(port) as first, connected(port) as second:
        first.sendall(head(len(data)) + data)
        wait_until(lambda: app.state.service.default.batcher.full)
        second.sendall(head(10_000))
        assert second.recv(65536).startswith(b"HTTP/1.1 503 ")
        paced.gate.set()
        assert first.recv(100).startswith(b"HTTP/1.1 200 ")


def test_a_stop_under_load_answers_what_came(predictor):
    """Connections that are open when the server stops: each request sent on them is answered, and the last answer says so."""
    paced = Paced(predictor, seconds=0.01)
    pixels, files = pictures(6)
    answers, failures = [[] for _ in files], []

    def keep_asking(port, data, kept):
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            while True:
                try:
                    kept.append(client.post("/predict?probabilities=true", content=data, headers=PNG))
                except httpx.ConnectError:  # nobody listens any more: this request was never accepted
                    return
                except httpx.HTTPError as error:
                    failures.append(error)
                    return
                if kept[-1].headers.get("connection") == "close":
                    return

    with live(create_app({"toy": paced}), linger_s=1.0) as port:
        sent = list(zip(files, answers, strict=True))
        threads = [threading.Thread(target=keep_asking, args=(port, data, kept)) for data, kept in sent]
        for thread in threads:
            thread.start()
        wait_until(lambda: all(len(kept) >= 3 for kept in answers))
    for thread in threads:
        thread.join()
    assert failures == []
    for kept, wanted in zip(answers, probabilities(pixels), strict=True):
        assert all(answer.status_code == 200 and right(answer, wanted) for answer in kept)
        assert kept[-1].headers["connection"] == "close"


def test_an_idle_connection_may_still_ask_when_the_server_stops(predictor):
    data = pictures(1)[1][0]
    app = create_app({"toy": predictor})
    with contextlib.ExitStack() as opened:
        with live(app, linger_s=3.0) as port:
            idle = opened.enter_context(connected(port))
            idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            said = b""
            while not said.endswith(b"}"):  # the head and the body may come apart
                said += idle.recv(65536)
            assert said.startswith(b"HTTP/1.1 200 ")

            def after_the_stop():
                with contextlib.suppress(ConnectionRefusedError, ConnectionResetError):  # reset: while the listener closes
                    while True:
                        socket.create_connection(("127.0.0.1", port), timeout=5).close()
                idle.sendall(head(len(data)) + data)

            thread = threading.Thread(target=after_the_stop)
            thread.start()
        said = all_of(idle)
        thread.join()
    assert said.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in said.lower()
    assert json.loads(said.partition(b"\r\n\r\n")[2])["predictions"][0]["top"]


def test_a_client_that_takes_nothing_of_its_answer_is_broken_off():
    """An answer larger than all buffers on its way, and nobody who reads it."""
    ended = threading.Event()

    async def app(scope, receive, send):
        if scope["type"] != "http":
            return
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(4000):
                await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            ended.set()

    with live(app, patience_s=0.05) as port, connected(port) as silent:
        silent.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert ended.wait(20)


def test_what_comes_slowly_out_is_not_broken_off():
    async def app(scope, receive, send):
        if scope["type"] != "http":
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(200):
            await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    with live(app, patience_s=0.2) as port, connected(port) as slow:
        slow.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        read = 0
        while part := slow.recv(65536):
            read += len(part)
            time.sleep(0.003)
        assert read > 200 * 65536


def test_what_is_no_http_behind_a_refused_request_closes_and_logs_nothing(predictor, caplog):
    app = create_app({"toy": predictor}, ServeSettings(max_request_bytes=1000))
    with live(app) as port, connected(port) as strange:
        strange.sendall(b"POST /nothing HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert strange.recv(65536).startswith(b"HTTP/1.1 404 ")
        with contextlib.suppress(ConnectionError):
            strange.sendall(b"no length\r\n")
            all_of(strange)
    assert "LocalProtocolError" not in caplog.text
