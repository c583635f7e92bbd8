"""What of Gradio is reachable: the routes that the page needs, with its own files only, nothing fetched, nothing from elsewhere.

Gradio brings many more routes (a proxy, URLs that the server fetches, monitoring, recordings, saved runs). They answer 404 here.
"""

from __future__ import annotations

import asyncio
import json
import logging
import stat
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from frostline.serve.gate import respond
from frostline.serve.page_receiving import LARGEST_CALL, Arriving, received_again, whole_body
from frostline.serve.page_unread import Unread
from frostline.serve.refusals import Refused

API = "/gradio_api"
FILE = f"{API}/file="
_GET = {"/", "/config", "/theme.css", "/favicon.ico", "/robots.txt", "/manifest.json"} | {
    f"{API}/{name}" for name in ("info", "info/", "queue/data", "startup-events", "upload_progress", "app_id", "theme.css")
}
_GET_BELOW = ("/static/", "/assets/", f"{API}/heartbeat/", f"{API}/call/", FILE)
_POST = {f"{API}/{name}" for name in ("queue/join", "cancel", "reset", "upload")}
#: A file counts as so many bytes at least: many small ones take their time, too.
LEAST_COUNTED = 2**16
#: Sweeps in the time for which files are kept, where uploads come.
SWEEPS = 5

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


_log = logging.getLogger(__name__)


