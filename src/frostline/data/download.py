"""Fetching one published file: resumed when interrupted, checked before it appears under its name."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import time
import urllib.error
import urllib.request
from pathlib import Path

from frostline.errors import UserError
from frostline.files import named, one_at_a_time, sync_folder
from frostline.progress import Stage, say, stage

TIMEOUT_S = 30.0
TRIES = 4
WAIT_S = 1.0
_BLOCK = 1 << 18


class _CutShortError(OSError):
    """The connection ended before the file did."""


class _Meter:
    """Moves the bar to a number of bytes, and never back when a part is fetched again."""

    def __init__(self, bar: Stage) -> None:
        self._bar, self._shown = bar, 0

    def reach(self, size: int) -> None:
        self._bar.advance(max(0, size - self._shown))
        self._shown = max(size, self._shown)


def download(url: str, path: Path, *, md5: str, size: int | None = None, hint: str = "") -> Path:
    """Fetch ``url`` to ``path`` unless it is there already; returns ``path``.

    Bytes gather in ``path`` + ".part", which a later call continues (HTTP Range; a server without it sends all again). The file
    is renamed to ``path`` only when its MD5 is right.

    Args:
        url: http or https address.
        path: where the file is to stand.
        md5: the published MD5 sum, 32 hexadecimal digits.
        size: bytes, for the progress bar and to refuse a longer answer; None where unknown.
        hint: what to do without a network, for the error message.

    Raises:
        UserError: no connection, an HTTP error, or another sum (the part is then removed).
        OSError: the folder of ``path`` cannot be written to; the error names what.
    """
    if path.exists():
        return path

    def waiting() -> None:
        say(f"Another process is downloading {path.name}; waiting for it.")

    with one_at_a_time(path.with_name(path.name + ".lock"), waiting):
        return path if path.exists() else _downloaded(url, path, md5, size, hint)


def _downloaded(url: str, path: Path, md5: str, size: int | None, hint: str) -> Path:
    part = path.with_name(path.name + ".part")
    with stage(f"Downloading {path.name}", size) as bar:
        _fetch_with_retries(url, part, size, _Meter(bar), hint)
    _check_md5(url, part, md5)
    with open(part, "rb+") as stream:
        os.fsync(stream.fileno())
    part.replace(path)
    sync_folder(path.parent)
    return path


def _fetch_with_retries(url: str, part: Path, size: int | None, meter: _Meter, hint: str) -> None:
    for left in reversed(range(TRIES)):
        try:
            _fetch(url, part, size, meter)
            return
        except urllib.error.HTTPError as error:
            if error.code < 500 or not left:
                answer = f"HTTP {error.code} {error.reason}"
                raise UserError(f"The server does not give {url}.", received=answer, hint=hint) from error
        except (OSError, http.client.HTTPException) as error:
            if getattr(error, "filename", None):  # no trouble of the network's: the part cannot be written
                raise
            if not left:
                reason = str(getattr(error, "reason", None) or error) or type(error).__name__
                raise UserError(f"Cannot download {url}.", received=reason, hint=hint) from error
        time.sleep(WAIT_S)


def _fetch(url: str, part: Path, size: int | None, meter: _Meter) -> None:
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416 and have:  # the part is complete, or longer than the file: its sum will tell
                return
            raise
    with response:
        end = _append(response, part, have, size, meter)
    if size is not None and end > size:
        part.unlink()
        raise UserError(f"{url} is longer than the published file.", expected=f"{size:,} bytes")


def _append(response: http.client.HTTPResponse, part: Path, have: int, size: int | None, meter: _Meter) -> int:
    if response.status == 206 and _range_start(response.headers.get("Content-Range", "")) != have:
        raise _CutShortError("the server sent another range than it was asked for")
    start = end = have if response.status == 206 else 0
    with open(part, "ab" if start else "wb") as stream:
        while block := response.read(_BLOCK):
            with named(part):
                stream.write(block)
            end += len(block)
            meter.reach(end)
            if size is not None and end > size:
                return end
    promised = start + int(response.headers.get("Content-Length") or 0)
    if end < promised:
        raise _CutShortError(f"the connection ended after {end:,} of {promised:,} bytes")
    return end


def _range_start(header: str) -> int | None:
    found = re.match(r"bytes (\d+)-", header)
    return int(found[1]) if found else None


def _check_md5(url: str, part: Path, md5: str) -> None:
    with open(part, "rb") as stream:
        found = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != md5:
        part.unlink()
        received = f"MD5 {found}; the download was removed"
        raise UserError(f"{url} is not the published file.", expected=f"MD5 {md5}", received=received, hint="run it again")
