"""Types of settings: whether a value fits one, what a text becomes for it, and its name in words."""

from __future__ import annotations

import types
from typing import Any, Literal, get_args, get_origin


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is what the type asks for; a whole number is a number too, true and false are none."""
    origin = get_origin(hint)
    if origin is Literal:
        return value in get_args(hint)
    if origin is tuple:
        return isinstance(value, tuple) and all(fits(item, get_args(hint)[0]) for item in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is hint


def coerced(value: Any, hint: Any) -> Any:
    """Texts (from ``--set``) become what the setting holds; values that do not fit stay, for validation to name."""
    origin = get_origin(hint)
    if origin is tuple:
        items = [item for item in value.split(",") if item] if isinstance(value, str) else value
        return tuple(coerced(item, get_args(hint)[0]) for item in items) if isinstance(items, list | tuple) else value
    if not isinstance(value, str) or origin in (Literal, types.UnionType):
        return value
    if hint is bool:
        return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}.get(value.lower(), value)
    if hint in (int, float):
        try:
            return hint(value)
        except ValueError:
            return value
    return value


def described(hint: Any) -> str:
    """The type in words, for what an error expected."""
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(map(str, get_args(hint)))
    if get_origin(hint) is tuple:
        return f"a list of {described(get_args(hint)[0])}"
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}[hint]
