"""What the page says, as HTML: answers, tables and pictures from values alone. Whatever a file or a class is called is escaped."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from frostline.abstaining import NEVER
from frostline.explaining.explain import Explanation
from frostline.serve.answers import Answer

Image8 = NDArray[np.uint8]

#: Rows of a batch that the page shows; the CSV has all of them.
SHOWN_ROWS = 200


@dataclass(frozen=True)
class Pictured:
    """One image of a batch: what was said of it, and it itself, small, as a data URI (empty where it could not be read)."""

    answer: Answer
    picture: str = ""

    @property
    def confidence(self) -> float:
        """The probability of the best class."""
        return self.answer.top[0][1]


def empty(words: str) -> str:
    """Before there is anything to say."""
    return f'<div class="fl-empty"><p>{escape(words)}</p></div>'


WAITING = empty("The answer appears here.")


def percent(p: float) -> str:
    """A probability for people: 97.3 %, and never a false 0 or 100."""
    if 0 < p < 0.001:
        return "under 0.1\N{NO-BREAK SPACE}%"
    return "over 99.9\N{NO-BREAK SPACE}%" if 0.999 < p < 1 else f"{100 * p:.1f}\N{NO-BREAK SPACE}%"


def data_uri(image: Image8, kind: str = "PNG") -> str:
    """(H, W, 3) uint8 as a picture that needs no request."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind, **({"quality": 82} if kind == "JPEG" else {}))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(stream.getvalue()).decode()}"


def said(answer: Answer, sure_from: float | None, classes: int, measured: bool = True) -> str:
    """The answer for one image: the verdict in words, then the likeliest classes as bars.

    Args:
        answer: what the model says.
        sure_from: the threshold that it was said with.
        classes: K.
        measured: the threshold is the model's own, from which on 99 % were right on validation, not one that somebody has set.
    """
    if answer.error is not None:
        return refused(answer.error)
    name = answer.top[0][0]
    verdict = "Not sure" if answer.sure is False else escape(name)
    kind = {True: "sure", False: "unsure", None: "open"}[answer.sure]
    caution = f"The model always chooses among its {classes:,} classes, even for a picture of something else."
    return (
        f'<div class="fl-answer fl-{kind}"><p class="fl-verdict">{verdict}</p>'
        f'<p class="fl-words">{_meaning(answer, sure_from, measured)}</p>{_bars(answer)}<p class="fl-small">{caution}</p></div>'
    )


def _meaning(answer: Answer, sure_from: float | None, measured: bool) -> str:
    (name, p), told = answer.top[0], "" if sure_from is None else percent(sure_from)
    if answer.sure is None:
        return f"{percent(p)} probable, by the model's own reckoning. It has no threshold below which it says “not sure”."
    if answer.sure:
        why = "When the model was checked, 99 of 100 answers this certain were right."
        return f"Sure: {percent(p)}. {why if measured else f'Here answers count as sure from {told} on.'}"
    guess = f"The best guess is <strong>{escape(name)}</strong> with {percent(p)}."
    if measured and sure_from is not None and sure_from >= NEVER:
        return f"{guess} When the model was checked, no answers were right often enough to be relied on, however certain."
    if measured:
        return f"{guess} The model stands by an answer only from {told} on; below that it is wrong too often to rely on."
    return f"{guess} Here answers count as sure only from {told} on."


def _bars(answer: Answer) -> str:
    rows = "".join(
        f'<li><span class="fl-name">{escape(name)}</span><span class="fl-number">{percent(p)}</span>'
        f'<span class="fl-track" aria-hidden="true"><span style="width:{100 * p:.2f}%"></span></span></li>'
        for name, p in answer.top
    )
    return f'<ol class="fl-bars">{rows}</ol>'


def refused(error: object) -> str:
    """Why an image could not be used; ``error`` is a mapping with reason, expected, received, hint, or a sentence."""
    parts = error if isinstance(error, dict) else {"reason": str(error)}
    rest = "".join(
        f"<p>{title}: {escape(str(parts[key]))}</p>"
        for key, title in (("expected", "Expected"), ("received", "Received"), ("hint", "Try"))
        if parts.get(key)
    )
    reason = escape(str(parts.get("reason", "")))
    return f'<div class="fl-answer fl-refused"><p class="fl-verdict">Not read</p><p class="fl-words">{reason}</p>{rest}</div>'


