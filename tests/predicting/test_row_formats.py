"""The forms that answers are written in."""

import csv
import io
import json
import sys
from pathlib import Path

import pytest

from frostline.errors import UserError
from frostline.predicting.batch import write_rows
from frostline.predicting.row_formats import COLUMNS, SET_COLUMNS, Row, form_of, write_parquet, write_text
from frostline.serve.answers import LabelSet

ROWS = [Row("a.png", (("red", 0.75), ("blue", 0.25))), Row("b.jpg", error="missing")]
SURE = [Row("a.png", (("red", 0.6),), sure=False), Row("b.png", (("red", 0.9),), sure=True)]


def written(form, rows=ROWS):
    out = io.StringIO()
    assert write_rows(iter(rows), form, out) == sum(bool(row.error) for row in rows)
    return out.getvalue()


def test_the_table():
    assert written("table") == "a.png: red 75.0%  blue 25.0%\nb.jpg: not read: missing\n"


def test_json_and_lines_of_it():
    top = [{"class": "red", "probability": 0.75}, {"class": "blue", "probability": 0.25}]
    wanted = [{"path": "a.png", "top": top}, {"path": "b.jpg", "error": "missing"}]
    assert json.loads(written("json")) == wanted
    assert list(map(json.loads, written("jsonl").splitlines())) == wanted
    assert json.loads(written("json", [])) == []
    assert written("jsonl", []) == ""


def test_csv_has_a_line_per_file_and_class():
    wanted = [
        {"path": "a.png", "rank": "1", "class": "red", "probability": "0.75", "sure": "", "error": ""},
        {"path": "a.png", "rank": "2", "class": "blue", "probability": "0.25", "sure": "", "error": ""},
        {"path": "b.jpg", "rank": "", "class": "", "probability": "", "sure": "", "error": "missing"},
    ]
    assert list(csv.DictReader(io.StringIO(written("csv")))) == wanted


def test_csv_below_rows_has_no_header():
    out = io.StringIO()
    write_text(ROWS, "csv", out, fresh=False)
    assert out.getvalue().startswith("a.png,1,red")


def test_an_answer_that_is_not_sure_says_so():
    assert written("table", SURE) == "a.png: not sure: red 60.0%\nb.png: red 90.0%\n"
    assert [row["sure"] for row in json.loads(written("json", SURE))] == [False, True]
    assert [row["sure"] for row in csv.DictReader(io.StringIO(written("csv", SURE)))] == ["false", "true"]


def test_parquet_has_the_columns_of_the_csv(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    many = [*ROWS, *SURE, *(Row(f"{number}.png", (("red", 1.0),)) for number in range(9000))]
    with open(tmp_path / "a.parquet", "wb") as out:
        write_parquet(many, out)
    found = parquet.read_table(tmp_path / "a.parquet")
    assert tuple(found.column_names) == COLUMNS
    assert found.num_rows == 9005
    assert found.slice(0, 4).to_pylist() == [
        {"path": "a.png", "rank": 1, "class": "red", "probability": 0.75, "sure": None, "error": None},
        {"path": "a.png", "rank": 2, "class": "blue", "probability": 0.25, "sure": None, "error": None},
        {"path": "b.jpg", "rank": None, "class": None, "probability": None, "sure": None, "error": "missing"},
        {"path": "a.png", "rank": 1, "class": "red", "probability": pytest.approx(0.6), "sure": False, "error": None},
    ]
    with open(tmp_path / "none.parquet", "wb") as out:
        write_parquet([], out)
    assert parquet.read_table(tmp_path / "none.parquet").num_rows == 0


WITH_SETS = [
    Row("a.png", (("red", 0.75), ("blue", 0.25)), sure=True, label_set=LabelSet(0.95, ("red", 'a, "b"'))),
    Row("b.jpg", error="missing"),
    Row("c.png", (("grün", 1.0),), label_set=LabelSet(0.95, ("grün",))),
]


def with_sets(form):
    out = io.StringIO()
    write_text(WITH_SETS, form, out, sets=True)
    return out.getvalue()


def test_the_table_with_label_sets():
    assert with_sets("table").splitlines() == [
        'a.png: red 75.0%  blue 25.0%  (95 % set: red, a, "b")',
        "b.jpg: not read: missing",
        "c.png: grün 100.0%  (95 % set: grün)",
    ]


def test_json_with_label_sets():
    first = {"coverage": 0.95, "classes": ["red", 'a, "b"']}
    for rows in (json.loads(with_sets("json")), list(map(json.loads, with_sets("jsonl").splitlines()))):
        assert [row.get("set") for row in rows] == [first, None, {"coverage": 0.95, "classes": ["grün"]}]
        assert rows[0]["sure"] is True
        assert "set" not in rows[1]


def test_csv_with_label_sets():
    rows = list(csv.DictReader(io.StringIO(with_sets("csv"))))
    assert tuple(rows[0]) == (*COLUMNS, *SET_COLUMNS)
    assert [row["coverage"] for row in rows] == ["0.95", "0.95", "", "0.95"]
    assert [row["set"] and json.loads(row["set"]) for row in rows] == [["red", 'a, "b"'], ["red", 'a, "b"'], "", ["grün"]]
    assert "grün" in rows[3]["set"]
    assert rows[2]["error"] == "missing"


def test_parquet_with_label_sets(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    with open(tmp_path / "a.parquet", "wb") as out:
        write_parquet(WITH_SETS, out, sets=True)
    rows = parquet.read_table(tmp_path / "a.parquet").to_pylist()
    assert tuple(rows[0]) == (*COLUMNS, *SET_COLUMNS)
    assert [row["coverage"] for row in rows] == [0.95, 0.95, None, 0.95]
    assert [row["set"] for row in rows] == [["red", 'a, "b"'], ["red", 'a, "b"'], None, ["grün"]]


@pytest.mark.parametrize(
    ("name", "output", "form"),
    [(None, None, "table"), ("csv", None, "csv"), (None, "a.jsonl", "jsonl"), (None, "a.CSV", "csv"), ("json", "a.csv", "json")],
)
def test_the_form_is_asked_for_or_the_ending_s(name, output, form):
    assert form_of(name, Path(output) if output else None) == form


def test_another_form_is_an_error(monkeypatch):
    with pytest.raises(UserError, match="no such format") as caught:
        form_of("jsn", None)
    assert "did you mean json" in caught.value.hint
    with pytest.raises(UserError, match="no such format"):
        form_of(None, Path("answers.xls"))
    with pytest.raises(UserError, match="written to a file"):
        form_of("parquet", None)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match="PyArrow") as caught:
        form_of(None, Path("a.parquet"))
    assert caught.value.hint == "pip install pyarrow"
