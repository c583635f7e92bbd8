"""Answers of the page that nobody reads, which Gradio (6.31) keeps: a session may have a few of them and no more."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs

from frostline.serve.refusals import Refused

#: Calls of a session whose answers nobody has asked for; and sessions that are remembered for it.
MOST_UNREAD, MOST_SESSIONS = 8, 2000


class Unread:
    """How many calls each session has made since it last asked for answers."""

    def __init__(self) -> None:
        self._calls: OrderedDict[str, int] = OrderedDict()
        self._reading: dict[str, int] = {}

    def count(self, session: Any) -> None:
        """A call of a session; ``Refused`` where too many before it wait for somebody to read their answers."""
        if not isinstance(session, str) or session in self._reading:
            return
        calls = self._calls.pop(session, 0)
        if calls >= MOST_UNREAD:
            self._calls[session] = calls
            raise Refused(429, "Too many answers of this session were not read.", hint="GET /gradio_api/queue/data first")
        self._calls[session] = calls + 1
        if len(self._calls) > MOST_SESSIONS:
            self._calls.popitem(last=False)

    @contextmanager
    def reading(self, query: bytes) -> Iterator[None]:
        """While inside, the session that the query of a request for answers names reads them."""
        sessions = parse_qs(query.decode("latin-1")).get("session_hash", [])
        for session in sessions:
            self._calls.pop(session, None)
            self._reading[session] = self._reading.get(session, 0) + 1
        try:
            yield
        finally:
            for session in sessions:
                self._reading[session] -= 1
                if not self._reading[session]:
                    del self._reading[session]
