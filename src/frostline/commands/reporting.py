"""``frostline report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    runs: Annotated[list[Path], typer.Argument(help="Run directories, judged on the same images.")],
    out: Annotated[Path, typer.Option(help="Where the report, its pictures and the model card go.")] = Path("report"),
    inspection: Annotated[
        Path | None, typer.Option(help="The folder that 'frostline inspect' wrote: samples, duplicates, likely label errors.")
    ] = None,
    galleries: Annotated[
        list[Path] | None,
        typer.Option(help="The folder that 'frostline explain RUN --gallery' wrote: a run's mistakes as pictures. Repeatable."),
    ] = None,
    license: Annotated[str, typer.Option(help="Of the model, for its card. Default: that of its pretrained weights.")] = "",
    pdf: Annotated[bool, typer.Option("--pdf", help="Write a PDF too; needs the extra 'pdf'.")] = False,
) -> None:
    """Write a report on finished runs: HTML in one file, Markdown with pictures, a model card."""
    from frostline.progress import say
    from frostline.reporting.write import report as write

    written = write(runs, out, inspection, galleries=galleries or (), license=license, pdf=pdf)
    say(f"The report: {written[0]} ({len(written)} files in {out}).")
