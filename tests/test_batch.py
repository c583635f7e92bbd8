"""Predictions for files: a hand-worked model, bad files beside good ones, three forms of output."""

import csv
import io
import json
import os
import sys

import numpy as np
import pytest
from drawing import encoded, put
from PIL import Image
from toymodel import probabilities, write_toy

from frostline.batch import Row, image_files, predict_files, write_rows
from frostline.errors import UserError
from frostline.serve.predictor import Predictor

ROWS = [Row("a.png", (("red", 0.75), ("blue", 0.25))), Row("b.jpg", error="missing")]


def flat(colour, side=8):
    return Image.fromarray(np.full((side, side, 3), colour, np.uint8))


def png(path, colour):
    return put(path, encoded(flat(colour), "PNG"))


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    return Predictor(write_toy(tmp_path_factory.mktemp("toy") / "model"), batch=4)


def test_a_folder_is_its_images_in_order_of_their_names(tmp_path):
    wanted = [png(tmp_path / name, (0, 0, 0)) for name in ("a.png", "sub/b.PNG", "sub/c.webp")]
    unread = put(tmp_path / "sub" / "d.heic", b"heic")
    put(tmp_path / "notes.txt", b"text")
    assert list(image_files([tmp_path])) == [*wanted, unread]
    # a file that is named is taken whatever it is called
    assert list(image_files([tmp_path / "notes.txt", tmp_path / "gone.png"])) == [tmp_path / "notes.txt", tmp_path / "gone.png"]


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


def written(form):
    out = io.StringIO()
    failed = write_rows(iter(ROWS), form, out)
    assert failed == 1
    return out.getvalue()


def test_the_table():
    assert written("table") == "a.png: red 75.0%  blue 25.0%\nb.jpg: not read: missing\n"


def test_json():
    top = [{"class": "red", "probability": 0.75}, {"class": "blue", "probability": 0.25}]
    assert json.loads(written("json")) == [{"path": "a.png", "top": top}, {"path": "b.jpg", "error": "missing"}]
    out = io.StringIO()
    assert write_rows([], "json", out) == 0
    assert json.loads(out.getvalue()) == []


def test_csv_has_a_line_per_file_and_class():
    wanted = [
        {"path": "a.png", "rank": "1", "class": "red", "probability": "0.75", "sure": "", "error": ""},
        {"path": "a.png", "rank": "2", "class": "blue", "probability": "0.25", "sure": "", "error": ""},
        {"path": "b.jpg", "rank": "", "class": "", "probability": "", "sure": "", "error": "missing"},
    ]
    assert list(csv.DictReader(io.StringIO(written("csv")))) == wanted


def test_an_answer_that_is_not_sure_says_so():
    rows = [Row("a.png", (("red", 0.6),), sure=False), Row("b.png", (("red", 0.9),), sure=True)]
    shown = {}
    for form in ("table", "json", "csv"):
        out = io.StringIO()
        assert write_rows(rows, form, out) == 0
        shown[form] = out.getvalue()
    assert shown["table"] == "a.png: not sure: red 60.0%\nb.png: red 90.0%\n"
    assert [row["sure"] for row in json.loads(shown["json"])] == [False, True]
    assert [row["sure"] for row in csv.DictReader(io.StringIO(shown["csv"]))] == ["false", "true"]


def test_another_form_is_an_error():
    with pytest.raises(UserError, match="no such format"):
        written("xml")
