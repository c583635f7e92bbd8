"""When to end early: an accuracy reached, a time budget spent, or one Ctrl-C; one rule for extraction and every loop."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType


@dataclass
class StopRule:
    """Asked between blocks and between epochs: is this enough?

    Attributes:
        stop_at: validation accuracy in (0, 1] at which to end, or None.
        budget_s: seconds since ``started`` after which to end, or None.
        started: reading of ``time.monotonic`` at the command's start.
        interrupted: set by the first Ctrl-C (see ``listen``).
        reason: why training ended, once it has; empty before.
    """

    stop_at: float | None = None
    budget_s: float | None = None
    started: float = field(default_factory=time.monotonic)
    interrupted: bool = False
    reason: str = ""

    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    def spent(self, since: float) -> float:
        """Share of the budget's seconds after ``since`` that is gone, in [0, 1]; 0 where there is no budget."""
        if self.budget_s is None:
            return 0.0
        left = self.budget_s - since
        return min((self.elapsed() - since) / left, 1.0) if left > 0 else 1.0

    def check(self, accuracy: float | None = None) -> bool:
        """True when work should end now; ``accuracy`` is the newest validation accuracy, None where there is none."""
        if self.interrupted:
            self.reason = "interrupted by Ctrl-C"
        elif self.budget_s is not None and self.elapsed() >= self.budget_s:
            self.reason = f"the budget of {self.budget_s:g} s was spent"
        elif self.stop_at is not None and accuracy is not None and accuracy >= self.stop_at:
            self.reason = f"validation accuracy {accuracy:.4f} reached --stop-at {self.stop_at:g}"
        return bool(self.reason)

    @contextmanager
    def listen(self) -> Iterator[StopRule]:
        """While inside, the first Ctrl-C asks for an early end and the second aborts (main thread only)."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        previous = signal.signal(signal.SIGINT, self._on_interrupt)
        try:
            yield self
        finally:
            signal.signal(signal.SIGINT, previous)

    def _on_interrupt(self, _signal: int, _frame: FrameType | None) -> None:
        if self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = True
        # not through a buffered stream, which the interrupted code may be writing to
        os.write(2, b"\nEnding here, with a finished model of what was seen. Ctrl-C again aborts.\n")
