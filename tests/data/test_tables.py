"""Tables of path and label."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from drawing import drawn, encoded, put

from frostline.data.imageset import Source
from frostline.data.sources import load_source
from frostline.data.splits import split
from frostline.errors import UserError

pa = pytest.importorskip("pyarrow")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(8):
        put(tmp_path / "img" / f"{number}.jpg", encoded(drawn(number)))
    return tmp_path


def load(folder: Path, text: str, name: str = "labels.csv", **options: Any) -> Source:
    source = load_source(put(folder / name, text.encode()), **options)
    assert source.found == sum(map(len, source.sets.values())) + len(source.rejects)
    return source


def load_parquet(folder: Path, columns: dict[str, Any], **options: Any) -> Source:
    from pyarrow import parquet

    parquet.write_table(pa.table(columns), folder / "labels.parquet")
    return load_source(folder / "labels.parquet", **options)


def named(source: Source, split_name: str = "train") -> dict[str, str]:
    images = source.sets[split_name]
    return {str(id_): images.classes[label] for id_, label in zip(images.ids, images.labels, strict=True)}


def test_paths_are_relative_to_the_table(folder: Path) -> None:
    source = load(folder, f"path,label\nimg/0.jpg,cat\n{folder}/img/1.jpg,dog\n./img/../img/2.jpg,dog\n")
    assert named(source) == {"img/0.jpg": "cat", "img/1.jpg": "dog", "img/2.jpg": "dog"}
    outside = load(folder / "img", f"path,label\n0.jpg,cat\n{folder}/img/1.jpg,dog\n../img/2.jpg,dog\n")
    assert list(named(outside)) == ["0.jpg", "1.jpg", "2.jpg"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "image,class\nimg/0.jpg,a\nimg/1.jpg,b\n"),
        ("a.csv", "\ufefffile;target\nimg/0.jpg;a\nimg/1.jpg;b\n"),
        ("a.csv", "filename\ty\nimg/0.jpg\ta\nimg/1.jpg\tb\n"),
        ("a.tsv", "FilePath\tLabel\r\nimg/0.jpg\ta\r\nimg/1.jpg\tb\r\n"),
        ("a.csv", 'id,"path","label"\r\n1,"img/0.jpg"," a "\r\n\r\n2,"img/1.jpg","b"\r\n\r\n'),
        ("a.csv", "label,path\na,img/0.jpg\nb,img/1.jpg"),
    ],
)
def test_the_ways_to_write_it(folder: Path, name: str, text: str) -> None:
    source = load(folder, text, name)
    assert named(source) == {"img/0.jpg": "a", "img/1.jpg": "b"}
    assert source.found == 2


def test_numbers_are_classes_in_their_order(folder: Path) -> None:
    assert load(folder, "path,label\nimg/0.jpg,10\nimg/1.jpg,2\nimg/2.jpg,007\n").sets["train"].classes == ("2", "007", "10")
    source = load(folder, "path,label\nimg/0.jpg,10.0\nimg/1.jpg,2.0\nimg/2.jpg,\n")
    assert source.sets["train"].classes == ("2", "10")
    assert [(reject.path, reject.reason) for reject in source.rejects] == [("labels.csv:4", "no label")]
    assert load(folder, "path,label\nimg/0.jpg,v1.0\nimg/1.jpg,v2.0\n").sets["train"].classes == ("v1.0", "v2.0")


def test_names_that_only_look_missing(folder: Path) -> None:
    source = load(folder, "path,label\nimg/0.jpg,none\nimg/1.jpg,NA\nimg/2.jpg,NaN\nimg/3.jpg,null\n")
    assert source.sets["train"].classes == ("NA", "none")
    assert len(source.rejects) == 2


def test_splits_and_groups(folder: Path) -> None:
    text = (
        "path,label,split,patient\nimg/0.jpg,a,Train,p\nimg/1.jpg,b,train,p\nimg/2.jpg,a,val,q\nimg/3.jpg,b,TEST,\nimg/4.jpg,a,,r\n"
    )
    source = load(folder, text, group="patient")
    assert {name: images.ids.tolist() for name, images in source.sets.items()} == {
        "train": ["img/0.jpg", "img/1.jpg"],
        "validation": ["img/2.jpg"],
        "test": ["img/3.jpg"],
    }
    assert source.sets["train"].groups is not None
    assert source.sets["train"].groups.tolist() == ["p", "p"]
    assert source.sets["test"].groups is not None
    assert source.sets["test"].groups.tolist() == ["(no group) img/3.jpg"]
    assert [(reject.path, reject.reason) for reject in source.rejects] == [("labels.csv:6", "no split")]
    with pytest.raises(UserError, match="did you mean patient"):
        load(folder, text, group="patients")


def test_a_column_called_group_is_used_and_said(folder: Path) -> None:
    rows = "".join(f"img/{number}.jpg,{'ab'[number % 2]},g{number // 2}\n" for number in range(8))
    source = load(folder, "path,label,group\n" + rows)
    assert source.notes[0] == "Images with one value in column 'group' stay in one split."
    splits = split(source)
    parts = [part for part in (splits.train, splits.validation, splits.test) if part is not None]
    assert sorted(len(part) for part in parts) == [2, 2, 4]


def test_rows_that_repeat_or_contradict(folder: Path) -> None:
    plain = "".join(f"img/{number}.jpg,{'ab'[number % 2]}\n" for number in range(8))
    source = load(folder, "path,label\n" + plain + "img/./3.jpg,b\n")
    assert [(reject.path, reject.reason) for reject in source.rejects] == [
        ("labels.csv:10 (img/3.jpg)", "repeats labels.csv:5 (img/3.jpg)")
    ]
    for number in range(8, 12):
        put(folder / "img" / f"{number}.jpg", encoded(drawn(number)))
        plain += f"img/{number}.jpg,a\n"
    source = load(folder, "path,label\n" + plain + "img/3.jpg,a\n")
    assert [reject.reason for reject in source.rejects] == ["its image is labelled 'b' and 'a'"] * 2
    assert "img/3.jpg" not in named(source)
    with pytest.raises(UserError, match="multi-label, or contradicts itself"):
        load(folder, "path,label\nimg/0.jpg,a\nimg/0.jpg,b\nimg/1.jpg,a\n")


def test_one_image_in_two_splits_is_dropped_from_test(folder: Path) -> None:
    train = "img/0.jpg,a,train\nimg/1.jpg,b,train\nimg/2.jpg,a,train\n"
    source = load(folder, f"path,label,split\n{train}img/2.jpg,a,test\nimg/4.jpg,a,test\nimg/3.jpg,b,val\n")
    assert len(source.rejects) == 0
    splits = split(source)
    assert splits.train.ids.tolist() == ["img/0.jpg", "img/1.jpg", "img/2.jpg"]
    assert splits.test is not None
    assert splits.test.ids.tolist() == ["img/4.jpg"]


def test_parquet(folder: Path) -> None:
    paths = [f"img/{number}.jpg" for number in range(4)]
    source = load_parquet(folder, {"path": paths, "label": [10, 2, None, 2]})
    assert named(source) == {"img/0.jpg": "10", "img/1.jpg": "2", "img/3.jpg": "2"}
    assert [(reject.path, reject.reason) for reject in source.rejects] == [("labels.parquet:row 3", "no label")]
    assert load_parquet(folder, {"path": paths, "label": [1.0, 2.0, float("nan"), 2.0]}).sets["train"].classes == ("1", "2")
    dictionary = pa.array(["b", "a", "b", "a"]).dictionary_encode()
    assert load_parquet(folder, {"path": paths, "label": dictionary}).sets["train"].classes == ("a", "b")


def test_columns_of_no_use_are_not_read(folder: Path) -> None:
    """Images beside their paths, and times finer than Python's."""
    paths = ["img/0.jpg", "img/1.jpg"]
    times = pa.array([1, 2], pa.timestamp("ns"))
    source = load_parquet(
        folder, {"path": paths, "label": ["a", "b"], "jpeg": [b"x" * 100] * 2, "box": [{"x": 1}] * 2, "when": times}
    )
    assert named(source) == {"img/0.jpg": "a", "img/1.jpg": "b"}
    assert load_parquet(folder, {"path": paths, "label": ["a", "b"], "when": times}, group="when").sets["train"].groups is not None


