"""What is printed for a person: numbers as they are, names as they are, and what to type next."""

import shlex

import numpy as np
import pytest

from frostline import show
from frostline.config import Settings
from frostline.metrics import score
from frostline.predictions import Predictions
from frostline.runs import Run


def predictions(classes, labels, predicted):
    labels, n = np.array(labels), len(labels)
    ids = np.array([f"image {i}" for i in range(n)])
    digests = np.array([f"{i:016}".encode() for i in range(n)])
    probabilities = np.full((n, len(classes)), 0.1 / max(1, len(classes) - 1), np.float32)
    probabilities[np.arange(n), predicted] = 0.9
    return Predictions(ids, labels, probabilities, tuple(classes), digests)


def row(printed, name):
    """The cells of a table's row that begins with a name."""
    lines = [line.strip("│┃ ").split("│") for line in printed.splitlines()]
    return next([cell.strip() for cell in line] for line in lines if line[0].strip() == name)


def test_scores_by_hand(capsys):
    show.scores(score(predictions(["[cat]", ":dog:"], [0, 0, 0, 1], [0, 0, 1, 1])))
    printed = capsys.readouterr().out
    assert "Accuracy 75.00% (30.06% to 95.44%, n = 4)" in printed
    # brackets and colons in names are no markup
    assert row(printed, "[cat]") == ["[cat]", "1.000", "0.667", "0.800", "3"]
    assert row(printed, ":dog:") == [":dog:", "0.500", "1.000", "0.667", "1"]
    assert row(printed, "macro average") == ["macro average", "0.750", "0.833", "0.733", "4"]
    assert row(printed, "weighted average") == ["weighted average", "0.875", "0.750", "0.767", "4"]
    assert "Log loss" in printed


def test_notes_on_conventions_are_printed(capsys):
    show.scores(score(predictions(["a", "b", "c"], [0, 1], [0, 0])))
    printed = capsys.readouterr().out
    assert "Note: No image is truly of c" in printed
    assert "Note: Never predicted: b, c" in printed


def test_of_many_classes_the_weakest_are_shown(capsys):
    classes = [f"class {k}" for k in range(50)]
    labels = np.arange(50)
    predicted = np.where(labels < 5, (labels + 1) % 5, labels)  # the first five are always wrong
    show.scores(score(predictions(classes, labels, predicted)))
    printed = capsys.readouterr().out
    assert "The 20 weakest of 50 classes." in printed
    assert [row(printed, f"class {k}")[3] for k in range(5)] == ["0.000"] * 5
    assert "class 49" not in printed


@pytest.fixture
def finished(tmp_path):
    record = {"total_seconds": 12.3, "training_seconds": 10.1, "peak_memory": {"anonymous_bytes": 3 * 2**20}}

    def make(name, unknown_as_wrong=False, **changes):
        with Run.create(tmp_path / name) as run:
            if unknown_as_wrong:
                run.write_settings(Settings(unknown_as_wrong=True))
            said = predictions(["a", "b"], [0, 1], [0, 1])
            run.write_predictions("test", said)
            run.write_scores("test", score(said))
            (run.folder / "model").mkdir()
            (run.folder / "model" / "model.json").write_text("{}")
            run.finish({**record, **changes})
        return run

    return make


def test_a_finished_run(capsys, finished):
    run = finished("a [b] run's")
    show.finished(run, "my photos/")
    printed = capsys.readouterr().out
    assert "Time 12 s in all, 10 s to the saved model; peak memory 3 MiB." in printed
    assert f"the run    {run.folder}  (" in printed
    assert f"the model  {run.folder / 'model'}  (" in printed
    assert "pictures" not in printed  # there are none in this run
    commands = [shlex.split(line) for line in printed.splitlines() if line.startswith("  frostline ")]
    assert commands == [
        ["frostline", "predict", "PHOTO.jpg", "--model", str(run.folder)],
        ["frostline", "evaluate", str(run.folder), "my photos/"],
    ]


def test_what_to_type_next_is_taken_by_evaluate(capsys, finished):
    run = finished("run", unknown_as_wrong=True)
    show.finished(run, "photos")
    assert f"  frostline evaluate {run.folder} photos --unknown-as-wrong" in capsys.readouterr().out.splitlines()


def test_memory_that_is_not_known(capsys, finished):
    show.finished(finished("run", peak_memory={"anonymous_bytes": None}), "digits")
    assert "peak memory not known." in capsys.readouterr().out


def test_the_table_of_runs_is_whole_in_a_narrow_terminal(capsys, monkeypatch, finished):
    from frostline.compare import table

    monkeypatch.setenv("COLUMNS", "60")
    show.comparison(table([finished("one-of-a-longer-name")]), [])
    printed = capsys.readouterr().out
    assert row(printed, "one-of-a-longer-name")[2] == "100.00 % [34.24, 100.00]"
    assert "…" not in printed


@pytest.mark.parametrize(("n", "said"), [([12, 12], "2 seeds, 12 test images each"), ([12, 1300], "2 seeds, 12 to 1,300 test")])
def test_seeds_say_how_many_images_each_was_judged_on(n, said, tmp_path, capsys):
    each = {"values": [0.5, 0.7], "mean": 0.6, "interval": [0.4, 0.8], "standard_deviation": 0.14}
    show.spread({"seeds": [3, 4], "n": n, "accuracy": each, "macro_f1": each}, tmp_path)
    assert said in " ".join(capsys.readouterr().out.split())


def test_tables_keep_their_figures_in_a_narrow_terminal(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "30")
    show.scores(score(predictions(["a class of a long name", "other"], [0, 0, 0, 1], [0, 0, 1, 1])))
    rows = [{"trial": 1, "state": "complete", "validation_accuracy": 0.9123, "lr": 0.000353, "train_from": "block_7_expand"}]
    show.trials(rows, tmp_path, "photos", "")
    printed = capsys.readouterr().out
    assert row(printed, "a class of a long name") == ["a class of a long name", "1.000", "0.667", "0.800", "3"]
    assert row(printed, "1") == ["1", "complete", "0.9123", "0.000353", "block_7_expand"]
    assert "…" not in printed
