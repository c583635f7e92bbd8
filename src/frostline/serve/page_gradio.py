"""Gradio, told before it is imported to report to nobody and to keep its files in a folder of ours (extra "page")."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import warnings
from functools import cache
from pathlib import Path

from frostline.errors import UserError

#: Where, in the page's folder, Gradio keeps what was sent and what is to be downloaded: what it deletes after a while.
RECEIVED = "received"


@cache
def private_folder() -> Path:
    """The page's files of this process, which nobody else can read; deleted when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="frostline-page-")).resolve()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / RECEIVED).mkdir()
    return folder


def _tell() -> None:
    """Gradio reads these from the environment, some when it is imported, and where files go whenever it needs it."""
    os.environ.update(GRADIO_ANALYTICS_ENABLED="False", HF_HUB_DISABLE_TELEMETRY="1", GRADIO_RUN_HISTORY="False")
    os.environ["GRADIO_TEMP_DIR"] = str(private_folder() / RECEIVED)
    # it asks pandas at every event for an option that pandas has deprecated
    warnings.filterwarnings("ignore", message=".*no_silent_downcasting")


_tell()
try:
    import gradio as gr
    from gradio.utils import LRUCache
except ImportError as missing:
    raise UserError("The page needs Gradio, which is not installed.", hint="pip install 'frostline[page]'") from missing

#: Sessions to which Gradio has something to say that nobody has read yet.
_WAITING = 128


def bound_what_waits(page: gr.Blocks) -> None:
    """Let Gradio (6.31) forget the oldest session's unread answers from ``_WAITING`` sessions on, in place of two thousand.

    And which calls of theirs it remembers, of which it forgets none by itself.
    """
    queue = page._queue
    queue.pending_messages_per_session.max_size = _WAITING
    queue.pending_event_ids_session = LRUCache(10 * _WAITING)


__all__ = ["RECEIVED", "bound_what_waits", "gr", "private_folder"]
