"""Predictions for files: a hand-worked model, bad files beside good ones, files of rows that survive an interruption."""

import json
import os
import sys
import threading
from contextlib import nullcontext

import numpy as np
import pytest
from drawing import encoded, put
from PIL import Image
from toymodel import probabilities, write_toy

from frostline.conformal import Promise
from frostline.errors import UserError
from frostline.predicting import batch
from frostline.predicting.batch import Asked, predict_files, predict_to
from frostline.predicting.items import Item
from frostline.predicting.listing import listed
from frostline.progress import Stage
from frostline.serve.predictor import Predictor


def flat(colour, side=8):
    return Image.fromarray(np.full((side, side, 3), colour, np.uint8))


def png(path, colour):
    return put(path, encoded(flat(colour), "PNG"))


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    return Predictor(write_toy(tmp_path_factory.mktemp("toy") / "model"), batch=4)


def test_probabilities_are_the_model_s_best_first(tmp_path, predictor):
    colours = [(255, 0, 0), (0, 200, 10), (30, 20, 90)]
    files = [png(tmp_path / f"{number}.png", colour) for number, colour in enumerate(colours)]
    rows = list(predict_files(predictor, files, 3))
    assert [row.path for row in rows] == list(map(str, files))
    assert [[name for name, _ in row.top] for row in rows] == [
        ["red", "green", "blue"],
        ["green", "blue", "red"],
        ["blue", "red", "green"],
    ]
    wanted = probabilities(np.stack([np.asarray(flat(colour)) for colour in colours]))
    for row, p in zip(rows, wanted, strict=True):
        assert [value for _, value in row.top] == pytest.approx(sorted(p, reverse=True), abs=1e-5)


@pytest.mark.parametrize("bad", [[0], [3, 4], [0, 1, 2, 3], [4, 5, 6, 7], [8], range(9)])
def test_bad_files_are_rows_with_a_reason_and_shift_nothing(tmp_path, predictor, bad):
    files = [png(tmp_path / f"{n}.png", (250, 0, 0) if n % 2 else (0, 0, 250)) for n in range(9)]
    for number in bad:
        put(files[number], b"\x89PNG\r\n\x1a\n and then nothing")
    rows = list(predict_files(predictor, [tmp_path], 1))
    assert [row.path for row in rows] == list(map(str, files))
    assert [n for n, row in enumerate(rows) if row.error] == list(bad)
    for n, row in enumerate(rows):
        assert not row.top if row.error else row.top[0][0] == ("red" if n % 2 else "blue")


def test_each_row_has_the_label_set_that_keeps_the_promise(tmp_path, predictor):
    colours = [(255, 0, 0), (120, 110, 0), (100, 100, 100)]
    files = [png(tmp_path / f"{number}.png", colour) for number, colour in enumerate(colours)]
    bad = put(tmp_path / "bad.png", b"text")
    *rows, broken = predict_files(predictor, [*files, bad], 1, None, Promise(0.9, 0.3))
    assert [row.label_set.classes for row in rows] == [("red",), ("red", "green"), ("red", "green", "blue")]
    assert {row.label_set.coverage for row in rows} == {0.9}
    assert broken.label_set is None
    assert [row.label_set for row in predict_files(predictor, files, 1)] == [None] * 3


def test_a_missing_file_and_a_folder_named_like_an_image(tmp_path, predictor):
    (tmp_path / "folder.png").mkdir()
    good = png(tmp_path / "good.png", (0, 255, 0))
    rows = list(predict_files(predictor, [tmp_path / "gone.png", tmp_path], 1))
    assert [(row.path, row.error) for row in rows] == [(str(tmp_path / "gone.png"), "missing"), (str(good), "")]


def test_nothing_to_predict_is_an_error(tmp_path, predictor):
    put(tmp_path / "notes.txt", b"text")
    with pytest.raises(UserError, match="There are no images there"):
        predict_files(predictor, [tmp_path], 1)


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are bytes on Linux only")
def test_a_name_that_is_no_utf8_is_escaped(tmp_path, predictor):
    put(tmp_path / os.fsdecode(b"caf\xe9.png"), encoded(flat((255, 0, 0)), "PNG"))
    (row,) = predict_files(predictor, [tmp_path], 1)
    assert row.path == f"{tmp_path}/caf\\udce9.png"


def test_blocks_of_heavy_items_are_closed_early():
    items = [Item(str(number), bytes(1 << 20)) for number in range(200)]
    blocks = list(batch._blocks(items, 100))
    assert [len(block) for block in blocks] == [65, 65, 65, 5]
    assert [item for block in blocks for item in block] == items


