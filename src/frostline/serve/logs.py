"""Structured logs: a JSON object on each line of standard error, never an image, a key or what a client typed into a query."""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any

from starlette.types import Scope

_REQUESTS = logging.getLogger("frostline.requests")
#: Characters of a path that are kept.
PATH = 200


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, what was said, and what was handed over as ``extra={"about": {...}}``."""

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        said = {"time": when, "level": record.levelname.lower(), "event": record.getMessage(), **getattr(record, "about", {})}
        if record.exc_info:
            said["error"] = self.formatException(record.exc_info)
        return json.dumps(said)


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
    handler = logging.StreamHandler(sys.stderr)
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
