"""Galleries get into a report only as what the predictions of one of its runs say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from reported import finished_run, gallery

from frostline.errors import UserError
from frostline.reporting.document import Figures, Text
from frostline.reporting.galleries import MOST_TOLD, read, shown
from frostline.runs import Run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    root = tmp_path_factory.mktemp("runs")
    folders = (finished_run(root / "one", 1.5), finished_run(root / "two", 2.5, seed=1, staged=True))
    return [Run.open(folder) for folder in folders]


def rewrite(folder: Path, change: Any) -> None:
    path = folder / "galleries.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def test_a_gallery_is_found_to_be_of_its_run(runs: list[Run], tmp_path: Path) -> None:
    found = read(gallery(runs[1].folder, tmp_path / "g"), runs)
    assert (found.run, found.record["split"], found.record["n"]) == (1, "test", 120)
    assert found.pictures == {name: (tmp_path / "g" / f"{name}.png").read_bytes() for name in ("mistakes", "hits")}
    first, second = shown(found, 3, "two · recipe")
    assert isinstance(first, Figures)
    assert isinstance(second, Figures)
    (mistakes,), (hits,) = first.figures, second.figures
    assert (mistakes.name, hits.name) == ("gallery-3-mistakes", "gallery-3-hits")
    wrong = int((~runs[1].predictions("test").correct).sum())
    assert mistakes.caption.startswith(f"two · recipe: the 4 surest of its {wrong} mistakes on 120 test images; above each")
    assert hits.caption.startswith("two · recipe: the 4 test images that it got right and was least sure of; above each")
    row = found.record["mistakes"][0]
    assert (
        f"two · recipe: {row['id']}: {row['predicted']} with {100 * row['probability']:.1f} %, is {row['true']}; " in mistakes.alt
    )
    assert (mistakes.alt.count(" with "), mistakes.alt.count(", is ")) == (4, 4)
    assert (hits.alt.count(" with "), hits.alt.count(", is ")) == (8, 0)


def test_a_gallery_of_an_earlier_stage_and_of_validation_is_as_good(runs: list[Run], tmp_path: Path) -> None:
    for split in ("test-head", "validation"):
        found = read(gallery(runs[1].folder, tmp_path / split, split), runs)
        assert f" {split} images" in str(shown(found, 1, "two"))


def test_where_all_mistakes_are_shown_it_is_said(tmp_path: Path) -> None:
    run = Run.open(finished_run(tmp_path / "good", 3.0))
    (first, _) = shown(read(gallery(run.folder, tmp_path / "g", count=30), [run]), 1, "good")
    wrong = int((~run.predictions("test").correct).sum())
    assert 1 < wrong < 30
    assert isinstance(first, Figures)
    assert first.figures[0].caption.startswith(f"good: its {wrong} mistakes, the surest first, on 120 test images; above each")


def test_of_many_images_some_are_told(runs: list[Run], tmp_path: Path) -> None:
    (mistakes, _) = shown(read(gallery(runs[0].folder, tmp_path / "g", count=MOST_TOLD + 8), runs), 1, "one")
    assert isinstance(mistakes, Figures)
    assert mistakes.figures[0].alt.endswith("; and 8 more.")


def test_nothing_but_a_gallery_is_one(runs: list[Run], tmp_path: Path) -> None:
    for text in ("", "[]", "{}", '{"run": "one", "split": "test", "mistakes": 1, "hits": []}'):
        (tmp_path / "galleries.json").write_text(text)
        with pytest.raises(UserError, match="There are no galleries in"):
            read(tmp_path, runs)
    with pytest.raises(UserError, match="There are no galleries in"):
        read(tmp_path / "elsewhere", runs)


def test_a_gallery_of_another_run_is_refused(runs: list[Run], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="of a run that is not in this report") as refused:
        read(gallery(runs[0].folder, tmp_path / "g"), runs[1:])
    assert (refused.value.expected, refused.value.received) == ("two", "one")


def test_a_gallery_of_a_run_that_was_trained_again_is_refused(runs: list[Run], tmp_path: Path) -> None:
    again = Run.open(finished_run(tmp_path / "one", 2.0, seed=5))
    with pytest.raises(UserError, match="are not of what one says now of its test images") as refused:
        read(gallery(runs[0].folder, tmp_path / "g"), [again])
    assert "explain RUN --gallery" in refused.value.hint
    untested = Run.open(finished_run(tmp_path / "two" / "one", test=False))
    with pytest.raises(UserError, match="are not of what one says now") as refused:
        read(tmp_path / "g", [untested])
    assert refused.value.expected == "predictions of validation"


def test_a_changed_digit_is_refused_and_so_is_one_row_less_of_the_first(runs: list[Run], tmp_path: Path) -> None:
    changes = {
        "digit": lambda record: record["mistakes"][1].update(probability=0.5),
        "row": lambda record: record["hits"].pop(0),
        "count": lambda record: record.update(wrong=1),
    }
    for name, change in changes.items():
        rewrite(folder := gallery(runs[0].folder, tmp_path / name), change)
        with pytest.raises(UserError, match="do not show what the predictions of one say"):
            read(folder, runs)


def test_another_picture_is_refused(runs: list[Run], tmp_path: Path) -> None:
    folder = gallery(runs[0].folder, tmp_path / "g")
    Image.fromarray(np.zeros((5, 5, 3), np.uint8)).save(folder / "hits.png")
    with pytest.raises(UserError, match=r"hits\.png is not the picture that was drawn") as refused:
        read(folder, runs)
    assert refused.value.received == "another picture"
    (folder / "hits.png").unlink()
    with pytest.raises(UserError, match=r"hits\.png is not the picture") as refused:
        read(folder, runs)
    assert refused.value.received == "no such file"


def test_a_picture_that_the_record_did_not_draw_is_not_shown(runs: list[Run], tmp_path: Path) -> None:
    """As where an earlier gallery left it in the same folder, and this run makes no mistake or had no Matplotlib."""
    folder = gallery(runs[0].folder, tmp_path / "g")
    rewrite(folder, lambda record: record["pictures"].pop("mistakes.png"))
    assert set(read(folder, runs).pictures) == {"hits"}
    rewrite(folder, lambda record: record["pictures"].clear())
    (said,) = shown(read(folder, runs), 1, "one · recipe")
    assert said == Text(f"The gallery of one · recipe in {folder} holds no pictures.")


def test_a_gallery_from_before_digests_were_kept_is_checked_by_its_rows(runs: list[Run], tmp_path: Path) -> None:
    folder = gallery(runs[0].folder, tmp_path / "g")
    rewrite(folder, lambda record: [record.pop(key) for key in ("predictions", "pictures")])
    assert set(read(folder, runs).pictures) == {"mistakes", "hits"}
    (folder / "mistakes.png").unlink()
    assert set(read(folder, runs).pictures) == {"hits"}
    again = Run.open(finished_run(tmp_path / "one", 2.0, seed=5))
    with pytest.raises(UserError, match="do not show what the predictions of one say"):
        read(folder, [again])
