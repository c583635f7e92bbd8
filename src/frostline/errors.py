"""The one error a person is meant to read: what was expected, what was received, what to type next."""

from __future__ import annotations

from collections.abc import Iterable


class UserError(Exception):
    """A mistake in what the user asked for. The command line prints it without a traceback and exits with 2.

    Args:
        message: what is wrong, in one sentence.
        expected: what would have been right.
        received: what was found instead.
        hint: what to type or do next.
    """

    def __init__(self, message: str, *, expected: str = "", received: str = "", hint: str = "") -> None:
        self.message, self.expected, self.received, self.hint = message, expected, received, hint
        super().__init__(self.text())

    def text(self) -> str:
        """The message and its parts, a line each."""
        parts = [("Expected", self.expected), ("Received", self.received), ("Try", self.hint)]
        return "\n".join([self.message, *(f"  {name}: {value}" for name, value in parts if value)])


def nearest(name: str, known: list[str]) -> str:
    """A hint that names the known names closest to an unknown one."""
    from difflib import get_close_matches

    close = get_close_matches(name, known, n=3, cutoff=0.4)
    return f"did you mean {' or '.join(close)}?" if close else f"one of {', '.join(known)}"


def few(names: Iterable[str], limit: int = 6) -> str:
    """Names in order, those beyond ``limit`` as a number."""
    names = sorted(names)
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
