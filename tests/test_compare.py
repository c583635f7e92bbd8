from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from frostline import compare
from frostline.config import Settings
from frostline.errors import UserError
from frostline.metrics import score
from frostline.predictions import Predictions
from frostline.runs import Run

CLASSES = ("cat", "dog", "eel")
SPEED = {"images_per_second": 512.3, "latency_ms": 1.25, "batch": 16, "threads": 2, "precision": "f32"}


def predictions(predicted: list[int], labels: list[int]) -> Predictions:
    n = len(labels)
    ids = np.array([f"test/{i:05d}" for i in range(n)], dtype=np.str_)
    digests = np.array([b"image%d" % i for i in range(n)], dtype="S16")
    probabilities = np.full((n, 3), 0.1)
    probabilities[np.arange(n), predicted] = 0.8
    return Predictions(ids, np.array(labels, dtype=np.int64), probabilities, CLASSES, digests)


def finished(folder: Path, judged: Predictions, **record: object) -> Run:
    with Run.create(folder) as run:
        run.write_settings(Settings(recipe=f"{folder.name}-recipe"))
        run.write_predictions("test", judged)
        run.model_folder.mkdir()
        (run.model_folder / "model.bin").write_bytes(b"x" * 2_500_000)
        run.finish(record)
    return Run.open(folder)


def with_hits(hits: int, n: int = 100) -> Predictions:
    labels = [i % 3 for i in range(n)]
    return predictions([label if i < hits else (label + 1) % 3 for i, label in enumerate(labels)], labels)


def test_a_row_tells_what_the_run_is_worth(tmp_path: Path) -> None:
    run = finished(tmp_path / "a", with_hits(90), parameters=1234567, training_seconds=61.7, speed=SPEED)
    (row,) = json.loads(json.dumps(compare.table([run]), allow_nan=False))
    scores = score(with_hits(90))
    assert row == {
        "name": "a",
        "recipe": "a-recipe",
        "accuracy": 0.9,
        "interval": scores["interval"],
        "n": 100,
        "log_loss": scores["log_loss"],
        "macro_f1": scores["macro"]["f1"],
        "calibration_error": pytest.approx(0.1),
        "parameters": 1234567,
        "training_seconds": 61.7,
        "model_bytes": 2_500_000,
        "images_per_second": 512.3,
        "latency_ms": 1.25,
        "seconds_to_90": None,
    }


def test_the_table_shows_values_and_dashes(tmp_path: Path) -> None:
    told = {"parameters": 1234567, "training_seconds": 90.0, "speed": SPEED}
    rows = compare.table([finished(tmp_path / "[red]", with_hits(90), **told), finished(tmp_path / "b", with_hits(80))])
    text = io.StringIO()
    Console(width=200, file=text).print(compare.render(rows))
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.getvalue().splitlines() if line.startswith("│")]
    assert lines[0][:4] == ["[red]", "[red]-recipe", "90.00 % [82.56, 94.48]", "100"]
    assert lines[0][-6:] == ["1,234,567", "2.5", "512", "1.25", "1.50", "–"]
    assert lines[1][-6:] == ["–", "2.5", "–", "–", "–", "–"]


def test_runs_of_one_name_are_told_apart_by_folder(tmp_path: Path) -> None:
    runs = [finished(tmp_path / place / "run", with_hits(50)) for place in "ab"]
    assert [row["name"] for row in compare.table(runs)] == [str(tmp_path / place / "run") for place in "ab"]


