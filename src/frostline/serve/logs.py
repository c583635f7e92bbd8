"""Structured logs: a JSON object on each line of standard error, never an image, a key or what a client typed into a query."""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TextIO

from starlette.types import Scope

_REQUESTS = logging.getLogger("frostline.requests")
#: Characters of a path that are kept.
PATH = 200
#: Seconds for which the lines of requests wait for others, to be written together.
TOGETHER_S = 0.1
#: Lines that wait at most, where nobody reads what is written.
MOST_TOGETHER = 10_000


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, what was said, and what was handed over as ``extra={"about": {...}}``."""

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        said = {"time": when, "level": record.levelname.lower(), "event": record.getMessage(), **getattr(record, "about", {})}
        if record.exc_info:
            said["error"] = self.formatException(record.exc_info)
        return json.dumps(said)


class Together(logging.Handler):
    """Writes lines in the order in which they were said: those of requests, a tenth of a second's together, and any other at once.

    Writing each line by itself let the one thread that every request needs wait for the interpreter once more each time. A server
    that stops says so, and what waits is written with it. Where nobody reads what is written, it is lost, and nothing else.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream, self._lines, self._writing = stream, deque[str](), threading.Lock()
        self._wake, self._writer = threading.Event(), False

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.append(self.format(record) + "\n")
            waits = record.name == _REQUESTS.name and record.levelno < logging.WARNING and len(self._lines) < MOST_TOGETHER
            if not (waits and self._written_soon()):
                self.flush()
        except Exception:
            self.handleError(record)

    def _written_soon(self) -> bool:
        """Whether a thread will write what waits."""
        if not self._writer:
            try:
                threading.Thread(target=self._write, name="log", daemon=True).start()
            except RuntimeError:  # the machine has no thread left
                return False
            self._writer = True
        if not self._wake.is_set():
            self._wake.set()
        return True

    def _write(self) -> None:
        while True:
            self._wake.wait()
            time.sleep(TOGETHER_S)
            self._wake.clear()
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        with self._writing:
            text = "".join(self._lines.popleft() for _ in range(len(self._lines)))
            if text:
                with suppress(OSError, ValueError):  # closed, full, or nobody reads: that is no reason to fail a request
                    self._stream.write(text)
                    self._stream.flush()


def request(name: str, scope: Scope, status: int, seconds: float) -> None:
    """One answered request."""
    if not _REQUESTS.isEnabledFor(logging.INFO):
        return
    about: dict[str, Any] = {
        "request": name,
        "method": scope["method"],
        "path": _path(scope["path"]),
        "status": status,
        "ms": round(1000 * seconds, 2),
        "client": (scope.get("client") or ("",))[0],
        **scope.get("state", {}).get("about", {}),
    }
    _REQUESTS.info("request", extra={"about": about})


def _path(path: str) -> str:
    """What was asked for, without what people call their files."""
    return re.sub(r"/file=.*", "/file=…", path)[:PATH]


def configure(level: str = "info") -> None:
    """Everything that is logged, uvicorn's own lines too, as JSON lines on standard error; Python's warnings with it."""
    handler = Together(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.captureWarnings(True)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in ("frostline", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers[:] = []
        logger.propagate = True
        logger.setLevel(level.upper())