def heat(found: Explanation, size: tuple[int, int]) -> str:
    """The picture as the model sees it, (height, width) pixels, with what speaks for a class in warm colours."""
    (name, p), (height, width) = found.explained, size
    who = f"<strong>{escape(name)}</strong> ({percent(p)})"
    told = f"Warm colours mark what speaks for {who}." if found.heat.values.any() else f"Nothing in the picture speaks for {who}."
    alt = f"The picture as the model sees it; warm colours mark what speaks for {name}"
    return (
        f'<figure class="fl-heat"><img src="{data_uri(found.overlay)}" alt="{escape(alt)}">'
        f"<figcaption>{told} The model sees the picture at {width} × {height} pixels.</figcaption></figure>"
    )


def note(text: str) -> str:
    """A remark beside what matters."""
    return f'<p class="fl-small">{escape(text)}</p>' if text else ""


def table(rows: Sequence[Answer]) -> str:
    """A row for each image, unreadable ones with their reason; the first ``SHOWN_ROWS``."""
    if not rows:
        return ""
    body = "".join(_row(row) for row in rows[:SHOWN_ROWS])
    more = len(rows) - SHOWN_ROWS
    note = f'<p class="fl-small">{more:,} more rows are in the CSV file.</p>' if more > 0 else ""
    return (
        '<div class="fl-scroll" tabindex="0" role="region" aria-label="Answers, a row for each file"><table class="fl-table">'
        '<thead><tr><th scope="col">File</th><th scope="col">Answer</th><th scope="col" class="fl-right">Probability</th>'
        f'<th scope="col">Sure</th></tr></thead><tbody>{body}</tbody></table></div>{note}'
    )


def _row(row: Answer) -> str:
    file = f'<th scope="row">{escape(row.name)}</th>'
    if row.error is not None:
        return f'<tr class="fl-bad">{file}<td colspan="3">Not read: {escape(row.error["reason"])}</td></tr>'
    name, p = row.top[0]
    sure = {True: "yes", False: "not sure", None: ""}[row.sure]
    return f'<tr>{file}<td>{escape(name)}</td><td class="fl-right">{percent(p)}</td><td>{sure}</td></tr>'


def gallery(pictures: Sequence[Pictured], of: int) -> str:
    """Small pictures with their answers, least sure first; of so many answers in all."""
    if not pictures:
        return ""
    items = "".join(_figure(each) for each in pictures)
    some = f": the {len(pictures) // 2} least and the {len(pictures) // 2} most sure of {of:,}" if of > len(pictures) else ""
    return f'<h2 class="fl-head">Least sure first{some}</h2><ul class="fl-gallery">{items}</ul>'


def _figure(each: Pictured) -> str:
    name, p = each.answer.top[0]
    doubt = " fl-doubt" if each.answer.sure is False else ""
    said_of = f"{name}, {percent(p)}" + (", not sure" if each.answer.sure is False else "")
    return (
        f'<li class="fl-card{doubt}"><img src="{each.picture}" alt="{escape(each.answer.name)}: {escape(said_of)}">'
        f'<span class="fl-name">{escape(name)}</span><span class="fl-number">{percent(p)}</span>'
        f'<span class="fl-file" title="{escape(each.answer.name)}">{escape(each.answer.name)}</span></li>'
    )


def summary(rows: Sequence[Answer]) -> str:
    """How many were answered, were not sure, and could not be read."""
    bad = sum(row.error is not None for row in rows)
    doubtful = sum(row.sure is False for row in rows)
    parts = [f"<strong>{len(rows) - bad:,}</strong> answered"]
    if doubtful:
        parts.append(f"<strong>{doubtful:,}</strong> of them not sure")
    if bad:
        parts.append(f"<strong>{bad:,}</strong> not read")
    return f'<p class="fl-summary">{" · ".join(parts)}</p>'


def progress(done: int) -> str:
    """While a batch is at work."""
    return f'<p class="fl-summary">{done:,} files looked at …</p>'