def test_items_are_taken_only_a_little_ahead(tmp_path, predictor):
    taken = []

    def items():
        for number in range(1000):
            taken.append(number)
            yield Item(str(number), encoded(flat((250, 0, 0)), "PNG"))

    rows = batch.predict_items(predictor, items(), 1)
    assert next(rows).top[0][0] == "red"
    assert len(taken) <= 20 * predictor.batch
    rows.close()


# into a file


@pytest.fixture
def photos(tmp_path):
    for number in range(11):
        png(tmp_path / "photos" / f"{number:02d}.png", (250, 0, 0) if number % 2 else (0, 0, 250))
    put(tmp_path / "photos" / "05.png", b"\x89PNG\r\n\x1a\n and then nothing")
    return tmp_path / "photos"


def asked(photos, form="jsonl", top=2, sure_from=0.5, **options):
    return Asked(lambda: listed([str(photos)]), top, sure_from, form, **options)


@pytest.fixture
def whole(photos, predictor, tmp_path):
    """What an uninterrupted prediction writes, by form."""
    for form in ("jsonl", "csv"):
        predict_to(predictor, asked(photos, form), tmp_path / f"whole.{form}")
    return {form: (tmp_path / f"whole.{form}").read_bytes() for form in ("jsonl", "csv")}


@pytest.mark.parametrize("form", ["table", "json", "jsonl", "csv"])
def test_a_file_appears_whole(photos, predictor, tmp_path, form):
    output = tmp_path / "new" / f"answers.{form}"
    found = predict_to(predictor, asked(photos, form), output)
    assert (found.rows, found.failed) == (11, 1)
    assert [path.name for path in output.parent.iterdir()] == [output.name]
    assert "corrupt" in output.read_text()
    if form == "json":
        assert len(json.loads(output.read_text())) == 11


def interrupt(monkeypatch, after, *given):
    """``predict_to``, interrupted after so many rows."""
    original = batch.predict_items

    def some_rows(*rest):
        for number, row in enumerate(original(*rest)):
            if number == after:
                raise KeyboardInterrupt
            yield row

    with monkeypatch.context() as patched:
        patched.setattr(batch, "predict_items", some_rows)
        with pytest.raises(KeyboardInterrupt):
            predict_to(*given)


@pytest.mark.parametrize("form", ["jsonl", "csv"])
@pytest.mark.parametrize("after", [0, 1, 5, 6, 10])
def test_an_interrupted_file_is_continued_to_the_same_bytes(photos, predictor, tmp_path, monkeypatch, capsys, form, after, whole):
    output = tmp_path / f"answers.{form}"
    interrupt(monkeypatch, after, predictor, asked(photos, form), output)
    assert "with --resume goes on" in capsys.readouterr().err
    assert not output.exists()
    found = predict_to(predictor, asked(photos, form), output, resume=True)
    assert (found.rows, found.failed) == (11, 1)
    assert output.read_bytes() == whole[form]
    assert not list(tmp_path.glob("*.partial*"))


def test_answers_kept_of_images_that_are_not_named_any_more_are_said(photos, predictor, tmp_path, monkeypatch, capsys):
    output = tmp_path / "answers.jsonl"
    interrupt(monkeypatch, 5, predictor, asked(photos), output)
    one = [path for path in sorted(photos.rglob("*")) if path.is_file()][-1]
    found = predict_to(predictor, asked(one), output, resume=True)
    assert "5 of the answers kept are of images that this command does not name" in " ".join(capsys.readouterr().err.split())
    assert found.rows == 6


@pytest.mark.parametrize("promise", [None, Promise(0.9, 0.3)], ids=["", "label sets"])
@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_cut_anywhere_it_is_mended_and_continued(photos, predictor, tmp_path, monkeypatch, form, promise, whole):
    output = tmp_path / f"answers.{form}"
    if promise:
        predict_to(predictor, asked(photos, form, promise=promise), tmp_path / f"sets.{form}")
        assert (tmp_path / f"sets.{form}").read_bytes() != whole[form]
        whole = {form: (tmp_path / f"sets.{form}").read_bytes()}
    partial = tmp_path / f"answers.{form}.partial"
    for at in range(0, len(whole[form]), 37):
        interrupt(monkeypatch, 0, predictor, asked(photos, form, promise=promise), output)
        partial.write_bytes(whole[form][:at] + b"\0" * (at % 3))
        predict_to(predictor, asked(photos, form, promise=promise), output, resume=True)
        assert output.read_bytes() == whole[form], at
        output.unlink()


