"""A wrong claim is refused with its reason, also where somebody has written new digests for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forged import forge
from sklearn.metrics import matthews_corrcoef

from frostline import compare
from frostline.conformal import card_rows
from frostline.data.imageset import ImageSet
from frostline.errors import UserError
from frostline.metrics import score
from frostline.predictions import Predictions
from frostline.runs import Run
from frostline.verified import ROW_ORDER, check_record, differences, evidence, verified

#: Scores that runs of the first days lack.
AFTERWARDS = ("matthews", "roc_auc", "brier_score", "confusion_normalised")


def predictions(n: int = 40, wrong: int = 6, name: str = "test") -> Predictions:
    labels = np.arange(n, dtype=np.int64) % 3
    probabilities = np.full((n, 3), 0.1)
    probabilities[np.arange(n), np.where(np.arange(n) < wrong, (labels + 1) % 3, labels)] = 0.8
    digests = np.array([f"{name}{i}".encode() for i in range(n)], dtype="S16")
    return Predictions(np.array([f"{name}/{i:03}" for i in range(n)]), labels, probabilities, ("a", "b", "c"), digests)


def fingerprint(p: Predictions) -> str:
    pixels = np.zeros((len(p), 1, 1, 3), np.uint8)
    return ImageSet("test", p.classes, p.labels, p.ids, p.digests, pixels=pixels).fingerprint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    test, validation = predictions(), predictions(30, 3, "validation")
    both = {"test": test, "validation": validation, "test-head": predictions(wrong=9)}
    counts = {"test": {"images": 40, "classes": {"a": 14, "b": 13, "c": 13}}, "validation": {"images": 30, "classes": {}}}
    with Run.create(tmp_path / "run") as run:
        run.write_data({"counts": counts, "fingerprints": {name: fingerprint(both[name]) for name in ("test", "validation")}})
        for split, judged in both.items():
            run.write_predictions(split, judged)
            run.write_scores(split, score(judged))
        stages = {"head": {"test_accuracy": 31 / 40, "difference": 3 / 40, "p": 0.25, "n": 40}}
        run.finish({"test_accuracy": 34 / 40, "stages": stages})
    return tmp_path / "run"


def test_a_true_run_passes_and_gives_its_predictions(folder: Path) -> None:
    run = Run.open(folder)
    check_record(run)
    assert verified(run).correct.sum() == 34
    assert compare.table([run])[0]["accuracy"] == 34 / 40


def edited(change: Callable[[dict[str, Any]], None]) -> Callable[[bytes], bytes]:
    def edit(content: bytes) -> bytes:
        values = json.loads(content)
        change(values)
        return json.dumps(values).encode()

    return edit


def test_one_changed_digit_in_the_scores_is_refused(folder: Path) -> None:
    path = folder / "scores" / "test.json"
    text = path.read_text()
    assert '"accuracy": 0.85' in text
    path.write_text(text.replace('"accuracy": 0.85', '"accuracy": 0.86'))
    with pytest.raises(UserError, match=r"test.json was changed or damaged"):
        compare.table([Run.open(folder)])
    forge(folder, "scores/test.json", lambda content: content)
    with pytest.raises(UserError, match=r"claim of run is wrong: scores/test.json") as refused:
        compare.table([Run.open(folder)])
    assert refused.value.received == "accuracy: 0.86 recorded, 0.85 found"


@pytest.mark.parametrize(
    ("change", "received"),
    [
        (lambda s: s["per_class"][1].update(f1=0.5), "per_class[1].f1: 0.5 recorded"),
        (lambda s: s["confusion"][0].__setitem__(0, 13), "confusion[0][0]: 13 recorded"),
        (lambda s: s.update(log_loss=s["log_loss"] * (1 + 1e-6)), "log_loss: "),
        (lambda s: s["confusion"].pop(), "confusion: 2 values recorded, 3 found"),
        (lambda s: s["confusion_normalised"][2].__setitem__(2, 0.9), "confusion_normalised[2][2]: 0.9 recorded"),
        (lambda s: s["confusion_normalised"].__setitem__(0, [None] * 3), "confusion_normalised[0][0]: None recorded"),
    ],
)
def test_any_score_that_does_not_follow_is_refused(folder: Path, change: Callable[[dict[str, Any]], None], received: str) -> None:
    forge(folder, "scores/test.json", edited(change))
    with pytest.raises(UserError, match=r"scores/test\.json") as refused:
        verified(Run.open(folder))
    assert refused.value.received.startswith(received)


def test_a_run_older_than_a_score_is_scored_again_and_not_refused(folder: Path) -> None:
    forge(folder, "scores/test.json", edited(lambda s: [s.pop(key) for key in AFTERWARDS]))
    forge(folder, "scores/test.json", edited(lambda s: s.update(notes=["said otherwise then"], no_longer_known=3)))
    run = Run.open(folder)
    assert score(verified(run))["matthews"] == pytest.approx(matthews_corrcoef(predictions().labels, predictions().predicted))
    (folder / "scores" / "test.json").unlink()
    with pytest.raises(UserError, match="is missing"):
        verified(Run.open(folder))


@pytest.mark.parametrize(
    ("change", "received"),
    [
        (lambda r: r.update(test_accuracy=0.875), "test_accuracy: 0.875 recorded, 0.85 found"),
        (lambda r: r["stages"]["head"].update(p=0.01), "stages.head.p: 0.01 recorded, 0.25 found"),
        (lambda r: r.update(abstaining=[{"wanted": 0.95, "threshold": 0.8, "coverage": 0.5}]), "abstaining: 1 values recorded, 0"),
    ],
)
def test_a_wrong_summary_is_refused(folder: Path, change: Callable[[dict[str, Any]], None], received: str) -> None:
    forge(folder, "run.json", edited(lambda manifest: change(manifest["record"])))
    with pytest.raises(UserError, match=r"run\.json does not say what is in its predictions") as refused:
        check_record(Run.open(folder))
    assert refused.value.received.startswith(received)


def saved(judged: Predictions, folder: Path) -> bytes:
    judged.save(folder / "other.npz")
    return (folder / "other.npz").read_bytes()


def test_a_missing_row_is_refused(folder: Path, tmp_path: Path) -> None:
    whole = predictions()
    fewer = Predictions(whole.ids[1:], whole.labels[1:], whole.probabilities[1:], whole.classes, whole.digests[1:])
    forge(folder, "predictions/test.npz", lambda _: saved(fewer, tmp_path))
    forge(folder, "scores/test.json", lambda _: json.dumps(score(fewer)).encode())
    for judge in (compare.table, lambda runs: compare.pairs([*runs, Run.open(folder)])):
        with pytest.raises(UserError, match="no prediction for 1 of its 40 test images"):
            judge([Run.open(folder)])


def test_a_row_too_many_is_refused(folder: Path, tmp_path: Path) -> None:
    forge(folder, "predictions/test.npz", lambda _: saved(predictions(41), tmp_path))
    with pytest.raises(UserError, match="1 test images more than its record tells"):
        verified(Run.open(folder))


def test_rows_of_other_images_are_refused(folder: Path, tmp_path: Path) -> None:
    forge(folder, "predictions/test.npz", lambda _: saved(predictions(name="others"), tmp_path))
    with pytest.raises(UserError, match="not of the images and true classes in its record"):
        verified(Run.open(folder))


def test_validation_of_other_images_is_refused_before_it_chooses_anything(folder: Path, tmp_path: Path) -> None:
    others = predictions(30, 3, "others")
    forge(folder, "predictions/validation.npz", lambda _: saved(others, tmp_path))
    forge(folder, "scores/validation.json", lambda _: json.dumps(score(others)).encode())
    for look in (check_record, lambda run: verified(run, "validation"), lambda run: compare.table([run])):
        with pytest.raises(UserError, match="validation predictions of run are not of the images and true classes in its record"):
            look(Run.open(folder))
    assert len(verified(Run.open(folder), "test")) == 40


def test_two_validation_labels_changed_places_are_refused(folder: Path, tmp_path: Path) -> None:
    p = predictions(30, 3, "validation")
    labels = p.labels.copy()
    labels[[0, 1]] = labels[[1, 0]]
    forge(folder, "predictions/validation.npz", lambda _: saved(replace(p, labels=labels), tmp_path))
    forge(folder, "scores/validation.json", lambda _: json.dumps(score(replace(p, labels=labels))).encode())
    with pytest.raises(UserError, match="not of the images and true classes"):
        verified(Run.open(folder), "validation")


def test_images_are_compared_where_nothing_is_counted_too(tmp_path: Path) -> None:
    with Run.create(tmp_path / "run") as run:
        run.write_data({"fingerprints": {"test": fingerprint(predictions())}})
        run.write_predictions("test", predictions(name="others"))
        run.finish({})
    with pytest.raises(UserError, match="not of the images and true classes"):
        verified(Run.open(tmp_path / "run"))


def judged_run(folder: Path, p: Predictions, data: dict[str, Any], seen: Predictions | None = None, **record: Any) -> Run:
    """A run of validation predictions, whose model keeps a list of seen images where there is one."""
    with Run.create(folder) as run:
        run.write_data({"counts": {"validation": {"images": 30, "classes": {}}}, **data})
        run.write_predictions("validation", p)
        run.model_folder.mkdir()
        (run.model_folder / "model.json").write_text(json.dumps({"training": {"validation_images": len(p)}}))
        if seen is not None:
            np.save(run.model_folder / "seen.npy", seen.digests)
        run.finish(record)
    return Run.open(folder)


def rows(p: Predictions, order: Any) -> Predictions:
    return Predictions(p.ids[order], p.labels[order], p.probabilities[order], p.classes, p.digests[order])


def test_edited_validation_is_compared_as_it_was_edited(tmp_path: Path) -> None:
    as_cut, edited_rows = predictions(31, 3, "validation"), predictions(30, 3, "validation")
    fingerprints = {"fingerprints": {"validation": fingerprint(as_cut)}}
    edits = {"edits": {"exclude": {"validation": 1}, "fingerprints": {"validation": fingerprint(edited_rows)}}}
    assert len(verified(judged_run(tmp_path / "edited", edited_rows, fingerprints | edits), "validation")) == 30
    with pytest.raises(UserError, match="not of the images"):
        verified(judged_run(tmp_path / "cut", rows(as_cut, slice(1, 31)), fingerprints | edits), "validation")


def test_an_older_run_whose_rows_stand_in_another_order_is_not_refused(tmp_path: Path) -> None:
    p, order = predictions(30, 3, "validation"), np.random.default_rng(0).permutation(30)
    data = {"fingerprints": {"validation": fingerprint(p)}}
    assert len(verified(judged_run(tmp_path / "by-id", rows(p, order), data), "validation")) == 30
    # ids that do not tell the order of the data: what training has seen is known all the same
    named = replace(p, ids=p.ids[order])
    assert len(verified(judged_run(tmp_path / "seen", rows(named, order), data, seen=p), "validation")) == 30
    for name, seen, record in (
        ("nothing", None, {}),
        ("others", predictions(30, 3, "others"), {}),
        ("newer", p, ROW_ORDER),
    ):
        with pytest.raises(UserError, match="not of the images and true classes"):
            verified(judged_run(tmp_path / name, rows(named, order), data, seen, **record), "validation")


def test_a_part_of_validation_is_of_images_that_training_has_seen(tmp_path: Path) -> None:
    p = predictions(30, 3, "validation")
    data = {"fingerprints": {"validation": fingerprint(p)}}
    part = rows(p, slice(0, 10))
    assert len(verified(judged_run(tmp_path / "part", part, data, seen=p), "validation")) == 10
    assert len(verified(judged_run(tmp_path / "old", part, data), "validation")) == 10
    with pytest.raises(UserError, match="not of the images") as refused:
        verified(judged_run(tmp_path / "others", predictions(10, 3, "others"), data, seen=p), "validation")
    assert refused.value.received == "images that training has not seen"


def test_what_could_be_checked_is_told(folder: Path, tmp_path: Path) -> None:
    assert evidence(Run.open(folder)) == {"scores": True, "rows": True, "images": True}
    assert evidence(Run.open(folder), "test-head") == {"scores": True, "rows": True, "images": True}
    with Run.create(tmp_path / "bare") as run:
        run.write_predictions("test", predictions())
        run.finish({})
    assert evidence(Run.open(tmp_path / "bare")) == {"scores": False, "rows": False, "images": False}


def test_a_score_without_predictions_is_refused(tmp_path: Path) -> None:
    with Run.create(tmp_path / "run") as run:
        run.finish({"test_accuracy": 0.9})
    with pytest.raises(UserError, match="holds no predictions"):
        check_record(Run.open(tmp_path / "run"))


def test_counts_that_the_models_card_contradicts_are_refused(tmp_path: Path) -> None:
    with Run.create(tmp_path / "run") as run:
        run.model_folder.mkdir()
        (run.model_folder / "model.json").write_text(json.dumps({"architecture": {"parameters": 120}, "digest": "d"}))
        run.finish({"parameters": 102, "model_digest": "d"})
    with pytest.raises(UserError, match=r"in model/model\.json") as refused:
        check_record(Run.open(tmp_path / "run"))
    assert refused.value.received == "parameters: 102 recorded, 120 found"


def test_thresholds_of_label_sets_that_validation_does_not_give_are_refused(tmp_path: Path) -> None:
    validation = predictions(30, 3, "validation")
    rows = card_rows(validation.probabilities, validation.labels)
    for name, threshold in (("true", rows[1]["threshold"]), ("false", 0.5)):
        with Run.create(tmp_path / name) as run:
            run.write_predictions("validation", validation)
            run.model_folder.mkdir()
            card = {"label_sets": [rows[0], {**rows[1], "threshold": threshold}, rows[2]]}
            (run.model_folder / "model.json").write_text(json.dumps(card))
            run.finish({})
    check_record(Run.open(tmp_path / "true"))
    with pytest.raises(UserError, match=r"model/model\.json does not say what is in its predictions") as refused:
        check_record(Run.open(tmp_path / "false"))
    assert refused.value.received.startswith("label_sets[1].threshold: 0.5 recorded")


def test_validation_may_be_of_fewer_images_where_the_card_says_so(tmp_path: Path) -> None:
    for images, passes in ((30, True), (31, False)):
        with Run.create(tmp_path / str(images)) as run:
            run.write_data({"counts": {"validation": {"images": 100, "classes": {}}}})
            run.write_predictions("validation", predictions(30, 3))
            run.model_folder.mkdir()
            (run.model_folder / "model.json").write_text(json.dumps({"training": {"validation_images": images}}))
            run.finish({})
        if passes:
            assert len(verified(Run.open(tmp_path / str(images)), "validation")) == 30
        else:
            with pytest.raises(UserError, match="no prediction for 1 of its 31 validation images"):
                verified(Run.open(tmp_path / str(images)), "validation")


def test_the_last_bits_of_a_sum_are_no_difference() -> None:
    assert list(differences({"a": 0.1 + 0.2, "b": None}, {"a": 0.3, "b": None})) == []
    assert list(differences({"a": None}, {"a": 0.3})) == ["a: None recorded, 0.3 found"]
    assert list(differences({"a": True}, {"a": 1})) == []