class Guard:
    """Stands before Gradio's application.

    Args:
        app: Gradio's. Keys are checked before it, by the service's own ``Gate``.
        folder: of the page's files: what was sent to it and what it made.
        received: folder of what was sent, where an upload that broke off leaves a part that Gradio forgets.
        largest_upload: bytes of one upload.
        most_kept: bytes that may lie in the folder, or be on their way there.
        lifetime_s: seconds after which such a part is deleted.
        timeout_s: seconds in which a call must be here, and each ``LARGEST_CALL`` bytes of an upload.
        keep: files of the page's own below ``received``, which stay.
        routes: of the service, which stand before the page's: what comes here by another method than theirs is not for the page.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        folder: Path,
        received: Path,
        largest_upload: int,
        most_kept: int,
        lifetime_s: float,
        timeout_s: float,
        keep: Iterable[Path] = (),
        routes: Sequence[BaseRoute] = (),
    ) -> None:
        self.app, self.folder, self.received = app, folder, received
        self.largest_upload, self.most_kept, self.lifetime_s, self.timeout_s = largest_upload, most_kept, lifetime_s, timeout_s
        self.announced = 0
        self.routes = tuple(routes)
        self.keep = frozenset(path.resolve() for path in keep)
        self._swept = time.monotonic()
        self.unread = Unread()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            else:  # Gradio's page needs no WebSocket
                await send({"type": "websocket.close", "code": 1008})
            return
        sending = _with_headers(send)
        try:
            if _is_upload(scope):
                await self._upload(scope, receive, sending)
                return
            inner = await self._permitted(scope, receive)
        except Refused as refused:
            await respond(sending, refused, scope["path"])
            return
        with self.unread.reading(_query(scope)):
            await self._answered(scope, inner, sending)

    async def _answered(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Gradio's answer; 400 in place of its failures, for its routes take what is sent for what its page would send.

        503 where the system failed it, as on a full disk.
        """
        begun = failed = False
        refused = Refused(400, "The page does not understand this request.")

        async def sending(message: Message) -> None:
            nonlocal begun, failed
            failed |= message["type"] == "http.response.start" and message["status"] >= 500 and message["status"] != 503
            if not failed:
                begun = True
                await send(message)

        try:
            await self.app(scope, receive, sending)
        except Exception as error:
            failed = True
            last = traceback.extract_tb(error.__traceback__)[-1]  # where, but not with what: logs hold nothing of what was sent
            _log.warning("Gradio failed on a request: %s in %s:%s", type(error).__name__, last.filename, last.lineno)
            if isinstance(error, OSError):
                refused = Refused(503, "The page cannot answer just now.", hint="try again later", headers={"Retry-After": "60"})
        if failed and begun:
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        elif failed:
            await respond(send, refused, scope["path"])

    async def _upload(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An upload whose bytes have room, from a client that does not keep us waiting; ``Refused`` for any other."""
        size = self._announced(dict(scope["headers"]))
        arriving = Arriving(receive, send, self.timeout_s * (1 + size / LARGEST_CALL))
        self.announced += size
        try:
            await self._check_room(self.announced)
            await self._answered(scope, arriving.receive, arriving.send)
        finally:
            self.announced -= size
            if not arriving.whole:
                loop = asyncio.get_running_loop()
                loop.call_later(self.lifetime_s, loop.run_in_executor, None, self._sweep)
        if arriving.late and not arriving.answered:
            raise Refused(408, "The upload came too slowly.", headers={"Connection": "close"})

    def _sweep(self) -> None:
        """Delete what has been here for as long as files are kept: parts of uploads that broke off, and folders that Gradio left.

        By the time of the last change of a file's entry: its own time may be that of a file that it is a copy of.
        """
        oldest = time.time() - self.lifetime_s
        for path in sorted(self.received.rglob("*"), reverse=True):  # what is in a folder before the folder
            try:
                if path.stat().st_ctime > oldest or path.resolve() in self.keep:
                    continue
                path.unlink() if path.is_file() else path.rmdir()
            except OSError:
                continue  # not empty, or gone meanwhile

    async def _permitted(self, scope: Scope, receive: Receive) -> Receive:
        """What the application may receive; ``Refused`` for whatever the page does not need."""
        path = _path(scope)
        if not _needed(scope["method"], path):
            raise self._elsewhere(scope)
        if path.startswith(FILE):
            self._check_file(path.removeprefix(FILE))
        return await self._call(receive) if scope["method"] == "POST" else receive

    def _elsewhere(self, scope: Scope) -> Refused:
        """405 for an address of the service that is asked by another method, else 404."""
        there = [route for route in self.routes if route.matches(scope)[0] is Match.PARTIAL]
        methods = sorted({method for route in there for method in getattr(route, "methods", None) or ()})
        if not methods:
            return Refused(404, "There is nothing here.")
        allowed = ", ".join(methods)
        return Refused(405, "Method Not Allowed", allowed, scope["method"], "GET /docs describes every route", {"Allow": allowed})

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
        try:
            async with asyncio.timeout(self.timeout_s):
                body = await whole_body(receive)
        except TimeoutError as error:
            expected = f"all of it within {self.timeout_s:g} seconds"
            raise Refused(408, "The call came too slowly.", expected, headers={"Connection": "close"}) from error
        if body is None:
            return receive
        try:
            values = json.loads(body or b"null")
            outside = any(not self._ours(path) for path in _paths(values))
        except (ValueError, RecursionError) as error:
            raise Refused(400, "The call is not JSON.", received=str(error)[:100]) from error
        if outside:
            raise Refused(422, "The call names a file that was not sent to this page.", "a file that was uploaded here")
        self.unread.count(values.get("session_hash") if isinstance(values, dict) else None)
        return received_again(body, receive)

    def _announced(self, headers: Mapping[bytes, bytes]) -> int:
        """The length of an upload. Where it says that it comes in chunks as well, these would count, not the length."""
        announced = headers.get(b"content-length", b"")
        if not announced.isdigit() or b"transfer-encoding" in headers:
            raise Refused(411, "The length of the upload is missing.", "Content-Length, and no Transfer-Encoding")
        if len(announced) > 18 or int(announced) > self.largest_upload:
            most = f"at most {self.largest_upload:,} bytes"
            received = f"{int(announced[:18]):,} bytes"
            raise Refused(413, "The upload is too large.", most, received, "send fewer files at once")
        return int(announced)

    async def _check_room(self, announced: int) -> None:
        """Whether there is room for what is on its way, this upload and those before it; a thread looks through the folder."""
        if await asyncio.to_thread(self._kept) + announced > self.most_kept:
            raise Refused(
                503, "The page has no room for more files just now.", hint="try again later", headers={"Retry-After": "60"}
            )

    def _kept(self) -> int:
        """Bytes that count, after old files were deleted where that was long ago."""
        if time.monotonic() - self._swept > self.lifetime_s / SWEEPS:
            self._swept = time.monotonic()
            self._sweep()
        return kept(self.folder)


def _path(scope: Scope) -> str:
    return str(scope["path"].removeprefix(scope.get("root_path", ""))) or "/"


def _query(scope: Scope) -> bytes:
    """What a request for answers says of whose they are; nothing of other requests."""
    return scope.get("query_string", b"") if _path(scope) == f"{API}/queue/data" else b""


def _is_upload(scope: Scope) -> bool:
    return scope["method"] == "POST" and _path(scope) == f"{API}/upload"


def _needed(method: str, path: str) -> bool:
    if method in ("GET", "HEAD"):
        return path in _GET or path.startswith(_GET_BELOW)
    return method == "POST" and (path in _POST or path.startswith(f"{API}/call/"))


def kept(folder: Path) -> int:
    """Bytes of all files in a folder, ``LEAST_COUNTED`` for each at least; those that vanish meanwhile do not count."""
    total = 0
    for path in folder.rglob("*"):
        try:
            found = path.stat()
        except OSError:
            continue
        total += max(found.st_size, LEAST_COUNTED) if stat.S_ISREG(found.st_mode) else 0
    return total


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
            # Gradio lets every origin read its answers; whom the service does, its own middleware outside says
            own = [each for each in message.get("headers", []) if not each[0].lower().startswith(b"access-control-")]
            message["headers"] = [*own, *_HEADERS]
        await send(message)

    return sending
