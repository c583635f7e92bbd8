"""What comes to the page: a call's body, read and given again, and an upload that is not waited for without end."""

from __future__ import annotations

import asyncio
import time

from starlette.types import Message, Receive, Send

from frostline.serve.refusals import Refused

#: Bytes of a call: it names files, it does not hold them.
LARGEST_CALL = 2**20


class Arriving:
    """What an upload's application receives and answers: after the deadline nothing more comes, and its answer is not sent."""

    def __init__(self, receive: Receive, send: Send, seconds: float) -> None:
        self._receive, self._send, self._deadline = receive, send, time.monotonic() + seconds
        self.late = self.whole = self.answered = False

    async def receive(self) -> Message:
        if self.late:
            return {"type": "http.disconnect"}
        try:
            async with asyncio.timeout(None if self.whole else self._deadline - time.monotonic()):
                message = await self._receive()
        except TimeoutError:
            self.late = True
            return {"type": "http.disconnect"}
        self.whole |= message["type"] == "http.request" and not message.get("more_body")
        return message

    async def send(self, message: Message) -> None:
        if self.answered or not self.late:
            self.answered = True
            await self._send(message)


async def whole_body(receive: Receive) -> bytes | None:
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


def received_again(body: bytes, receive: Receive) -> Receive:
    """Gives a body that was read already, then whatever comes after it."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
