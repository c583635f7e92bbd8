"""Connections that are neither kept open by clients who say nothing nor closed on those who were heard. For uvicorn."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol

from frostline.serve.refusals import Refused

_CLOSE = (b"connection", b"close")


class PatientConfig(Config):
    """uvicorn's settings and the two of ``Connection``.

    Attributes:
        patience_s: a connection on which a request's head does not come, or whose refused body does not end, is closed after one to
            two times so many seconds, and so is one whose client has taken nothing of its answer for as long. (The time for a body
            is the application's business: it answers 408.)
        linger_s: when the server stops, connections that are idle are open for so many seconds more. A request that its client sent
            before it could know is answered, with ``Connection: close``; uvicorn alone would close on it.
    """

    def __init__(self, app: Any, *, patience_s: float, linger_s: float, **options: Any) -> None:
        super().__init__(app, http=Connection, **options)
        self.patience_s, self.linger_s = patience_s, linger_s


class Connection(H11Protocol):
    """uvicorn's protocol with a clock and a slower goodbye; see ``PatientConfig``."""

    def __init__(self, config: PatientConfig, *args: Any, **options: Any) -> None:
        super().__init__(config, *args, **options)
        self.patience, self.linger = config.patience_s, config.linger_s
        self._stuck: Any = None
        self._unread, self._taken = 0, False
        self._stopping = False
        self._clock: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._stuck = self  # nothing has come yet
        self._clock = self.loop.call_later(self.patience, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._clock is not None:
            self._clock.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        """Close what has been between two requests, without uvicorn's own timer running, since the last look.

        And break off where nothing of an answer was taken since: closing would wait for that.
        """
        unread = self.transport.get_write_buffer_size()
        if unread and unread >= self._unread > 0 and not self._taken:
            self.transport.abort()
            return
        self._unread, self._taken = unread, False
        between = self.cycle is None or self.cycle.response_complete
        stuck = (self.cycle or self) if between and self.timeout_keep_alive_task is None else None
        if stuck is not None and stuck is self._stuck:
            self.transport.close()
            return
        self._stuck = stuck
        self._clock = self.loop.call_later(self.patience, self._look)

    def resume_writing(self) -> None:
        self._taken = True
        super().resume_writing()

    def shutdown(self) -> None:
        self._stopping = True
        self._say_goodbye()
        if self.cycle is None or self.cycle.response_complete:
            self.loop.call_later(self.linger, self._close_if_idle)

    def _close_if_idle(self) -> None:
        if not self.transport.is_closing() and (self.cycle is None or self.cycle.response_complete):
            super().shutdown()

    def handle_events(self) -> None:
        super().handle_events()
        if self._stopping:
            self._say_goodbye()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP, or has too large a head, is told so as everything else is: in JSON."""
        if self.conn.our_state is not h11.SEND_RESPONSE and self.conn.our_state is not h11.IDLE:
            self.transport.close()  # the request was answered already; what is no HTTP came after it
            return
        refused = Refused(400, msg, "HTTP, with a line and headers that are not too long")
        body = json.dumps(refused.as_json()).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), _CLOSE]
        for event in (h11.Response(status_code=400, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _say_goodbye(self) -> None:
        """The answer under way, or the next one, is the last."""
        if self.cycle is not None and not self.cycle.response_started and _CLOSE not in self.cycle.default_headers:
            self.cycle.default_headers = [*self.cycle.default_headers, _CLOSE]
        if self.cycle is not None:
            self.cycle.keep_alive = False
