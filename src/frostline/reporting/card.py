"""The model card: Markdown with the front matter that Hugging Face's hub reads, from the same facts as the report."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from frostline.model_card import UNKNOWN, licence_of
from frostline.reporting.facts import Facts, Judged, calibration
from frostline.reporting.page import plain
from frostline.reporting.verdict import confuses, fix, ship
from frostline.reporting.words import DASH, number, with_interval


def model_card(facts: Facts, license: str = "") -> str:
    """The card of the run to ship.

    Args:
        facts: of the report.
        license: of the model; by default that of the weights it stands on, where they state one.
    """
    best = facts.best
    values = front_matter(facts, best, license or stated_license(best) or UNKNOWN)
    return "\n".join(["---", *_yaml(values), "---", "", *_body(facts, best)])


def stated_license(judged: Judged) -> str:
    """The licence that the pretrained weights came with; empty where none is recorded."""
    return licence_of(str(judged.architecture.get("weights", ""))).removeprefix(UNKNOWN)


def front_matter(facts: Facts, best: Judged, license: str) -> dict[str, Any]:
    """What stands between the two lines of dashes; see "Model Card Metadata" in the hub's documentation."""
    network = best.architecture.get("backbone") or best.architecture.get("network")
    tags = ["image-classification", "frostline", "openvino", *([str(network).removeprefix("timm:")] if network else [])]
    result = _result(facts, best)
    return {
        "license": license,
        "library_name": "frostline",
        "pipeline_tag": "image-classification",
        "tags": tags,
        "metrics": [row["type"] for row in result["metrics"]],
        "model-index": [{"name": best.name, "results": [result]}],
    }


def _result(facts: Facts, best: Judged) -> dict[str, Any]:
    scores = best.scores[facts.split]
    source = str(best.data.get("source") or "unknown")
    dataset = {"name": source, "type": str(best.data.get("published") or source.partition(":")[0]), "split": facts.split}
    macro, loss = scores["macro"], scores["log_loss"]
    args = {"n": scores["n"], "interval_95": scores["interval"], "interval_method": "Wilson 1927"}
    return {
        "task": {"type": "image-classification", "name": "Image classification"},
        "dataset": dataset,
        "metrics": [
            {"type": "accuracy", "name": f"{facts.split} accuracy", "value": scores["accuracy"], "args": args},
            *({"type": name, "name": f"macro {name}", "value": macro[name]} for name in ("f1", "precision", "recall")),
            # without an image of a class that it knows there is none
            *([{"type": "log_loss", "name": "log loss, nats", "value": loss}] if loss is not None else []),
            {
                "type": "expected_calibration_error",
                "name": "expected calibration error, 15 bins",
                "value": calibration(best.predictions[facts.split])[0],
            },
        ],
    }


def _yaml(value: Mapping[str, Any], depth: int = 0) -> Iterator[str]:
    """Nested mappings and lists as YAML 1.2, whose scalars may be written as in JSON."""
    indent = "  " * depth
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield f"{indent}{key}:"
            yield from _yaml(item, depth + 1)
        elif isinstance(item, list) and item and isinstance(item[0], Mapping):
            yield f"{indent}{key}:"
            for row in item:
                first, *rest = _yaml(row, depth + 1)
                yield from (f"{indent}- {first.strip()}", *rest)
        else:
            yield f"{indent}{key}: {json.dumps(item, ensure_ascii=False)}"


def _body(facts: Facts, best: Judged) -> Iterator[str]:
    built, preprocess = best.architecture, best.card.get("preprocess", {})
    scores, data = best.scores[facts.split], best.data.get("counts", {})
    images = ", ".join(f"{counts['images']:,} {name}" for name, counts in data.items())
    imported = built.get("kind") == "imported"
    made = "imported into Frostline" if imported else "trained with Frostline"
    yield from (f"# {plain(best.name)}", "", f"An image classifier {made}: {plain(best.model or DASH)}.", "")
    yield from (
        "## Verdict",
        "",
        f"- Ship: {plain(ship(facts))}",
        f"- It confuses: {plain(confuses(facts))}",
        f"- Fix in the data: {plain(fix(facts))}",
        "",
    )
    yield from ("## Model", "", f"- network: {plain(str(built.get('backbone') or built.get('network') or DASH))}")
    yield f"- weights from: {plain(str(built.get('weights', DASH)))}"
    if teacher := best.training.get("teacher"):
        mixed = f"; {teacher['mixtures']:,} mixtures of the images were shown too" if teacher.get("mixtures") else ""
        yield f"- taught by: {plain(str(teacher['name']))} ({teacher['digest']}), whose answers took the place of labels{mixed}"
    licences = best.card.get("licences", {})
    weights, data_licence = (plain(str(licences.get(of, UNKNOWN))) for of in ("weights", "data"))
    yield f"- licence of the weights: {weights}; of the data: {data_licence}"
    parameters, trained = (number(built.get(key), ",d") for key in ("parameters", "trainable_parameters"))
    yield f"- parameters: {parameters}, of which trained: {'not known here' if imported else trained}"
    yield f"- input: {_size(preprocess)}; views averaged: {best.card.get('views', DASH)}"
    yield f"- temperature, in the graph: {number(best.card.get('temperature'), '.4f')}"
    yield from (f"- classes: {plain(', '.join(best.predictions[facts.split].classes))}", "")
    yield from ("## Data", "", f"- source: {plain(str(best.data.get('source') or DASH))}", f"- images: {images or DASH}", "")
    yield from (
        "## Evaluation",
        "",
        f"- {facts.split} accuracy: {with_interval(scores['accuracy'], scores['interval'])}, n = {scores['n']:,}",
    )
    yield from (f"- macro F1: {number(scores['macro']['f1'])}; log loss: {number(scores['log_loss'])}", "")
    yield from ("The interval (95 %, Wilson) is about images like these, not about other cameras or another seed.", "")
    yield from (
        "## Use",
        "",
        "```python",
        "import frostline",
        "",
        'model = frostline.load_model("model")',
        'model.predict("photo.jpg")',
        "```",
        "",
    )


def _size(preprocess: Mapping[str, Any]) -> str:
    if not preprocess:
        return DASH
    stored, size = ("×".join(map(str, preprocess[key])) for key in ("stored", "size"))
    return f"{stored} px RGB" if stored == size else f"{stored} px RGB, enlarged to {size} in the graph"
