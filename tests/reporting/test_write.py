"""From three runs to a report: complete, self-contained, readable by machines that read for people, and the same every time."""

from __future__ import annotations

import itertools
import json
import re
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forged import forge
from PIL import Image
from reported import counted, fingerprint, finished_run, gallery, kept_run
from typer.testing import CliRunner

from frostline.cli import app
from frostline.errors import UserError
from frostline.reporting.document import Table
from frostline.reporting.facts import gather
from frostline.reporting.making import training
from frostline.reporting.write import report
from frostline.runs import Run

pytest.importorskip("jinja2")

#: Elements that have no end tag.
VOID = {"meta", "img", "br", "link", "hr", "input"}


class Page(HTMLParser):
    """Every element of a page as (tag, attributes, text), in order; complains of tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str], list[str]]] = []
        self.open: list[int] = []
        self.feed(text.replace("\N{NO-BREAK SPACE}", " "))
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attributes}, []))
        if tag not in VOID:
            self.open.append(len(self.elements) - 1)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attributes}, []))

    def handle_endtag(self, tag: str) -> None:
        assert self.elements[self.open.pop()][0] == tag

    def handle_data(self, data: str) -> None:
        for place in self.open:
            self.elements[place][2].append(data)

    def all(self, *tags: str) -> list[tuple[str, dict[str, str], str]]:
        return [(tag, attributes, "".join(text).strip()) for tag, attributes, text in self.elements if tag in tags]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("runs")
    return [
        finished_run(root / "weak", 1.0),
        finished_run(root / "strong", 3.4, seed=1),
        finished_run(root / "staged", 2.4, seed=2, staged=True),
    ]


def pair(a: str, b: str, other: str = "cat") -> dict[str, Any]:
    """Two images that are nearly the same, of data that declare one split."""
    return {"a": a, "split_a": "train", "class_a": "cat", "b": b, "split_b": "train", "class_b": other}


@pytest.fixture(scope="module")
def inspection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inspection")
    classes = json.loads((finished_run(folder / "run") / "model" / "model.json").read_text())["classes"]
    record: dict[str, Any] = {"source": "animals", "splits": {"train": {"images": 600, "classes": dict.fromkeys(classes, 150)}}}
    record |= {"duplicates": [pair("test/0000.png", "train/0000.png"), pair("train/0001.png", "train/0002.png", classes[1])]}
    record |= {"across": 0, "contradictions": 1, "odd": [{"what": "dark"}]}
    record |= {"label_errors": {"estimated": 3, "rows": [{}, {}, {}, {}]}}
    (folder / "audit.json").write_text(json.dumps(record))
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(folder / "samples.png")
    return folder


@pytest.fixture(scope="module")
def out(runs: list[Path], inspection: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out")
    report(runs, folder, inspection)
    return folder


@pytest.fixture(scope="module")
def page(out: Path) -> Page:
    return Page((out / "report.html").read_text("utf-8"))


def test_the_page_asks_for_nothing_outside_itself(out: Path, page: Page) -> None:
    text = (out / "report.html").read_text("utf-8")
    assert len(text.encode()) <= 5_000_000
    assert not page.all("script", "link", "iframe", "object", "base")
    targets = [
        value
        for _, attributes, _ in page.elements
        for key, value in attributes.items()
        if key in ("src", "href", "srcset", "xlink:href")
    ]
    assert targets
    assert {target[:1] if target.startswith("#") else target[:15] for target in targets} == {"#", "data:image/png;"}
    assert "url(" not in text
    assert "@import" not in text
    assert set(re.findall(r"https?://[^\"'\s<]+", text)) == {"http://www.w3.org/2000/svg"}


def test_links_lead_to_places_on_the_page(page: Page) -> None:
    places = [attributes["id"] for _, attributes, _ in page.elements if "id" in attributes]
    assert len(places) == len(set(places))
    assert {attributes["href"][1:] for _, attributes, _ in page.all("a")} <= set(places)


def test_a_screen_reader_finds_its_way(page: Page) -> None:
    assert page.all("html")[0][1]["lang"] == "en"
    assert [len(page.all(tag)) for tag in ("title", "header", "nav", "main", "footer", "h1")] == [1] * 6
    levels = [int(tag[1]) for tag, _, _ in page.all("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert all(attributes["alt"] for _, attributes, _ in page.all("img"))
    drawings = page.all("svg")
    assert len(drawings) >= 20
    assert all(attributes["role"] == "img" and len(attributes["aria-label"]) > 20 for _, attributes, _ in drawings)
    assert len(page.all("figcaption")) == len(page.all("figure")) == len(drawings) + len(page.all("img"))
    headers = page.all("th")
    assert {attributes["scope"] for _, attributes, _ in headers} == {"col", "row"}
    assert len(page.all("caption")) == len(page.all("table"))
    boxes = [attributes for _, attributes, _ in page.all("div") if attributes.get("class") == "scroll"]
    assert len(boxes) == len(page.all("table"))
    assert all(box["tabindex"] == "0" and box["role"] == "region" and box["aria-label"] for box in boxes)


def test_every_figure_names_its_run_and_model(page: Page) -> None:
    labels = ("weak · weak-recipe", "strong · strong-recipe", "staged · staged-recipe")
    for _, _, caption in page.all("figcaption"):
        assert any(label in caption for label in labels) or "animals" in caption or "On the front: " in caption


def test_names_are_text_and_never_markup(out: Path, page: Page) -> None:
    assert not page.all("b")
    assert any(text == "dog & <b>wolf</b>" for _, _, text in page.all("th"))
    assert "<b>" not in (out / "report.md").read_text("utf-8")
    assert "eel\\|x" in (out / "report.md").read_text("utf-8")


def test_the_sections_are_those_that_were_asked_for(page: Page) -> None:
    titles = [text for _, _, text in page.all("h2")]
    assert titles == [
        *("Verdict", "Contents", "Objective", "Data", "Architecture", "Preprocessing", "Training strategy", "Metrics"),
        *("Stages compared", "Models compared", "Why this model", "Deployment", "Insights", "Limits", "How it was measured"),
    ]


def test_a_patience_that_was_left_open_is_the_one_that_was_used(runs: list[Path], out: Path) -> None:
    assert "\n| patience" not in (out / "report.md").read_text("utf-8")  # nothing there has a dense head
    facts = gather([Run.open(runs[2])])
    for values, shown in (({}, "5"), ({"patience": 2}, "2")):
        (run,) = facts.runs
        dense = replace(run, card={**run.card, "training": {**run.training, "patience": 5}}, settings={**run.settings, **values})
        rows = [row for block in training(replace(facts, runs=(dense,))).blocks if isinstance(block, Table) for row in block.rows]
        assert [row[1] for row in rows if row[0] == "patience"] == [shown]


def test_the_verdict_is_three_sentences_of_computed_figures(runs: list[Path], page: Page) -> None:
    verdict = next(text for tag, attributes, text in page.all("section") if attributes["id"] == "verdict")
    strong = Run.open(runs[1]).scores("test")
    assert f"Ship: strong: it is right on {100 * strong['accuracy']:.2f} %" in verdict
    assert "the best of 3 on validation, better than weak" in verdict
    assert f"it made {120 - round(120 * strong['accuracy'])} mistakes on 120 images" in verdict
    assert "Look at the 3 likely label errors, the most likely first; look at 1 pair of images that are nearly the same" in verdict
    assert "keep 1 pair of near duplicates that stands in two splits in one of them (1 test image is among them)" in verdict
    assert "mend or remove 3 unusable files" in verdict
    assert len(page.all("ol")) == 1
    assert len([text for _, _, text in page.all("li") if text.startswith(("Ship:", "It confuses:", "Fix in the data:"))]) == 3


def test_pairs_across_the_splits_that_the_run_cut_are_said(runs: list[Path], out: Path, page: Page) -> None:
    text = (out / "report.md").read_text("utf-8")
    for row, count in (
        ("across splits that the data declare", 0),
        ("across the run's own splits (strong)", 1),
        ("under two classes", 1),
    ):
        assert f"| of these {row} | {count} |" in text
    assert "| test images in such a pair | 1 |" in text
    test = Run.open(runs[1]).predictions("test")
    right = int(test.correct[1:].sum())
    said = next(text for tag, attributes, text in page.all("section") if attributes["id"] == "justification")
    assert "Against the figures of strong: 1 test image is nearly the same as an image of train or validation" in said
    assert f"without them it is right on {100 * right / 119:.2f} %" in said


def test_curves_mark_the_epoch_that_was_kept(out: Path) -> None:
    drawn = ElementTree.parse(out / "pictures" / "1-accuracy.svg").getroot()
    words = [(mark.text, float(mark.get("x", ""))) for mark in drawn.iter("{http://www.w3.org/2000/svg}text")]
    (kept,) = [x for text, x in words if text == "kept"]
    (second,) = [x for text, x in words if text == "2"]
    assert abs(kept - second) < 6


def test_nothing_is_called_weakest_among_equals(tmp_path: Path) -> None:
    report([finished_run(tmp_path / "perfect", 30.0)], tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text("utf-8")
    assert "**Classes of perfect · perfect-recipe**" in text
    assert "marked" not in text.partition("**Classes of perfect")[2].partition("## ")[0]


def cells(page: Page) -> set[str]:
    return {text.removeprefix("▸ ").removesuffix(" (marked)") for _, _, text in page.all("th", "td")}


def test_markdown_has_the_same_tables_and_pictures(out: Path, page: Page) -> None:
    text = (out / "report.md").read_text("utf-8")
    shown = re.findall(r"!\[(.*?[^\\])\]\((pictures/[^)]+)\)", text)
    assert len(shown) == len(page.all("figure"))
    assert {alt.replace("\\", "") for alt, _ in shown} == {attributes["aria-label"] for _, attributes, _ in page.all("svg")} | {
        attributes["alt"] for _, attributes, _ in page.all("img")
    }
    assert sorted(path for _, path in shown) == sorted(f"pictures/{path.name}" for path in (out / "pictures").iterdir())
    rows = [line for line in text.splitlines() if line.startswith("|") and not line.startswith("|---")]
    found = {re.sub(r"\\(.)", r"\1", cell.strip(" *")) for row in rows for cell in re.split(r"(?<!\\)\|", row[1:-1])}
    assert {cell for cell in cells(page) if "*" not in cell} == found
    for path in (out / "pictures").glob("*.svg"):
        assert ElementTree.parse(path).getroot().get("role") == "img"


def test_the_same_runs_give_the_same_bytes(runs: list[Path], inspection: Path, out: Path, tmp_path: Path) -> None:
    again = report(runs, tmp_path, inspection)
    assert len(again) > 20
    for path in again:
        assert path.read_bytes() == (out / path.relative_to(tmp_path)).read_bytes(), path.name


def test_a_run_saved_before_a_metric_existed_is_scored_again(runs: list[Path], out: Path, tmp_path: Path) -> None:
    finished_run(tmp_path / "old", 3.4, seed=1)

    def older(content: bytes) -> bytes:
        values = json.loads(content)
        for key in ("matthews", "brier_score", "roc_auc", "balanced_accuracy"):
            del values[key]
        return json.dumps(values).encode()

    def recorded_less(content: bytes) -> bytes:
        manifest = json.loads(content)
        for key in ("speed", "abstaining", "label_sets"):
            del manifest["record"][key]
        return json.dumps(manifest).encode()

    forge(tmp_path / "old", "scores/test.json", older)
    forge(tmp_path / "old", "run.json", recorded_less)
    report([tmp_path / "old"], tmp_path / "out")
    text, whole = (folder.read_text("utf-8") for folder in (tmp_path / "out" / "report.md", out / "report.md"))
    column = re.search(r"\| Matthews coefficient \| [\d.]+ \| ([\d.]+) \|", whole)
    assert column is not None
    assert f"| Matthews coefficient | {column[1]} |" in text
    assert "| many at once | not measured by this run |" in text
    assert "This run is older than the record of its layers" in text


def changed(key: str, value: Any) -> Any:
    return lambda content: json.dumps({**json.loads(content), key: value}).encode()


def test_wrong_claims_are_refused_and_nothing_is_written(runs: list[Path], tmp_path: Path) -> None:
    digit = finished_run(tmp_path / "digit")
    forge(digit, "scores/test.json", changed("accuracy", 0.999))
    row = finished_run(tmp_path / "row")
    fewer = finished_run(tmp_path / "fewer", n=119)
    for name in ("predictions/test.npz", "scores/test.json"):
        forge(row, name, lambda _, name=name: (fewer / name).read_bytes())
    other = finished_run(tmp_path / "other", n=124)
    for folder, reason in (
        (digit, "claim of digit is wrong"),
        (row, "no prediction for 1 of its 120 test images"),
        (other, "cannot be compared: one has 120 rows, the other 124"),
    ):
        with pytest.raises(UserError, match=reason):
            report([runs[0], folder], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_run_without_a_test_split_says_so(tmp_path: Path, runs: list[Path]) -> None:
    finished_run(tmp_path / "untested", test=False)
    report([tmp_path / "untested"], tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text("utf-8")
    assert "**Ship:** untested, but only after a test" in text
    assert "There is no test split: models were chosen on the very images" in text
    with pytest.raises(UserError, match="untested has not been judged on a test split, and others have"):
        report([runs[0], tmp_path / "untested"], tmp_path / "both")


def test_a_run_of_predictions_alone_is_reported_with_what_it_lacks(tmp_path: Path) -> None:
    whole = Run.open(finished_run(tmp_path / "whole"))
    with Run.create(tmp_path / "bare") as run:
        run.write_predictions("test", whole.predictions("test"))
        run.finish({})
    report([tmp_path / "bare"], tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text("utf-8")
    for said in (
        "bare keeps no record of its data",
        "bare keeps no model, so its layers cannot be listed",
        "bare keeps no history, so it has no curves",
        "The run keeps no temperature, so there is no before",
        "Thresholds and label sets need predictions of both",
    ):
        assert said in text


def how_measured(folder: Path) -> str:
    """The paragraph under the report's last heading."""
    return (folder / "report.md").read_text("utf-8").partition("## How it was measured")[2].strip().partition("\n")[0]


