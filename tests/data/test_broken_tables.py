"""Kinds of broken table: each row is named with its reason, or the table with its error; none crashes, the counts add up."""

from pathlib import Path

import pytest
from drawing import drawn, encoded, put

from frostline.data.sources import load_source
from frostline.errors import UserError

# name -> rows after four good ones, and (row, reason) of the rejects
ROWS: dict[str, tuple[str, list[tuple[str, str]]]] = {
    "NaN label": ("img/4.jpg,NaN\n", [("t.csv:6", "no label")]),
    "empty label": ("img/4.jpg,\n", [("t.csv:6", "no label")]),
    "label of blanks": ("img/4.jpg,  \n", [("t.csv:6", "no label")]),
    "no path": (",a\n", [("t.csv:6", "no path")]),
    "neither": ("nan,nan\n", [("t.csv:6", "no path and no label")]),
    "missing file": ("img/none.jpg,a\n", [("t.csv:6 (img/none.jpg)", "missing")]),
    "extra columns": ("img/4.jpg,a,b,c\n", [("t.csv:6", "4 fields where the header has 2")]),
    "too few columns": ("img/4.jpg\n", [("t.csv:6", "1 fields where the header has 2")]),
    "repeated row": ("img/0.jpg,a\n", [("t.csv:6 (img/0.jpg)", "repeats t.csv:2 (img/0.jpg)")]),
    "path of a folder": ("img,a\n", [("t.csv:6 (img)", "not a regular file (a folder)")]),
    "name too long": ("n" * 300 + ".jpg,a\n", [(f"t.csv:6 ({'n' * 300}.jpg)", "unreadable: File name too long")]),
    "newline in the path": ('"img/a\nb.jpg",a\n', [(r"t.csv:6 (img/a\nb.jpg)", "missing")]),
    "zero byte in the path": ("img/\0.jpg,a\n", [(r"t.csv:6 (img/\x00.jpg)", "unreadable: embedded null byte")]),
    "address": (
        "https://example.org/x.jpg,a\n",
        [("t.csv:6 (https://example.org/x.jpg)", "an address, not a file: download it first")],
    ),
    "broken image": ("img/broken.jpg,a\n", [("t.csv:6 (img/broken.jpg)", "truncated")]),
    "text file": ("t.csv,a\n", [("t.csv:6 (t.csv)", "not an image: text")]),
    "blank lines": ("\n   \nimg/none.jpg,a\n\n", [("t.csv:8 (img/none.jpg)", "missing")]),
    "label with spaces": ("img/4.jpg,New York\n", []),
    "non-ASCII label": ("img/4.jpg,日本\n", []),
}


def table_folder(root: Path) -> Path:
    for number in range(5):
        put(root / "img" / f"{number}.jpg", encoded(drawn(number)))
    put(root / "img" / "broken.jpg", encoded(drawn(99))[:900])
    return root


@pytest.mark.parametrize("kind", ROWS)
def test_broken_rows(tmp_path: Path, kind: str) -> None:
    rows, rejects = ROWS[kind]
    good = "".join(f"img/{number}.jpg,{'ab'[number % 2]}\n" for number in range(4))
    path = put(table_folder(tmp_path) / "t.csv", ("path,label\n" + good + rows).encode())
    source = load_source(path)
    assert [(reject.path, reject.reason) for reject in source.rejects] == rejects
    assert source.found == 5 == sum(map(len, source.sets.values())) + len(source.rejects)


# name -> the whole table, and the error
TABLES: dict[str, tuple[bytes, str]] = {
    "no header": (b"img/0.jpg,a\nimg/1.jpg,b\n", "no header: add a first line path,label"),
    "no label column": (b"path,colour\nimg/0.jpg,a\n", "no label column"),
    "no path column": (b"picture,label\nimg/0.jpg,a\n", "no path column"),
    "duplicated column": (b"path,label,label\nimg/0.jpg,a,b\n", "two columns of one name"),
    "two label columns": (b"path,label,class\nimg/0.jpg,a,b\n", "several label columns"),
    "wrong encoding": ("path,label\nimg/0.jpg,Käse\n".encode("latin-1"), "byte 0xe4 in line 2"),
    "UTF-16": ("path,label\nimg/0.jpg,a\n".encode("utf-16"), "UTF-16"),
    "binary file": (bytes(range(256)), "not UTF-8 text"),
    "unbalanced quotes": (b'path,label\nimg/0.jpg,"a\nimg/1.jpg,b\n', "from line 2 on"),
    "text after a quote": (b'path,label\n"img/0.jpg"x,a\n', "from line 2 on"),
    "an endless field": (b'path,label\n"' + b"x" * 200_000 + b'",a\n', "from line 2 on"),
    "empty table": (b"", "is empty"),
    "blank lines only": (b"\n\n  \n", "is empty"),
    "header only": (b"path,label\n", "has no rows"),
    "unquoted separators everywhere": (b"path,label\nimg/0.jpg,a,b\nimg/1.jpg,b,c\n", "as many fields as its header"),
    "unknown split": (b"path,label,split\nimg/0.jpg,a,train\nimg/1.jpg,b,dev\n", r"'dev' \(1 rows\)"),
    "no training rows": (b"path,label,split\nimg/0.jpg,a,test\nimg/1.jpg,b,test\n", "no usable training image"),
    "a single class": (b"path,label\nimg/0.jpg,a\nimg/1.jpg,a\n", "single class"),
    "labels joined by |": (b"path,label\nimg/0.jpg,a|b\nimg/1.jpg,b\n", "multi-label"),
    "labels as JSON": (b'path,label\nimg/0.jpg,"[""a"",""b""]"\nimg/1.jpg,b\n', "multi-label"),
    "labels as a Python list": (b"path,label\nimg/0.jpg,\"['a', 'b']\"\nimg/1.jpg,b\n", "multi-label"),
    "a column for each class": (b"path,cat,dog\nimg/0.jpg,1,1\nimg/1.jpg,0,1\n", "0/1 column for each class"),
    "measurements": (b"path,label\nimg/0.jpg,0.5\nimg/1.jpg,1\n", "regression"),
    "boxes": (b"path,label,xmin,ymin,xmax,ymax\nimg/0.jpg,a,1,2,3,4\n", "object detection"),
    "nothing usable": (b"path,label\nimg/none.jpg,a\nimg/no.jpg,b\n", "no usable image"),
    "a class only in test": (b"path,label,split\nimg/0.jpg,a,train\nimg/1.jpg,b,train\nimg/2.jpg,c,test\n", "that training lacks"),
}


@pytest.mark.parametrize("kind", TABLES)
def test_broken_tables(tmp_path: Path, kind: str) -> None:
    data, message = TABLES[kind]
    path = put(table_folder(tmp_path) / "t.csv", data)
    with pytest.raises(UserError, match=message) as caught:
        load_source(path)
    assert "t.csv" in str(caught.value) or "Test has" in str(caught.value)


def test_how_many_kinds_there_are() -> None:
    assert len(ROWS) + len(TABLES) >= 40
