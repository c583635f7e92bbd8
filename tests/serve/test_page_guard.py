"""What of Gradio is reachable: exactly what the page needs."""

import asyncio
import json

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from frostline.serve import page_guard
from frostline.serve.page_guard import LEAST_COUNTED, Guard, kept
from frostline.serve.page_receiving import LARGEST_CALL
from frostline.serve.page_unread import MOST_SESSIONS, MOST_UNREAD, Unread


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(page_guard, "LEAST_COUNTED", 0)
    place = tmp_path / "page"
    place.mkdir()
    (place / "mine.png").write_bytes(b"1234")
    (tmp_path / "secret.txt").write_text("not yours")
    return place


@pytest.fixture
def client(folder):
    async def echo(request: Request) -> PlainTextResponse:
        return PlainTextResponse(await request.body())

    inner = Starlette(routes=[Route("/{path:path}", echo, methods=["GET", "POST", "PUT", "DELETE"])])
    return TestClient(guard(inner, folder))


def guard(inner, folder, timeout_s=30.0, lifetime_s=60.0):
    sizes = {"largest_upload": 1000, "most_kept": 2000}
    return Guard(inner, folder=folder, received=folder, lifetime_s=lifetime_s, timeout_s=timeout_s, **sizes)


@pytest.mark.parametrize(
    "path", ["/", "/config", "/theme.css", "/assets/index.js", "/gradio_api/info", "/gradio_api/queue/data?session_hash=x"]
)
def test_what_the_page_needs_is_there(client, path):
    answer = client.get(path)
    assert answer.status_code == 200
    assert "default-src 'self'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/proxy=https://example.org/x",
        "/gradio_api/file=https://example.org/x",
        "/gradio_api/file/etc/passwd",
        "/gradio_api/stream/a/b/1/playlist-file",
        "/gradio_api/runs",
        "/gradio_api/vibe-code",
        "/gradio_api/openapi.json",
        "/gradio_api/custom_component/a/client/b/c.js",
        "/monitoring",
        "/pwa_icon/100000",
        "/login_check",
        "/svelte/x",
    ],
)
def test_the_rest_of_gradio_is_not(client, path):
    answer = client.get(path)
    assert (answer.status_code, "error" in answer.json()) == (404, True)


@pytest.mark.parametrize("method", ["put", "delete", "patch", "options"])
def test_other_methods_are_not(client, method):
    assert client.request(method, "/gradio_api/upload").status_code == 404


def test_only_the_page_s_own_files_are_given(client, folder):
    assert client.get(f"/gradio_api/file={folder}/mine.png").status_code == 200
    for name in (
        "/etc/passwd",
        f"{folder}/../secret.txt",
        f"{folder}/%2e%2e/secret.txt",
        str(folder),
        f"{folder}/none.png",
        "x%00y",
    ):
        assert client.get(f"/gradio_api/file={name}").status_code == 404, name


def test_a_link_that_leads_outside_is_no_file_of_the_page(client, folder):
    (folder / "link").symlink_to(folder.parent / "secret.txt")
    assert client.get(f"/gradio_api/file={folder}/link").status_code == 404


def test_a_call_passes_whole_and_once(client, folder):
    path = f"{folder}/mine.png"
    call = {"data": [{"path": path, "url": f"http://here/gradio_api/file={path}"}, "http://is only text", {"other": None}]}
    answer = client.post("/gradio_api/queue/join", json=call)
    assert (answer.status_code, json.loads(answer.content)) == (200, call)


@pytest.mark.parametrize("path", ["http://169.254.169.254/latest", "https://example.org/x.png", "/etc/passwd", "", None, 7, "x\0y"])
def test_a_call_names_nothing_but_files_of_the_page(client, path):
    for call in ({"data": [{"path": path}]}, {"data": [[{"a": {"path": path, "meta": {}}}]]}):
        answer = client.post("/gradio_api/call/predict", json=call)
        assert (answer.status_code, answer.json()["error"]["expected"]) == (422, "a file that was uploaded here")


def test_a_call_that_is_too_large_or_no_json_is_refused(client):
    assert client.post("/gradio_api/queue/join", content=b"x" * (LARGEST_CALL + 1)).status_code == 413
    assert client.post("/gradio_api/queue/join", content=b"{not json").status_code == 400
    assert client.post("/gradio_api/queue/join", content=b"[" * 500_000).status_code == 400


