"""What of Gradio is reachable: the routes that the page needs, with its own files only, nothing fetched, nothing from elsewhere.

Gradio brings many more routes (a proxy, URLs that the server fetches, monitoring, recordings, saved runs). They answer 404 here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from frostline.serve.gate import respond
from frostline.serve.refusals import Refused

API = "/gradio_api"
FILE = f"{API}/file="
_GET = {"/", "/config", "/theme.css", "/favicon.ico", "/robots.txt", "/manifest.json"} | {
    f"{API}/{name}" for name in ("info", "info/", "queue/data", "startup-events", "upload_progress", "app_id", "theme.css")
}
_GET_BELOW = ("/static/", "/assets/", f"{API}/heartbeat/", f"{API}/call/", FILE)
_POST = {f"{API}/{name}" for name in ("queue/join", "cancel", "reset", "upload")}
#: Bytes of a call: it names files, it does not hold them.
LARGEST_CALL = 2**20

#: Nothing is loaded from elsewhere, whatever Gradio's files ask for. Its own code needs inline scripts and compiles templates.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'"
)
_HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"permissions-policy", b"camera=(self), microphone=(), geolocation=()"),
]


class Guard:
    """Stands before Gradio's application.

    Args:
        app: Gradio's. Keys are checked before it, by the service's own ``Gate``.
        folder: of the page's files: what was sent to it and what it made.
        largest_upload: bytes of one upload.
        most_kept: bytes that may lie in the folder.
    """

    def __init__(self, app: ASGIApp, *, folder: Path, largest_upload: int, most_kept: int) -> None:
        self.app, self.folder, self.largest_upload, self.most_kept = app, folder, largest_upload, most_kept

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            else:  # Gradio's page needs no WebSocket
                await send({"type": "websocket.close", "code": 1008})
            return
        try:
            inner = await self._permitted(scope, receive)
        except Refused as refused:
            await respond(_with_headers(send), refused)
            return
        await self.app(scope, inner, _with_headers(send))

    async def _permitted(self, scope: Scope, receive: Receive) -> Receive:
        """What the application may receive; ``Refused`` for whatever the page does not need."""
        path = scope["path"].removeprefix(scope.get("root_path", "")) or "/"
        if not _needed(scope["method"], path):
            raise Refused(404, "There is nothing here.")
        if path.startswith(FILE):
            self._check_file(path.removeprefix(FILE))
        if scope["method"] != "POST":
            return receive
        if path == f"{API}/upload":
            self._check_room(dict(scope["headers"]))
            return receive
        return await self._call(receive)

    def _check_file(self, name: str) -> None:
        if not self._ours(unquote(name)):
            raise Refused(404, "There is no such file.")

    def _ours(self, name: str) -> bool:
        """Whether a name is that of a file in the page's folder, links followed. No URL is one."""
        try:
            path = Path(name).resolve()
            return path.is_relative_to(self.folder) and path.is_file()
        except (OSError, ValueError, RuntimeError):
            return False

    async def _call(self, receive: Receive) -> Receive:
        """The body of a call, read and looked at, to be received again.

        It may name the page's own files and nothing else: mounted, Gradio (6.31) copies whatever file or URL a call names into the
        folder that it serves from.
        """
        body = await _body(receive)
        if body is None:
            return receive
        try:
            outside = any(not self._ours(path) for path in _paths(json.loads(body or b"null")))
        except (ValueError, RecursionError) as error:
            raise Refused(400, "The call is not JSON.", received=str(error)[:100]) from error
        if outside:
            raise Refused(422, "The call names a file that was not sent to this page.", "a file that was uploaded here")
        return _again(body, receive)

    def _check_room(self, headers: Mapping[bytes, bytes]) -> None:
        announced = headers.get(b"content-length", b"")
        if not announced.isdigit():
            raise Refused(411, "The length of the upload is missing.", "Content-Length")
        if int(announced) > self.largest_upload:
            most = f"at most {self.largest_upload:,} bytes"
            raise Refused(413, "The upload is too large.", most, f"{int(announced):,} bytes", "send fewer files at once")
        if kept(self.folder) + int(announced) > self.most_kept:
            raise Refused(
                503, "The page has no room for more files just now.", hint="try again later", headers={"Retry-After": "60"}
            )


def _needed(method: str, path: str) -> bool:
    if method in ("GET", "HEAD"):
        return path in _GET or path.startswith(_GET_BELOW)
    return method == "POST" and (path in _POST or path.startswith(f"{API}/call/"))


def kept(folder: Path) -> int:
    """Bytes of all files in a folder; those that vanish meanwhile do not count."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size
        except OSError:
            continue
    return total


async def _body(receive: Receive) -> bytes | None:
    """A whole body; None where the client went away.

    Raises:
        Refused: it is larger than ``LARGEST_CALL``.
    """
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if len(body) > LARGEST_CALL:
            raise Refused(413, "The call is too large.", f"at most {LARGEST_CALL:,} bytes", hint="upload files first")
        if not message.get("more_body"):
            return bytes(body)


def _again(body: bytes, receive: Receive) -> Receive:
    """Gives a body that was read already, then whatever comes after it."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _paths(values: Any) -> Iterator[str]:
    if isinstance(values, dict):
        if "path" in values:
            yield str(values["path"])
        for value in values.values():
            yield from _paths(value)
    elif isinstance(values, list):
        for value in values:
            yield from _paths(value)


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), *_HEADERS]
        await send(message)

    return sending
