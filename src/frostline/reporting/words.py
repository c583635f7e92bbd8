"""Numbers as a report says them. What is not known is a dash."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

DASH = "–"


def percent(share: float | None, digits: int = 2) -> str:
    """0.9889 as "98.89 %"."""
    return DASH if share is None else f"{100 * share:.{digits}f} %"


def threshold(probability: float) -> str:
    """A probability to answer from, rounded down: typed as it stands it lets no answer go that it should keep; 0.9997 is not 1."""
    digits = 3 if probability < 0.99 else 6
    return f"{math.floor(probability * 10**digits) / 10**digits:.{digits}f}"


def with_interval(share: float, interval: Sequence[float] | None, digits: int = 2) -> str:
    """ "98.89 % (96.04 to 99.69 %)"."""
    if interval is None:
        return percent(share, digits)
    low, high = (f"{100 * end:.{digits}f}" for end in interval)
    return f"{percent(share, digits)} ({low} to {high} %)"


def between(interval: Sequence[float] | None) -> str:
    """ "96.04 to 99.69 %"."""
    return DASH if interval is None else "{:.2f} to {:.2f} %".format(*(100 * end for end in interval))


def number(value: float | None, form: str = ",.4f") -> str:
    """A number in a format, or a dash."""
    return DASH if value is None else format(value, form)


def signed(value: float, digits: int = 2) -> str:
    """A difference with its sign, the minus as long as a plus."""
    return f"{value:+.{digits}f}".replace("-", "−")


def duration(seconds: float | None) -> str:
    """42.1 s, 12.3 min, 2.1 h."""
    if seconds is None:
        return DASH
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def size(count: float | None) -> str:
    """Bytes as 1.2 GB, 1.2 MB or 34.0 kB."""
    if count is None:
        return DASH
    if count >= 1e9:
        return f"{count / 1e9:,.1f} GB"
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count / 1e3:,.1f} kB"


def ranging(record: Mapping[str, float] | None, form: Callable[[float], str] = "{:,g}".format) -> str:
    """Minimum, maximum and median, as in "60 to 120 (median 80)"; "32" where all are one."""
    if record is None:
        return DASH
    low, middle, high = (form(record[name]) for name in ("minimum", "median", "maximum"))
    return low if low == high else f"{low} to {high} (median {middle})"


def listed(words: Iterable[str], most: int = 6) -> str:
    """ "a, b and c"; those beyond ``most`` as a number."""
    names = list(words)
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""


def counted(count: int, noun: str, plural: str = "") -> str:
    """ "1 image", "2 images"."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def or_dash(value: Any, form: Any = str) -> str:
    """A value in words, or a dash where nothing is recorded."""
    return DASH if value in (None, "") else str(form(value))