def test_uploads_are_bounded(client, folder):
    assert client.post("/gradio_api/upload", content=b"x" * 1000).status_code == 200
    too_large = client.post("/gradio_api/upload", content=b"x" * 1001)
    assert (too_large.status_code, too_large.json()["error"]["received"]) == (413, "1,001 bytes")
    assert client.post("/gradio_api/upload", content=iter([b"x"])).status_code == 411
    (folder / "more").write_bytes(b"x" * 1500)
    full = client.post("/gradio_api/upload", content=b"x" * 900)
    assert (full.status_code, full.headers["retry-after"]) == (503, "60")
    assert kept(folder) == 1504


def test_an_upload_in_chunks_has_no_length_whatever_it_says(client):
    headers = {"Content-Length": "1", "Transfer-Encoding": "chunked"}
    assert client.post("/gradio_api/upload", content=iter([b"x" * 5000]), headers=headers).status_code == 411


def posted(path, size):
    return {"type": "http", "method": "POST", "path": path, "headers": [(b"content-length", str(size).encode())]}


def test_uploads_on_their_way_have_room_reserved(folder):
    """A third that would fit alone is refused while the others arrive."""

    async def both():
        go_on, answers = asyncio.Event(), []

        async def slow(scope, receive, send):
            await go_on.wait()

        async def nothing():
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message):
            answers.append(message)

        guarded = guard(slow, folder)
        first = asyncio.create_task(guarded(posted("/gradio_api/upload", 900), nothing, send))
        second = asyncio.create_task(guarded(posted("/gradio_api/upload", 900), nothing, send))
        await asyncio.sleep(0)
        await guarded(posted("/gradio_api/upload", 500), nothing, send)
        go_on.set()
        await asyncio.gather(first, second)
        assert guarded.announced == 0
        return answers

    assert [message["status"] for message in asyncio.run(both()) if "status" in message] == [503]


@pytest.mark.parametrize("path", ["/gradio_api/upload", "/gradio_api/queue/join"])
def test_a_body_that_does_not_come_is_not_waited_for(folder, path):
    async def wait():
        answers, reads = [], []

        async def reading(scope, receive, send):
            while (message := await receive())["type"] != "http.disconnect":
                reads.append(message)
            (folder / "part").write_bytes(b"part")
            raise RuntimeError("the client has gone")

        async def never():
            await asyncio.sleep(3600)

        async def send(message):
            answers.append(message)

        guarded = guard(reading, folder, timeout_s=0.02, lifetime_s=0.05)
        await guarded(posted(path, 10), never, send)
        await asyncio.sleep(0.3)  # what was left of an upload is swept
        return [message["status"] for message in answers if "status" in message]

    assert asyncio.run(wait()) == [408]
    assert not (folder / "part").exists()


def test_a_websocket_is_closed(client):
    from starlette.websockets import WebSocketDisconnect

    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/gradio_api/queue/join"):
        pass


def test_what_gradio_fails_on_is_the_request_s_fault(folder, caplog):
    async def failing(request: Request) -> PlainTextResponse:
        raise KeyError("x")

    async def refusing(request: Request) -> PlainTextResponse:
        return PlainTextResponse("busy", 503)

    routes = [Route("/gradio_api/queue/join", refusing, methods=["POST"]), Route("/{path:path}", failing, methods=["GET", "POST"])]
    client = TestClient(guard(Starlette(routes=routes), folder))
    for answer in (
        client.post("/gradio_api/call/nosuch", json={"data": []}),
        client.post("/gradio_api/upload", content=b"x", headers={"content-type": "text/plain"}),
        client.get("/gradio_api/info"),
    ):
        assert (answer.status_code, "error" in answer.json()) == (400, True)
    assert f"KeyError in {__file__}:" in caplog.text
    assert client.post("/gradio_api/queue/join", json={}).status_code == 503


def test_what_the_system_fails_at_is_not_the_request_s_fault(folder):
    async def full(request: Request) -> PlainTextResponse:
        raise OSError(28, "No space left on device")

    client = TestClient(guard(Starlette(routes=[Route("/{path:path}", full, methods=["POST"])]), folder))
    answer = client.post("/gradio_api/upload", content=b"x")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "60")


