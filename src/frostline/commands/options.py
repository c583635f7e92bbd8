"""Arguments and options that several commands take alike."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

DATA_HELP = "cifar10, cifar10:PATH, digits, a folder of class folders, or a table of path,label"
Data = Annotated[str, typer.Argument(help=DATA_HELP)]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
Strict = Annotated[bool, typer.Option("--strict", help="An unusable image is an error instead of being left out and listed.")]
Unknown = Annotated[bool, typer.Option("--unknown-as-wrong", help="Count images of classes that training lacks as mistakes.")]
PrecisionOption = Annotated[str | None, typer.Option("--precision", help="auto, bf16 or f32, of computing.")]


def print_json(value: Any) -> None:
    """A value as JSON on standard output: letters as they are where it takes them, else escaped."""
    takes_all = (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "") == "utf8"
    typer.echo(json.dumps(value, ensure_ascii=not takes_all))
