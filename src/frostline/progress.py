"""One place for what long work shows: stage, rate, time left; nothing when the output is not a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

#: Everything a person reads goes to standard error; standard output is for results that another program may read.
console = Console(stderr=True, highlight=False, soft_wrap=True)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f}/s" if task.speed else "", style="cyan")


class Stage:
    """A running stage: ``advance`` counts, ``expect`` says how many there will be, ``note`` changes the words behind the bar."""

    def __init__(self, bar: Progress | None, task: Any) -> None:
        self._bar, self._task = bar, task
        self.started = time.monotonic()

    @property
    def is_shown(self) -> bool:
        """Whether there is a terminal that shows it."""
        return self._bar is not None

    def expect(self, total: float) -> None:
        if self._bar is not None:
            self._bar.update(self._task, total=total)

    def advance(self, amount: float = 1) -> None:
        if self._bar is not None:
            self._bar.advance(self._task, amount)

    def note(self, text: str) -> None:
        if self._bar is not None:
            self._bar.update(self._task, note=text)


@contextmanager
def stage(name: str, total: float | None = None) -> Iterator[Stage]:
    """Show one stage of ``total`` steps while inside; silent when standard error is no terminal."""
    if not console.is_terminal:
        yield Stage(None, None)
        return
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[note]}"), console=console, transient=True) as bar:
        yield Stage(bar, bar.add_task(name, total=total, note=""))


def say(text: str = "", style: str | None = None) -> None:
    """Print one line for the person at the screen (standard error)."""
    console.print(text, style=style, markup=False)
