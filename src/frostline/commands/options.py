"""Arguments and options that several commands take alike."""

from __future__ import annotations

from typing import Annotated

import typer

DATA_HELP = "cifar10, cifar10:PATH, digits, a folder of class folders, or a table of path,label"
Data = Annotated[str, typer.Argument(help=DATA_HELP)]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
Strict = Annotated[bool, typer.Option("--strict", help="An unusable image is an error instead of being left out and listed.")]
Unknown = Annotated[bool, typer.Option("--unknown-as-wrong", help="Count images of classes that training lacks as mistakes.")]
PrecisionOption = Annotated[str | None, typer.Option("--precision", help="auto, bf16 or f32, of computing.")]
