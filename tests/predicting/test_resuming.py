"""Which images have a row already, and what of a torn file is whole. (Whole predictions are continued in test_batch.)"""

import json

import pytest

from frostline.errors import UserError
from frostline.predicting.items import Item
from frostline.predicting.resuming import Unfinished, _digest

MADE_WITH = {"model": "m", "top": 2}
NAMES = [f"photos/{number}.png" for number in range(3000)]


def unfinished(tmp_path, lines, form="jsonl"):
    output = tmp_path / f"a.{form}"
    (tmp_path / f"a.{form}.partial").write_bytes(b"".join(lines))
    (tmp_path / f"a.{form}.partial.json").write_text(json.dumps(MADE_WITH))
    return Unfinished(output, form, MADE_WITH, resume=True)


def line(name):
    return json.dumps({"path": name, "top": [{"class": "red", "probability": 1.0}]}).encode() + b"\n"


def missing(found, names=NAMES):
    return [item.name for item in found.missing(Item(name, b"") for name in names)]


def test_every_row_is_known_again(tmp_path):
    assert any(_digest(name).endswith(b"\0") for name in NAMES)
    found = unfinished(tmp_path, map(line, NAMES))
    assert (found.rows, found.failed, found.mended) == (3000, 0, 0)
    assert missing(found) == []
    assert missing(found, ["another.png"]) == ["another.png"]


def test_nothing_is_known_of_an_empty_file(tmp_path):
    assert missing(unfinished(tmp_path, [])) == NAMES


@pytest.mark.parametrize(
    "torn", [b"{", b'{"path": "photos/2.png"', b'{"path": 1}\n', b"[]\n", b"\0\0\0\n", line("photos/2.png")[:-1]]
)
def test_nothing_counts_from_a_torn_line_on(tmp_path, torn):
    found = unfinished(tmp_path, [line(NAMES[0]), line(NAMES[1]), torn, line(NAMES[3])])
    assert (found.rows, found.mended) == (2, len(torn) + len(line(NAMES[3])))
    assert found.path.read_bytes() == line(NAMES[0]) + line(NAMES[1])
    assert missing(found, NAMES[:4]) == NAMES[2:4]


def test_csv_rows_are_whole_with_their_last_class(tmp_path):
    header = b"path,rank,class,probability,sure,error\n"
    whole = header + b'"a,b.png",1,red,0.9,,\n"a,b.png",2,blue,0.1,,\nbad.png,,,,,"not, an image"\n'
    found = unfinished(tmp_path, [whole, b"c.png,1,red,0.9,,\n"], "csv")
    assert (found.rows, found.failed) == (2, 1)
    assert found.path.read_bytes() == whole
    assert missing(found, ["a,b.png", "bad.png", "c.png"]) == ["c.png"]


def test_without_the_record_of_its_settings_it_is_not_continued(tmp_path):
    (tmp_path / "a.jsonl.partial").write_bytes(line(NAMES[0]))
    with pytest.raises(UserError, match="cannot be continued"):
        Unfinished(tmp_path / "a.jsonl", "jsonl", MADE_WITH, resume=True)
    assert (tmp_path / "a.jsonl.partial").read_bytes() == line(NAMES[0])


def test_a_name_that_comes_several_times_has_as_many_rows(tmp_path):
    found = unfinished(tmp_path, map(line, ["a.png", "b.png", "a.png"]))
    assert missing(found, ["a.png", "b.png", "a.png", "a.png", "b.png", "c.png"]) == ["a.png", "b.png", "c.png"]
