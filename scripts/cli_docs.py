"""Write docs/cli.md: every command's own help. A test checks that the page is what this script writes.

Usage: python scripts/cli_docs.py FILE
"""

import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import typer.main

from frostline.cli import app
from frostline.config import Settings

HEADER = """\
# The command line

Made by `make docs` from the commands' own help. Exit codes: 0; 1 where `predict` or `explain` could not read every file; 2 for a
mistake, which is said without a traceback; 130 for Ctrl-C; 141 where whoever reads the output of `predict` has closed
it. Results go to standard output, everything else to standard error.
"""


def page() -> str:
    """The whole page."""
    program: Any = typer.main.get_command(app)
    lines = [line for command in program.commands.values() for line in section(command)]
    return "\n".join([HEADER, *lines, *settings(), ""])


def section(command: Any) -> Iterator[str]:
    """The lines of one command."""
    arguments = [part for part in command.params if part.param_type_name == "argument"]
    options = [part for part in command.params if part.param_type_name == "option"]
    names = [f"{part.name.upper()}{'…' if part.nargs != 1 else ''}" for part in arguments]
    yield f"## frostline {' '.join([command.name, *names])}\n\n{command.help}\n"
    rows = [(name, part) for name, part in zip(names, arguments, strict=True)]
    rows += [(option(part), part) for part in options]
    if rows:
        yield "| | | default |\n|---|---|---|"
        yield from (f"| `{name}` | {part.help} | {default(part)} |" for name, part in rows)
        yield ""


def settings() -> Iterator[str]:
    """The lines of the table of settings."""
    yield "## Settings\n"
    what = "What `--set key=value` and `--config FILE.toml` take; `src/frostline/config.py` says what each means."
    yield f"{what} `recipe` names one as `--recipe` does.\n"
    yield "| key | values | default |\n|---|---|---|"
    hints = get_type_hints(Settings)
    for field in fields(Settings):
        if field.name != "recipe":
            yield f"| `{field.name}` | {values(hints[field.name])} | {shown(field.default)} |"


def values(hint: Any) -> str:
    """What a setting takes."""
    if get_origin(hint) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(hint))
    if get_origin(hint) is tuple:
        return f"{values(get_args(hint)[0])}, several with commas"
    return {int: "whole number", float: "number", bool: "`true`, `false`", str: "text"}[hint]


def shown(value: Any) -> str:
    """A default, written as it is given."""
    text = ",".join(item if isinstance(item, str) else f"{item:g}" for item in value) if isinstance(value, tuple) else str(value)
    return f"`{text.lower() if isinstance(value, bool) else text}`" if text else ""


def option(part: Any) -> str:
    """How an option is written."""
    if part.is_flag:
        return " / ".join([part.opts[-1], *part.secondary_opts[-1:]])
    return f"{part.opts[-1]} {part.opts[-1].lstrip('-').upper()}"


def default(part: Any) -> str:
    """What an option is when it is not given."""
    if part.required:
        return "required"
    return "" if part.default in (None, False, "") else f"`{part.default}`"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), "utf-8")