def test_a_clear_difference_and_none(tmp_path: Path) -> None:
    runs = [finished(tmp_path / name, with_hits(hits)) for name, hits in (("a", 80), ("b", 90), ("c", 91))]
    rows = compare.pairs(runs)
    assert [(row["a"], row["b"], row["only_a"], row["only_b"]) for row in rows] == [
        ("a", "b", 0, 10),
        ("a", "c", 0, 11),
        ("b", "c", 0, 1),
    ]
    assert [row["difference"] for row in rows] == [-0.1, -0.11, -0.01]
    assert [row["p"] for row in rows] == [2 / 2**10, 2 / 2**11, 1.0]
    assert [row["p_holm"] for row in rows] == [2 * 2 / 2**10, 3 * 2 / 2**11, 1.0]
    assert rows[0]["verdict"] == (
        "b is better than a by 10.00 points, 95 % interval 3.43 to 16.18, on these 100 images (p = 0.0039, corrected for 3 pairs)"
    )
    assert rows[2]["verdict"] == "b and c cannot be told apart on these 100 images (p = 1, corrected for 3 pairs)"
    (only,) = compare.pairs(runs[:2])
    assert only["p_holm"] == only["p"]
    assert only["verdict"].endswith("(p = 0.002)")
    assert compare.pairs(runs[:1]) == []


def test_order_of_rows_and_of_classes_does_not_matter(tmp_path: Path) -> None:
    a, b = with_hits(80), with_hits(90)
    order = np.random.default_rng(0).permutation(100)
    turned = np.array([2, 0, 1])  # the place of each class in the other order
    shuffled = Predictions(
        b.ids[order],
        turned[b.labels[order]],
        b.probabilities[order][:, np.argsort(turned)],
        ("dog", "eel", "cat"),
        b.digests[order],
    )
    (row,) = compare.pairs([finished(tmp_path / "a", a), finished(tmp_path / "b", shuffled)])
    assert (row["only_a"], row["only_b"]) == (0, 10)


def test_different_images_are_refused_with_the_reason(tmp_path: Path) -> None:
    a = with_hits(80)
    fewer = predictions([0] * 99, [0] * 99)
    digests, ids, labels = a.digests.copy(), a.ids.copy(), a.labels.copy()
    digests[3], ids[99], labels[5] = b"other", "test/99999", 0
    cases = [
        (fewer, "one has 100 rows, the other 99"),
        (replace(a, digests=digests), "1 images differ in content, such as test/00003"),
        (replace(a, ids=ids), "different rows, such as test/00099 and test/99999"),
        (replace(a, labels=labels), "1 images have another true class, such as test/00005"),
    ]
    first = finished(tmp_path / "first", a)
    for i, (other, reason) in enumerate(cases):
        with pytest.raises(UserError, match=reason):
            compare.pairs([first, finished(tmp_path / str(i), other)])


def test_unknown_classes_are_one_truth(tmp_path: Path) -> None:
    labels = with_hits(80).labels.copy()
    labels[0] = -1
    runs = [finished(tmp_path / str(hits), replace(with_hits(hits), labels=labels)) for hits in (80, 90)]
    assert compare.pairs(runs)[0]["only_b"] == 10


def test_a_changed_record_is_refused(tmp_path: Path) -> None:
    run = finished(tmp_path / "a", with_hits(80))
    with_hits(81).save(tmp_path / "a" / "predictions" / "test.npz")
    for judge in (compare.table, compare.pairs):
        with pytest.raises(UserError, match="was changed or damaged"):
            judge([run])


def test_a_curve_has_every_moment_at_which_something_was_judged(tmp_path: Path) -> None:
    with Run.create(tmp_path / "tuned") as run:
        for stage in ("data", "compile", "activations", "head"):
            run.timings[stage] = 10.0
        with run.timing("fit"):
            pass
        run.add_history({"stage": "features", "images": 5, "seconds": 3.0, "validation_accuracy": 0.5})
        run.add_history({"stage": "head", "epoch": 1, "seconds": 1.0, "elapsed": 35.0, "validation_accuracy": 0.7})
        run.add_history({"epoch": 1, "seconds": 9.0, "elapsed": 52.0, "validation_accuracy": 0.8})
        run.add_history({"stage": "lr-finder", "lr": 0.1, "loss": 2.0})
        run.write_predictions("validation-head", with_hits(75))
        run.write_predictions("validation", with_hits(90))
        run.finish({"training_seconds": 60.0})
    found = compare.curves([Run.open(tmp_path / "tuned")])
    ((name, points),) = found
    assert name == "tuned"
    assert [(round(seconds), accuracy) for seconds, accuracy in points] == [(3, 0.5), (40, 0.75), (52, 0.8), (60, 0.9)]


