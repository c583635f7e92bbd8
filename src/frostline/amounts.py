"""Amounts of memory and of time as people type them."""

from __future__ import annotations

from frostline.errors import UserError


def parse_gigabytes(text: str | None) -> float | None:
    """GiB of "500M", "1G" or a bare number of GiB; None for None."""
    if text is None:
        return None
    unit = {"m": 1 / 1024, "g": 1.0, "t": 1024.0}.get(text.lower().removesuffix("ib").removesuffix("b")[-1:])
    number = text.lower().removesuffix("ib").removesuffix("b").rstrip("mgt")
    try:
        value = float(number) * (unit or 1)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise UserError("That is no amount of memory.", expected="for example 500M, 1G or 2.5G", received=text)
    return value


def parse_seconds(text: str | None) -> float | None:
    """Seconds of "60s", "5m", "1h" or a bare number; None for None."""
    if text is None:
        return None
    unit = {"s": 1, "m": 60, "h": 3600}.get(text[-1:].lower())
    try:
        value = float(text[:-1] if unit else text) * (unit or 1)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise UserError("That is no time.", expected="seconds, minutes or hours such as 60s, 5m or 1h", received=text)
    return value