def test_only_what_is_missing_is_predicted_again(photos, predictor, tmp_path, monkeypatch):
    interrupt(monkeypatch, 8, predictor, asked(photos), tmp_path / "a.jsonl")
    png(photos / "00a.png", (0, 250, 0))  # come meanwhile
    read = []
    monkeypatch.setattr(batch, "read_stored", lambda source, preprocess: read.append(source.name) or flat_pixels())
    predict_to(predictor, asked(photos), tmp_path / "a.jsonl", resume=True)
    assert sorted(read) == ["00a.png", "08.png", "09.png", "10.png"]
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 12


def flat_pixels():
    return np.zeros((8, 8, 3), np.uint8)


@pytest.mark.parametrize(
    "change", [{"top": 1}, {"sure_from": 0.6}, {"sure_from": None}, {"promise": Promise(0.9, 0.3)}, {"model": True}]
)
def test_it_is_not_continued_with_other_settings(photos, predictor, tmp_path, monkeypatch, change):
    output = tmp_path / "a.jsonl"
    interrupt(monkeypatch, 3, predictor, asked(photos), output)
    other = Predictor(write_toy(tmp_path / "other", seed=1), batch=4) if change.pop("model", False) else predictor
    before = (tmp_path / "a.jsonl.partial").read_bytes()
    with pytest.raises(UserError, match="made with other settings"):
        predict_to(other, asked(photos, **change), output, resume=True)
    with pytest.raises(UserError, match="rows of an interrupted prediction"):
        predict_to(predictor, asked(photos), output)
    assert (tmp_path / "a.jsonl.partial").read_bytes() == before


def test_what_is_not_continued(photos, predictor, tmp_path):
    with pytest.raises(UserError, match="form json cannot be continued"):
        predict_to(predictor, asked(photos, "json"), tmp_path / "a.json", resume=True)
    predict_to(predictor, asked(photos), tmp_path / "a.jsonl", resume=True)  # nothing there: it begins
    with pytest.raises(UserError, match="is finished"):
        predict_to(predictor, asked(photos), tmp_path / "a.jsonl", resume=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no images there"):
        predict_to(predictor, asked(tmp_path / "empty"), tmp_path / "b.jsonl")
    assert not list(tmp_path.glob("b.jsonl*"))


def test_a_failure_leaves_what_was_there(photos, predictor, tmp_path, monkeypatch):
    (tmp_path / "a.json").write_text("before")
    interrupt(monkeypatch, 3, predictor, asked(photos, "json"), tmp_path / "a.json")
    assert (tmp_path / "a.json").read_text() == "before"
    assert not list(tmp_path.glob(".a.json*"))


# progress


def test_how_many_there_are_is_counted_meanwhile(photos, monkeypatch):
    told = threading.Event()

    class Shown(Stage):
        is_shown = True

        def expect(self, total):
            self.total = total
            told.set()

    shown = Shown(None, None)
    monkeypatch.setattr(batch, "stage", lambda _: nullcontext(shown))
    with batch._shown(asked(photos), already=4):
        assert told.wait(30)
    assert shown.total == 7


def test_a_list_is_not_read_twice(photos, monkeypatch):
    class Shown(Stage):
        is_shown = True

    def items():
        raise AssertionError("counted")

    monkeypatch.setattr(batch, "stage", lambda _: nullcontext(Shown(None, None)))
    with batch._shown(Asked(items, 1, None, "csv", counted=False)) as bar:
        bar.advance()
    assert "count" not in {thread.name for thread in threading.enumerate()}


def test_an_image_without_an_answer_is_a_row_with_that_reason(tmp_path, predictor, monkeypatch):
    png(tmp_path / "a.png", (9, 9, 9))
    monkeypatch.setattr(Predictor, "stored", lambda self, blocks: (np.full((len(b), 3), np.nan, np.float32) for b in blocks))
    assert [row.error for row in predict_files(predictor, [tmp_path], 1)] == ["the model has no answer for this image"]


def test_a_pipe_is_not_replaced_by_a_file(tmp_path, predictor):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    png(tmp_path / "a.png", (9, 9, 9))
    asked = Asked(lambda: listed([str(tmp_path / "a.png")]), 1, None, "csv")
    with pytest.raises(UserError, match="is not a file"):
        predict_to(predictor, asked, pipe)
    assert pipe.is_fifo()