@pytest.mark.parametrize("label", ["9" * 5000, "[" * 5000])
def test_labels_that_are_hard_to_read_are_names(folder: Path, label: str) -> None:
    source = load(folder, f"path,label\nimg/0.jpg,{label}\nimg/1.jpg,cat\n")
    assert set(named(source).values()) == {label, "cat"}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"path": ["img/0.jpg", "img/1.jpg"], "label": [["a", "b"], ["a"]]}, "multi-label"),
        ({"image": [{"bytes": b"x", "path": "x"}], "label": ["a"]}, "holds the images themselves"),
        ({"path": ["img/0.jpg"], "label": [0.25]}, "regression"),
        ({"path": ["img/0.jpg"], "label": ["a"], "bbox": [[1, 2, 3, 4]]}, "object detection"),
        ({"path": pa.array([], pa.string()), "label": pa.array([], pa.string())}, "no rows"),
    ],
)
def test_parquet_of_other_tasks(folder: Path, columns: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_parquet(folder, columns)


def test_a_damaged_parquet_file(folder: Path) -> None:
    load_parquet(folder, {"path": ["img/0.jpg", "img/1.jpg"], "label": ["a", "b"]})
    spoil: list[Callable[[bytes], bytes]] = [lambda data: data[:-20], lambda data: b"", lambda data: b"path,label\n"]
    whole = (folder / "labels.parquet").read_bytes()
    for change in spoil:
        (folder / "labels.parquet").write_bytes(change(whole))
        with pytest.raises(UserError, match="Cannot read"):
            load_source(folder / "labels.parquet")


def test_labels_with_separators(folder: Path) -> None:
    source = load(folder, 'path,label\nimg/0.jpg,"crane, bird"\nimg/1.jpg,New York\nimg/2.jpg,rock & roll; live\n')
    assert source.sets["train"].classes == ("crane, bird", "New York", "rock & roll; live")
    with pytest.raises(UserError, match="multi-label"):
        load(folder, 'path,label\nimg/0.jpg,"a, b"\nimg/1.jpg,a\nimg/2.jpg,b\n')


def test_a_second_load_with_an_edited_table_sees_the_edit(folder: Path) -> None:
    assert named(load(folder, "path,label\nimg/0.jpg,a\nimg/1.jpg,b\n")) == {"img/0.jpg": "a", "img/1.jpg": "b"}
    assert named(load(folder, "path,label\nimg/0.jpg,b\nimg/1.jpg,a\n")) == {"img/0.jpg": "b", "img/1.jpg": "a"}


def test_ids_do_not_depend_on_how_the_table_was_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(folder / "labels.csv", b"path,label\nimg/0.jpg,cat\nimg/1.jpg,dog\n")
    (folder / "beside").mkdir()
    monkeypatch.chdir(folder / "beside")
    assert list(named(load_source("../labels.csv"))) == ["img/0.jpg", "img/1.jpg"]


@pytest.mark.skipif(sys.platform == "darwin", reason="its file system takes one composition of accents for the other")
def test_paths_as_spreadsheets_and_windows_write_them(folder: Path) -> None:
    put(folder / "img" / "u\u0308.jpg", encoded(drawn(9)))  # decomposed, as macOS packs it
    put(folder / " odd.jpg", encoded(drawn(10)))
    source = load(folder, "path,label,,\n img/0.jpg ,cat,,\nimg\\1.jpg,dog,,\nimg/\u00fc.jpg,dog,,\n odd.jpg,cat,,\n")
    assert not source.rejects
    assert list(named(source)) == ["img/0.jpg", "img/1.jpg", "img/u\u0308.jpg", " odd.jpg"]


def test_where_no_path_leads_anywhere_it_is_said_what_paths_are_relative_to(folder: Path) -> None:
    with pytest.raises(UserError, match="no usable image") as caught:
        load(folder, "path,label\nphotos/a.jpg,cat\nphotos/b.jpg,dog\n")
    assert str(folder) in caught.value.hint
    with pytest.raises(UserError) as caught:
        load(folder, "path,label\n caf\u00e9/a.jpg,cat\nb.jpg,dog\n")
    assert "(caf\u00e9/a.jpg): missing" in caught.value.received  # as it is written


def test_two_columns_of_one_name_in_parquet(folder: Path) -> None:
    from pyarrow import parquet

    table = pa.table([["img/0.jpg"], ["cat"], ["dog"]], names=["path", "label", "label"])
    parquet.write_table(table, folder / "labels.parquet")
    with pytest.raises(UserError, match="two columns of one name"):
        load_source(folder / "labels.parquet")
    unnamed = pa.table([["img/0.jpg", "img/1.jpg"], ["a", "b"], ["x", "y"], ["z", "w"]], names=["path", "label", "", ""])
    parquet.write_table(unnamed, folder / "labels.parquet")
    assert named(load_source(folder / "labels.parquet")) == {"img/0.jpg": "a", "img/1.jpg": "b"}