def test_an_answer_that_breaks_off_ends(folder):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise KeyError("x")

    answer = TestClient(guard(app, folder)).get("/gradio_api/info")
    assert (answer.status_code, answer.content) == (200, b"half")


def test_a_session_that_reads_no_answers_may_not_call_on(client):
    def call(session):
        return client.post("/gradio_api/queue/join", json={"data": [], "session_hash": session}).status_code

    assert [call("x") for _ in range(MOST_UNREAD + 2)] == [200] * MOST_UNREAD + [429] * 2
    assert call("y") == 200
    assert client.get("/gradio_api/queue/data?session_hash=x").status_code == 200
    assert call("x") == 200


def test_while_answers_are_read_calls_are_not_counted():
    unread = Unread()
    with unread.reading(b"session_hash=x"):
        for _ in range(2 * MOST_UNREAD):
            unread.count("x")
    for number in range(3000):
        unread.count(f"session {number}")
    assert len(unread._calls) == MOST_SESSIONS
    assert unread._reading == {}


def test_a_small_file_counts_as_more(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "large").write_bytes(bytes(LEAST_COUNTED + 1))
    assert kept(tmp_path) == 2 * LEAST_COUNTED + 1


def test_what_gradio_keeps_for_sessions_is_bounded():
    gradio = pytest.importorskip("gradio", reason="Gradio (extra page) is not installed")
    from frostline.serve.page_gradio import bound_what_waits

    with gradio.Blocks() as page:
        pass
    bound_what_waits(page)
    for number in range(5000):
        page._queue.pending_messages_per_session[str(number)] = number
        page._queue.pending_event_ids_session[str(number)] = {str(number)}
    assert len(page._queue.pending_messages_per_session) == 128
    assert len(page._queue.pending_event_ids_session) == 1280


def test_an_address_of_the_service_says_which_methods_it_takes(folder):
    async def nothing(request: Request) -> PlainTextResponse:
        return PlainTextResponse("")

    sizes = {"largest_upload": 1, "most_kept": 1, "lifetime_s": 1.0, "timeout_s": 1.0}
    routes = [Route("/predict", nothing, methods=["POST"]), Route("/v2/models/{name}/infer", nothing, methods=["POST"])]
    app = Starlette(routes=routes)
    app.mount("/", Guard(Starlette(), folder=folder, received=folder, routes=tuple(app.routes), **sizes))
    client = TestClient(app)
    for path, method in (("/predict", "GET"), ("/v2/models/m/infer", "PUT"), ("/predict", "DELETE")):
        answer = client.request(method, path)
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert client.get("/elsewhere").status_code == 404
    assert client.post("/predict").status_code == 200


def test_folders_do_not_count_and_are_deleted_with_what_is_old(folder):
    made = guard(Starlette(), folder, lifetime_s=-1.0)  # everything is old
    icon = folder / "a" / "icon.png"
    for path in (icon, folder / "b" / "part"):
        path.parent.mkdir()
        path.write_bytes(b"123")
    for number in range(50):
        (folder / f"empty {number}").mkdir()
    assert kept(folder) == 4 + 3 + 3
    made.keep = frozenset({icon.resolve()})
    made._sweep()
    assert [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*"))] == ["a", "a/icon.png"]


def test_what_is_new_stays(folder):
    (folder / "empty").mkdir()
    guard(Starlette(), folder)._sweep()
    assert {path.name for path in folder.iterdir()} == {"mine.png", "empty"}


def test_gradio_s_leave_for_other_origins_is_taken_back(folder):
    async def open_to_all(request: Request) -> PlainTextResponse:
        return PlainTextResponse("", headers={"Access-Control-Allow-Origin": "https://example.org", "X-Own": "1"})

    client = TestClient(guard(Starlette(routes=[Route("/{path:path}", open_to_all)]), folder))
    answer = client.get("/config", headers={"origin": "https://example.org"})
    assert (answer.status_code, answer.headers["x-own"]) == (200, "1")
    assert not [name for name in answer.headers if name.startswith("access-control")]
