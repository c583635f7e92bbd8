"""The tab about the model: what it is for, how good it is and how that is known, what it cannot do. From its card and its run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.abstaining import NEVER
from frostline.errors import UserError
from frostline.model_card import ModelCard
from frostline.reporting.charts import MOST_COUNTED, confusion
from frostline.reporting.words import number, with_interval
from frostline.runs import Run
from frostline.serve.predictor import Predictor
from frostline.serve.settings import ServeSettings

#: More classes than these are not listed by name.
MOST_CLASSES = 60
_FOR = "Pictures of one thing each, of the kind that the model was trained on."
_NOT_FOR = (
    "Decisions of consequence without a person who looks; anything that is none of its classes, which it takes for one of them "
    "all the same; pictures of another kind than those it was trained on."
)
_NO_RUN = (
    "The model came without the record of its training run, so there is no confusion matrix here: serve it from its run's folder, "
    "or judge it with <code>frostline evaluate</code>."
)


def about(predictor: Predictor, settings: ServeSettings) -> str:
    """All that the tab says of a model, as HTML."""
    card, scores = predictor.card, judged(predictor)
    return (
        f'<div class="fl-about"><h2>{escape(card.name)}</h2>{_purpose(card)}'
        f"<h3>How good it is</h3>{_scores(card, scores)}{_confusion(card, scores)}"
        f"<h3>When it says “not sure”</h3>{_threshold(card, settings)}"
        f"<h3>Its classes</h3>{_classes(card.classes)}<h3>What it is</h3>{_facts(card, predictor, settings)}</div>"
    )


def judged(predictor: Predictor) -> dict[str, Mapping[str, Any]]:
    """Scores by split: those of the run around the model directory, else those in its card."""
    stated = predictor.card.values.get("scores")
    return _of_run(predictor.folder.parent) or (dict(stated) if isinstance(stated, Mapping) else {})


def _of_run(folder: Path) -> dict[str, Mapping[str, Any]]:
    if not (folder / "run.json").is_file():
        return {}
    try:
        run = Run.open(folder)
        return {split: run.scores(split) for split in ("test", "validation") if split in run.splits}
    except UserError:  # a record that was changed proves nothing; the model itself has passed its own checks
        return {}


def _purpose(card: ModelCard) -> str:
    for_, not_for = (str(card.values.get(key) or other) for key, other in (("for", _FOR), ("not_for", _NOT_FOR)))
    return (
        f'<div class="fl-two"><section><h3>What it is for</h3><p>{escape(for_)}</p></section>'
        f"<section><h3>What it is not for</h3><p>{escape(not_for)}</p></section></div>"
    )


def _scores(card: ModelCard, scores: Mapping[str, Mapping[str, Any]]) -> str:
    if not scores:
        found = card.values.get("training", {}).get("validation_accuracy")
        said = f"On the images that choices were made by it was right in {100 * found:.1f} % of the cases. " if found else ""
        return f"<p>{said}Nothing is recorded here about images that it had never met.</p>"
    rows = "".join(_score(split, each) for split, each in scores.items())
    heads = "".join(f'<th scope="col" class="fl-right">{name}</th>' for name in ("Right (95 % interval)", "Number", "Log loss"))
    return (
        '<div class="fl-scroll" tabindex="0" role="region" aria-label="Scores"><table class="fl-table"><thead><tr>'
        f'<th scope="col">Images</th>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
        '<p class="fl-small">Test images took no part in training and in no choice; validation images in choices.'
        f"{'' if 'test' in scores else ' Nothing is recorded here about images that it had never met.'}</p>"
    )


def _score(split: str, each: Mapping[str, Any]) -> str:
    told = (with_interval(each["accuracy"], each.get("interval"), 1), f"{each['n']:,}", number(each.get("log_loss"), ".3f"))
    return f'<tr><th scope="row">{escape(split)}</th>' + "".join(f'<td class="fl-right">{text}</td>' for text in told) + "</tr>"


def _confusion(card: ModelCard, scores: Mapping[str, Mapping[str, Any]]) -> str:
    for split, each in scores.items():
        matrix = np.array(each.get("confusion", []))
        if matrix.shape == (len(card.classes),) * 2:
            alt = f"Confusion matrix of {split}: rows are true classes, columns predicted ones"
            told = (
                f"What it takes for what, on the {split} images: each row is a true class, each column an answer. All off the "
                "diagonal are mistakes."
            )
            return _figure(confusion(matrix, card.classes, alt), told) + _percent(matrix, card.classes, split)
    return f'<p class="fl-small">{_NO_RUN}</p>'


def _percent(matrix: NDArray[np.int64], classes: tuple[str, ...], split: str) -> str:
    """The normalised matrix; of more classes the colours of the other one have to do."""
    if len(classes) > MOST_COUNTED:
        return ""
    alt = f"Confusion matrix of {split}, in percent of each true class"
    return _figure(confusion(matrix, classes, alt, percent=True), "The same in percent of each true class.")


def _figure(drawing: str, told: str) -> str:
    return f'<figure class="fl-figure"><div class="fl-paper">{drawing}</div><figcaption>{escape(told)}</figcaption></figure>'


def _threshold(card: ModelCard, settings: ServeSettings) -> str:
    if settings.sure_from is not None:
        return f"<p>Below a probability of {100 * settings.sure_from:.1f} %, which whoever runs this service has set.</p>"
    if card.sure_from is None:
        return "<p>Never: no threshold is known for it.</p>"
    if card.sure_from >= NEVER:
        return "<p>Always: when it was checked, no answers were right 99 times of 100, however certain.</p>"
    return (
        f"<p>Below a probability of {100 * card.sure_from:.1f} %. From there on, 99 of 100 answers were right on the images that "
        "the threshold was chosen by. Probabilities are calibrated: of all answers with 70 %, about 70 of 100 should be right.</p>"
    )


def _classes(classes: tuple[str, ...]) -> str:
    shown = "".join(f"<li>{escape(name)}</li>" for name in classes[:MOST_CLASSES])
    more = len(classes) - MOST_CLASSES
    return f'<ul class="fl-classes">{shown}</ul>' + (f'<p class="fl-small">and {more:,} more</p>' if more > 0 else "")


def _facts(card: ModelCard, predictor: Predictor, settings: ServeSettings) -> str:
    rows = "".join(f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in _lines(card, predictor, settings))
    return f'<dl class="fl-facts">{rows}</dl>'


def _lines(card: ModelCard, predictor: Predictor, settings: ServeSettings) -> Iterable[tuple[str, str]]:
    values, made = card.values, card.values.get("architecture", {})
    height, width = card.preprocess.stored
    if network := made.get("backbone") or made.get("network"):
        yield "Network", str(network)
    if parameters := made.get("parameters"):
        yield "Parameters", f"{parameters:,}"
    yield "Sees pictures at", f"{width} × {height} pixels ({_FITS[card.preprocess.fit]})"
    if published := values.get("data", {}).get("published"):
        yield "Trained on", str(published)
    if counts := values.get("data", {}).get("images"):
        yield "Images", ", ".join(f"{count:,} {split}" for split, count in counts.items())
    yield "Averages", f"{card.views} views of each picture" if card.views > 1 else "the picture as it is"
    yield "Computes in", predictor.precision
    for what, licence in card.licences.items():
        yield f"Licence of the {what}", licence
    yield "Digest", card.digest
    yield "Largest picture", f"{settings.max_pixels / 1e6:,.0f} megapixels"


_FITS = {"squash": "the whole picture, stretched", "pad": "the whole picture, with bars", "crop": "the middle, sides cut off"}
