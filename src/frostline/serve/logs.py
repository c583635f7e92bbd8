"""Structured logs: a JSON object on each line of standard error, never an image, a key or what a client typed into a query."""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
from collections import deque
from datetime import UTC, datetime
from typing import Any, TextIO

from starlette.types import Scope

_REQUESTS = logging.getLogger("frostline.requests")
#: Characters of a path that are kept.
PATH = 200
#: Seconds for which lines about nothing urgent wait for others, to be written together.
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
    """Writes lines in the order in which they were said, a tenth of a second's together; warnings and worse at once.

    Writing each line by itself let the one thread that every request needs wait for the interpreter once more each time. What is
    left is written when Python's logging is shut down.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream, self._lines, self._writing, self._timed = stream, deque[str](), threading.Lock(), False

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.append(self.format(record) + "\n")
        except Exception:
            self.handleError(record)
            return
        if record.levelno >= logging.WARNING or len(self._lines) >= MOST_TOGETHER:
            self.flush()
        elif not self._timed:
            self._timed = True
            timer = threading.Timer(TOGETHER_S, self._late)
            timer.daemon = True
            timer.start()

    def _late(self) -> None:
        self._timed = False
        self.flush()

    def flush(self) -> None:
        """Write what waits."""
        with self._writing:
            text = "".join(self._lines.popleft() for _ in range(len(self._lines)))
            if text:
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