def test_the_time_to_an_accuracy_is_that_of_the_first_moment_that_had_it() -> None:
    curve = [(23.0, 0.5), (40.0, 0.91), (52.0, 0.89), (60.0, 0.95)]
    assert compare.seconds_to(curve, 0.9) == 40.0
    assert compare.seconds_to(curve, 0.95) == 60.0
    assert compare.seconds_to(curve, 0.96) is None


def test_the_front_is_what_nothing_beats() -> None:
    points = [(10.0, 0.9), (5.0, 0.8), (20.0, 0.9), (30.0, 0.95), (5.0, 0.8), (6.0, 0.7)]
    assert compare.pareto_front(points) == [1, 4, 0, 3]
    assert compare.pareto_front([]) == []


def test_a_run_that_tells_no_time_has_no_curve(tmp_path: Path) -> None:
    assert compare.curves([finished(tmp_path / "a", with_hits(90))]) == [("a", [])]


def test_every_run_keeps_its_curve_whatever_it_is_called(tmp_path: Path) -> None:
    runs = []
    for place, hits in (("one", 80), ("two", 90)):
        with Run.create(tmp_path / place / "run") as run:
            run.write_predictions("validation", with_hits(hits))
            run.finish({"training_seconds": 60.0})
        runs.append(Run.open(tmp_path / place / "run"))
    assert compare.curves(runs) == [(str(run.folder), [(60.0, hits)]) for run, hits in zip(runs, (0.8, 0.9), strict=True)]


def test_a_run_named_twice_is_refused_however_it_is_written(tmp_path: Path) -> None:
    finished(tmp_path / "a", with_hits(80))
    finished(tmp_path / "b", with_hits(80))
    (tmp_path / "link").symlink_to(tmp_path / "a")
    compare.distinct(runs := [Run.open(tmp_path / "a"), Run.open(tmp_path / "b")])
    with pytest.raises(UserError, match="named twice"):
        compare.distinct([*runs, runs[1]])
    for other in (tmp_path / "a", tmp_path / "b" / ".." / "a", tmp_path / "link"):
        with pytest.raises(UserError, match="The run a is named twice") as refused:
            compare.distinct([Run.open(tmp_path / "a"), Run.open(tmp_path / "b"), Run.open(other)])
        assert refused.value.received == f"{tmp_path / 'a'} and {other}, which are one folder"


def test_what_others_state_stands_beside_runs_on_the_same_data_and_says_so(tmp_path: Path) -> None:
    with Run.create(tmp_path / "ours") as run:
        run.write_data({"source": "cifar10", "published": "cifar10"}, ())
        run.write_predictions("test", with_hits(95))
        run.finish({})
    other = finished(tmp_path / "other", with_hits(90))
    ours = Run.open(tmp_path / "ours")
    rows = compare.stated([ours])
    assert {row["recipe"] for row in rows} == {"stated"}
    assert max(row["accuracy"] for row in rows) == 0.9024
    assert set(rows[0]) == set(compare.table([ours])[0])
    text = io.StringIO()
    Console(width=200, file=text).print(compare.render([*compare.table([ours]), *rows]))
    line = next(line for line in text.getvalue().splitlines() if "fine-tuned (D)" in line)
    assert [cell.strip() for cell in line.split("│")[2:7]] == ["stated", "90.24 %", "–", "–", "0.3300"]
    assert compare.stated([other]) == []


def test_models_that_order_their_classes_differently_were_judged_on_the_same_images(tmp_path):
    ids, labels, digests = np.array(["a", "b"]), np.array([0, 1]), np.array([b"1", b"2"], "S16")
    runs = []
    for name, classes, truth in (("one", ("cat", "dog"), labels), ("two", ("dog", "cat", "fox"), 1 - labels)):
        with Run.create(tmp_path / name) as made:
            p = np.full((2, len(classes)), 0.4 / (len(classes) - 1), np.float32)
            p[:, 0] = 0.6
            made.write_predictions("test", Predictions(ids, truth, p, classes, digests))
            made.finish({})
        runs.append(Run.open(tmp_path / name))
    assert compare.on_the_same_images(runs)
