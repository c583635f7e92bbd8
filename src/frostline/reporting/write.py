"""``frostline report``: from run directories to HTML, Markdown and a model card. Reads nothing but saved records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from frostline.errors import UserError
from frostline.files import write_bytes, write_text
from frostline.reporting import about, ending, making, results
from frostline.reporting.card import model_card
from frostline.reporting.document import Document
from frostline.reporting.facts import Facts, gather
from frostline.reporting.page import PICTURES, html, markdown
from frostline.reporting.pictures import fitted
from frostline.reporting.verdict import verdict
from frostline.reporting.words import listed
from frostline.runs import Run

HTML, MARKDOWN, CARD, PDF = "report.html", "report.md", "MODEL_CARD.md", "report.pdf"


def report(
    runs: Sequence[str | Path],
    out: str | Path,
    inspection: str | Path | None = None,
    *,
    galleries: Sequence[str | Path] = (),
    license: str = "",
    pdf: bool = False,
) -> list[Path]:
    """Write a report on finished runs that were judged on the same images; the same runs give the same bytes.

    Args:
        runs: run directories.
        out: folder for report.html, report.md with its pictures, and MODEL_CARD.md; files of these names are replaced.
        inspection: folder that ``frostline inspect`` wrote, for the section on data.
        galleries: folders that ``frostline explain --gallery`` wrote of these runs: pictures of their mistakes.
        license: of the model, for its card; by default that of its pretrained weights.
        pdf: write report.pdf as well.

    Returns:
        The files written.

    Raises:
        UserError: a run is missing, or claims what its predictions do not give; runs of different test images; an inspection of
            other data; galleries of other predictions; a missing extra.
    """
    looked = Path(inspection) if inspection is not None else None
    facts = gather([Run.open(Path(run)) for run in runs], looked, [Path(folder) for folder in galleries])
    whole = compose(facts)
    page = html(whole)
    if (document := fitted(whole, len(page.encode()))) is not whole:
        page = html(document)
    printed = _printed(page) if pdf else b""
    try:
        return _written(Path(out), document, page, model_card(facts, license), printed)
    except OSError as error:
        raise UserError(f"Cannot write a report to {out}.", received=str(error), hint="another folder for --out") from error


def compose(facts: Facts) -> Document:
    """The document of these facts."""
    names = listed([run.name for run in facts.runs], 4)
    source = facts.best.data.get("source") or "images"
    n = facts.best.scores[facts.split]["n"]
    sections = (
        about.objective(facts),
        about.data(facts),
        making.architecture(facts),
        about.preprocessing(facts),
        making.training(facts),
        results.metrics(facts),
        results.stages(facts),
        results.models(facts),
        ending.reasons(facts),
        ending.deployment(facts),
        ending.insights(facts),
        ending.limits(facts),
        ending.measured(facts),
    )
    return Document(f"Classifiers of {source}: {names}", f"Judged on {n:,} {facts.split} images.", verdict(facts), sections)


def _written(out: Path, document: Document, page: str, card: str, printed: bytes) -> list[Path]:
    written = [out / HTML, out / MARKDOWN, out / CARD]
    for path, text in zip(written, (page, markdown(document), card), strict=True):
        write_text(path, text)
    for figure in document.figures:
        path = out / PICTURES / figure.file
        write_bytes(path, figure.svg.encode() if figure.svg else figure.photo)
        written.append(path)
    if printed:
        write_bytes(out / PDF, printed)
        written.append(out / PDF)
    return written


def _printed(page: str) -> bytes:
    """The page as PDF; it asks for nothing outside itself."""
    try:
        import weasyprint
    except (ImportError, OSError) as error:  # OSError: Pango, which it draws text with, is not there
        raise UserError(
            "A PDF needs WeasyPrint, and the Pango library on this machine.",
            received=str(error),
            hint="pip install 'frostline[pdf]' and 'apt install libpangoft2-1.0-0'; or print report.html from a browser",
        ) from error
    content: bytes = weasyprint.HTML(string=page, url_fetcher=_nothing_outside).write_pdf()
    return content


def _nothing_outside(url: str, *_: object, **__: object) -> object:
    import weasyprint

    if not url.startswith("data:"):
        raise ValueError(f"a report asks for nothing outside itself: {url}")
    return weasyprint.default_url_fetcher(url)
