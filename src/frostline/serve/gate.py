"""Around every request: the key, an identity, a line in the log, a count. Pure ASGI, so that streams pass through untouched."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import random
import time
from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from frostline.serve import logs
from frostline.serve.limits import Gone
from frostline.serve.metrics import Metrics
from frostline.serve.refusals import Refused

#: What may be asked without a key: that is how balancers ask whether a service lives.
OPEN = frozenset({"/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"})
#: One challenge alone: Chromium reads one in each header line, and asks nobody for a password where there are two.
_CHALLENGE = {"WWW-Authenticate": 'Basic realm="Frostline"'}
#: The status that logs and counts have of a request whose client went away.
CLIENT_GONE = 499


class Gate:
    """ASGI middleware.

    Args:
        app: what is behind it.
        api_key: what clients must show as ``X-API-Key: KEY``, ``Authorization: Bearer KEY`` or the password of ``Basic`` (which
            browsers ask for); empty: nothing.
        metrics: where requests are counted.
    """

    def __init__(self, app: ASGIApp, api_key: str, metrics: Metrics) -> None:
        self.app, self._key, self._metrics = app, api_key.encode(), metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._other(scope, receive, send)
            return
        started, status, name = time.perf_counter(), CLIENT_GONE, f"{random.getrandbits(64):016x}"

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", name.encode())]
            await send(message)

        try:
            if self._may_pass(scope):
                await self.app(scope, receive, note)
            else:
                await respond(note, _no_key(), scope["path"])
        except Gone:
            status = CLIENT_GONE
        except Exception:
            status = 500
            raise
        finally:
            seconds = time.perf_counter() - started
            self._metrics.request(_route(scope), status, seconds)
            logs.request(name, scope, status, seconds)

    async def _other(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Start and stop pass; nothing here speaks WebSocket, so with a key none is opened."""
        if scope["type"] == "lifespan" or not self._key:
            await self.app(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    def _may_pass(self, scope: Scope) -> bool:
        if not self._key or scope["path"] in OPEN:
            return True
        headers = dict(scope["headers"])
        return any(hmac.compare_digest(shown, self._key) for shown in _shown(headers))


def _shown(headers: Mapping[bytes, bytes]) -> list[bytes]:
    """The keys that a request shows."""
    found = [headers[b"x-api-key"]] if b"x-api-key" in headers else []
    kind, _, value = headers.get(b"authorization", b"").partition(b" ")
    if kind.lower() == b"bearer":
        found.append(value.strip())
    if kind.lower() == b"basic":
        try:
            found.append(base64.b64decode(value.strip(), validate=True).partition(b":")[2])
        except (binascii.Error, ValueError):
            return found
    return found


def _no_key() -> Refused:
    expected = "Authorization: Bearer KEY, or X-API-Key: KEY"
    return Refused(401, "This service needs a key.", expected, "no key, or another", headers=_CHALLENGE)


def _route(scope: Scope) -> str:
    """The template of the route that answered: bounded, whatever clients ask for."""
    return str(getattr(scope.get("route"), "path", "other"))


async def respond(send: Send, refused: Refused, path: str) -> None:
    """Answer a request for ``path`` with an error where there is no framework around."""
    body = json.dumps(refused.as_json_at(path)).encode()
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **refused.headers}
    encoded = [(key.lower().encode(), value.encode()) for key, value in headers.items()]
    await send({"type": "http.response.start", "status": refused.status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})
