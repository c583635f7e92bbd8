"""How a request's body arrives: not too large, not too slowly, not too many at once, and kept in memory only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import ClientDisconnect, Request

from frostline.serve.refusals import Overloaded, Refused
from frostline.serve.settings import ServeSettings

#: Bodies in memory at once, as a multiple of the largest one that is taken.
AT_ONCE = 8


class Gone(Exception):  # noqa: N818 - nothing went wrong here
    """The client closed its connection: nobody waits for an answer."""


class Bodies:
    """The bodies that are in memory.

    Args:
        settings: their limits.
    """

    def __init__(self, settings: ServeSettings) -> None:
        self.settings, self.held, self.most = settings, 0, AT_ONCE * settings.max_request_bytes

    @asynccontextmanager
    async def arrived(self, request: Request) -> AsyncIterator[bytes]:
        """The whole body, counted while inside.

        Raises:
            Refused: 408 too slow, 413 too large, 415 compressed, 503 too many bodies at once.
            Gone: the client went away.
        """
        self._check_headers(request)
        body, size = bytearray(), 0
        try:
            await self._read(request, body)
            size, whole = len(body), bytes(body)
            body.clear()  # one copy is enough while the answer is made
            yield whole
        finally:
            self.held -= size or len(body)

    def _check_headers(self, request: Request) -> None:
        encoding = request.headers.get("content-encoding", "identity")
        if encoding != "identity":
            raise Refused(415, "Compressed bodies are not read.", "no Content-Encoding", encoding[:100])
        announced = request.headers.get("content-length", "0")
        if not (announced.isascii() and announced.isdigit()):
            raise Refused(400, "The length is not a number.", "Content-Length: digits", announced[:100])
        if len(announced) > 18 or int(announced) > self.settings.max_request_bytes:
            raise self._too_large(f"{announced[:30]} bytes")

    async def _read(self, request: Request, body: bytearray) -> None:
        try:
            async with asyncio.timeout(self.settings.timeout_s):
                async for chunk in request.stream():
                    self._hold(chunk, body)
        except TimeoutError as error:
            expected = f"all of it within {self.settings.timeout_s:g} seconds"
            raise Refused(408, "The body came too slowly.", expected, headers={"Connection": "close"}) from error
        except ClientDisconnect as error:
            raise Gone from error

    def _hold(self, chunk: bytes, body: bytearray) -> None:
        if self.held + len(chunk) > self.most:
            raise Overloaded(self.most, "bytes")
        body += chunk
        self.held += len(chunk)
        if len(body) > self.settings.max_request_bytes:
            raise self._too_large("more than that")

    def _too_large(self, received: str) -> Refused:
        expected = f"at most {self.settings.max_request_bytes:,} bytes"
        return Refused(413, "The request is too large.", expected, received, "send fewer or smaller images in each request")