def test_how_it_was_measured_is_said_in_full_where_the_records_have_it(out: Path, tmp_path: Path) -> None:
    checks = (
        "Before this report was written every recorded score was computed again, rows were counted, and images and true classes "
        "were compared with the fingerprint of the data: a run that fails any of it is refused."
    )
    read = (
        "The test images were read once by each run, after its model was saved, and predicted row by row; scores are computed from "
        "those rows."
    )
    chose = "Validation chose everything: the epoch, the regularisation"
    assert how_measured(out) == f"{chose}, the temperature, and the model to ship. {read} {checks}"
    report([finished_run(tmp_path / "one")], tmp_path / "alone")
    assert how_measured(tmp_path / "alone") == f"{chose} and the temperature. {read} {checks}"


def test_how_it_was_measured_is_said_as_far_as_the_records_tell(tmp_path: Path) -> None:
    whole = finished_run(tmp_path / "whole")
    bare = kept_run(tmp_path / "bare", whole, "test")
    report([bare], tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text("utf-8")
    assert how_measured(tmp_path / "out") == (
        "What chose in the training of bare is not recorded. How often bare read the test images is not recorded. Scores are "
        "computed from the saved predictions. bare records no scores, no number of its images and no fingerprint of its data, so "
        "there was nothing to compare with."
    )
    for claim in ("Validation chose", "read once", "no part in", "agree with the recorded", "holds the compiled graph"):
        assert claim not in text
    assert "bare keeps no model, so there is none to serve" in text
    assert "(seed not recorded)" in text
    report([whole, bare], tmp_path / "both")
    text = (tmp_path / "both" / "report.md").read_text("utf-8")
    said = how_measured(tmp_path / "both")
    assert said.startswith("These test images chose the model to ship, for there are no validation predictions of bare.")
    assert "whole read the test images once, after the model was saved. How often bare read them is not recorded." in said
    assert "every recorded score was computed again, rows were counted, and images" in said
    assert "bare records no scores" in said
    assert "whole records no" not in said
    assert "chosen on the very test images that it is judged on here, which flatters it" in text
    assert "2 runs were judged on test. The more runs" in text


def test_a_model_from_elsewhere_is_reported_with_what_is_known_of_it(tmp_path: Path) -> None:
    p = Run.open(finished_run(tmp_path / "whole")).predictions("test")
    with Run.create(tmp_path / "imported") as run:
        run.write_data({"source": "animals", "counts": {"test": counted(p)}, "fingerprints": {"test": fingerprint(p)}})
        run.write_predictions("test", p)
        run.finish({"test_accuracy": float(p.correct.mean())})
    report([tmp_path / "imported"], tmp_path / "out")
    said = how_measured(tmp_path / "out")
    assert (
        "Before this report was written rows were counted, and images and true classes were compared with the fingerprint" in said
    )
    assert "imported records no scores, so there was nothing to compare with." in said
    text = (tmp_path / "out" / "report.md").read_text("utf-8")
    assert "No image content stands in two splits" not in text
    assert "and no record tells whether anything else has read them" in text


def test_one_run_given_twice_is_refused_and_nothing_is_written(runs: list[Path], tmp_path: Path) -> None:
    for again in (runs[0], runs[0] / ".." / runs[0].name):
        done = CliRunner().invoke(app, ["report", str(runs[0]), str(again), "--out", str(tmp_path / "out")])
        assert isinstance(done.exception, UserError)
        assert "The run weak is named twice" in str(done.exception)
    assert not (tmp_path / "out").exists()


def test_two_runs_of_one_name_are_told_apart_by_folder(tmp_path: Path) -> None:
    folders = [finished_run(tmp_path / place / "run", skill) for place, skill in (("one", 1.0), ("two", 3.0))]
    report(folders, tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text("utf-8")
    assert all(f"## Scores of {folder}" in text.replace("\\", "") for folder in folders)


def test_images_of_no_known_class_alone_can_be_reported_on(tmp_path: Path) -> None:
    lost = [
        kept_run(tmp_path / name, finished_run(tmp_path / f"whole-{name}", skill), "test", "validation", unknown=True)
        for name, skill in (("one", 1.0), ("two", 3.0))
    ]
    report(lost, tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text("utf-8")
    assert "none of these is of a class that two knows" in text
    assert "No row has a known class" in text
    assert "null" not in (tmp_path / "out" / "MODEL_CARD.md").read_text("utf-8").partition("\n---\n")[0]


def test_what_others_state_is_marked_so_where_the_data_are_theirs(tmp_path: Path, out: Path) -> None:
    folder = finished_run(tmp_path / "ours")
    forge(folder, "data.json", changed("published", "cifar10"))
    report([folder], tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text("utf-8")
    assert "| MobileNetV2, fine-tuned (D), stated | 90.24 % | – | – | 0.3300 |" in text
    assert ", stated" not in (out / "report.md").read_text("utf-8")


def test_an_inspection_of_other_data_is_refused(runs: list[Path], inspection: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no inspection"):
        report(runs, tmp_path / "out", tmp_path)
    (tmp_path / "audit.json").write_text(json.dumps({"source": "cars", "splits": {"train": {"classes": {"audi": 1}}}}))
    with pytest.raises(UserError, match="of other data than the runs: cars"):
        report(runs, tmp_path / "out", tmp_path)


def test_sizes_and_what_the_lists_leave_out_are_told(runs: list[Path], inspection: Path, tmp_path: Path) -> None:
    record = json.loads((inspection / "audit.json").read_text())
    spans = {"minimum": 60, "median": 80.5, "maximum": 1200}
    record["splits"]["train"] |= {"size": None, "width": spans, "height": dict.fromkeys(spans, 64)}
    record["splits"]["train"] |= {"bytes": {"minimum": 2100, "median": 3000.0, "maximum": 5_100_000}}
    record |= {"pairs": 1436, "left_out": 1434, "most_compared": 4}
    (tmp_path / "audit.json").write_text(json.dumps(record))
    report(runs[:1], tmp_path / "out", tmp_path)
    text = (tmp_path / "out" / "report.md").read_text("utf-8")
    assert "| train | 60 to 1,200 (median 80.5) | 64 | 2.1 kB to 5.1 MB (median 3.0 kB) |" in text
    assert "| pairs that are nearly the same | 1,436 |" in text
    assert "1,434 of these pairs are counted but not listed." in text
    assert "compared closely with the 4 most alike" in text


def test_pictures_of_what_the_record_does_not_have_are_left_out(runs: list[Path], inspection: Path, tmp_path: Path) -> None:
    names = ("samples.png", "duplicates.png", "label_errors.png")
    for name in names:
        (tmp_path / name).write_bytes((inspection / "samples.png").read_bytes())
    record = json.loads((inspection / "audit.json").read_text())
    opened = [Run.open(runs[0])]
    for changes, shown in (
        ({}, names),
        ({"duplicates": [], "label_errors": None}, ("samples.png",)),
        ({"label_errors": {"estimated": 0, "rows": []}}, names[:2]),
    ):
        (tmp_path / "audit.json").write_text(json.dumps(record | changes))
        assert tuple(gather(opened, tmp_path).pictures) == shown


def test_an_inspection_whose_counts_do_not_fit_is_refused(runs: list[Path], inspection: Path, tmp_path: Path) -> None:
    """It has the classes of the runs, which used to be enough."""
    record = json.loads((inspection / "audit.json").read_text())
    record["splits"]["train"]["classes"]["cat"] = 149
    (tmp_path / "audit.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match="of other data than the runs: animals") as refused:
        report(runs, tmp_path / "out", tmp_path)
    assert (refused.value.expected, refused.value.received) == ("the images of weak: 600 in train", "599 in train")


def test_what_could_not_be_compared_is_said(out: Path) -> None:
    text = (out / "report.md").read_text("utf-8")
    for name in ("weak", "strong", "staged"):
        assert f"- Contents could not be compared with {name}'s data, for one of the two keeps no fingerprint" in text


@pytest.fixture
def photos(inspection: Path, tmp_path: Path) -> Path:
    """The inspection of photos: a grid of ten a class, and the pairs, as noise that PNG cannot compress."""
    folder = tmp_path / "photos"
    folder.mkdir()
    record = json.loads((inspection / "audit.json").read_text())
    (folder / "audit.json").write_text(json.dumps(record))
    noise = np.random.default_rng(3)
    for name, height, width in (("samples.png", 800, 1905), ("duplicates.png", 2100, 1520), ("label_errors.png", 1000, 1520)):
        coarse = noise.integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
        grown = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), np.int16)
        pixels = np.clip(grown + noise.integers(-9, 10, grown.shape), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / name, compress_level=1)
    return folder


def test_photos_are_made_small_enough_and_not_left_out(runs: list[Path], photos: Path, tmp_path: Path) -> None:
    assert sum(path.stat().st_size for path in photos.glob("*.png")) > 8_000_000
    written = report(runs, tmp_path / "out", photos)
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert 1_000_000 < len(page.encode()) <= 5_000_000
    assert "left out, for the page" not in page
    shown = re.findall(r'<img src="data:image/jpeg;base64,', page)
    assert len(shown) == 3
    for name in ("data-samples.jpg", "data-duplicates.jpg", "data-label_errors.jpg"):
        with Image.open(tmp_path / "out" / "pictures" / name) as image:
            assert image.format == "JPEG"
            assert image.width >= 800
        assert tmp_path / "out" / "pictures" / name in written
        assert f"(pictures/{name})" in (tmp_path / "out" / "report.md").read_text("utf-8")


def test_the_command_writes_and_says_where(runs: list[Path], tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["report", *map(str, runs), "--out", str(tmp_path / "out"), "--license", "mit"])
    assert done.exit_code == 0, done.output
    assert 'license: "mit"' in (tmp_path / "out" / "MODEL_CARD.md").read_text("utf-8")
    assert "The report: " in done.output


def test_the_command_takes_galleries_of_several_runs(runs: list[Path], tmp_path: Path) -> None:
    asked: list[str] = []
    for run in runs[:2]:
        asked += ["--galleries", str(gallery(run, tmp_path / run.name))]
    done = CliRunner().invoke(app, ["report", *map(str, runs), "--out", str(tmp_path / "out"), *asked])
    assert done.exit_code == 0, done.output
    page = Page((tmp_path / "out" / "report.html").read_text("utf-8"))
    shown = [attributes["id"] for _, attributes, _ in page.all("figure") if attributes["id"].startswith("figure-gallery")]
    assert shown == ["figure-gallery-1-mistakes", "figure-gallery-1-hits", "figure-gallery-2-mistakes", "figure-gallery-2-hits"]
    with pytest.raises(UserError, match="of a run that is not in this report"):
        report(runs[2:], tmp_path / "other", galleries=[tmp_path / "weak"])
    assert not (tmp_path / "other").exists()


def test_a_pdf_without_its_library_says_what_to_install(runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "weasyprint", None)
    with pytest.raises(UserError, match="A PDF needs WeasyPrint") as refused:
        report(runs[:1], tmp_path / "out", pdf=True)
    assert "frostline[pdf]" in refused.value.hint
    assert not (tmp_path / "out").exists()


def test_a_pdf_is_written_where_its_library_is(runs: list[Path], tmp_path: Path) -> None:
    pytest.importorskip("weasyprint", exc_type=(ImportError, OSError))
    report(runs[:1], tmp_path / "out", pdf=True)
    assert (tmp_path / "out" / "report.pdf").read_bytes().startswith(b"%PDF-")
