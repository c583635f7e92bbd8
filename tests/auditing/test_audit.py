"""What inspecting data says of folders with planted flaws, and what it leaves behind."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from drawing import encoded, put
from PIL import Image, ImageFilter
from typer.testing import CliRunner

from frostline.auditing import thumbnails
from frostline.auditing.audit import inspect, keep
from frostline.cli import app
from frostline.data.sources import load_source
from frostline.drawn import drawn_images
from frostline.errors import UserError


def picture(pixels, kind="PNG"):
    return encoded(Image.fromarray(pixels), kind)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Photos of 80×60 with a copy across splits, one with two classes, a dark, a bright, a blank, a blurred and a broken one."""
    root = tmp_path_factory.mktemp("photos")
    images = drawn_images(60, 60, 80, seed=2)
    for number, image in enumerate(images[:40]):
        put(root / "train" / ("a" if number < 30 else "b") / f"{number}.png", picture(image))
    for number, image in enumerate(images[40:]):
        put(root / "test" / "ab"[number % 2] / f"{number}.png", picture(image))
    put(root / "test" / "a" / "copy.jpg", picture(images[0], "JPEG"))
    put(root / "train" / "b" / "other class.png", picture(np.ascontiguousarray(images[1][:, ::-1])))
    put(root / "train" / "a" / "dark.png", picture(images[2] // 40))
    put(root / "train" / "a" / "bright.png", picture(250 + images[3] // 52))
    put(root / "train" / "a" / "blank.png", picture(np.full((60, 80, 3), 90, np.uint8)))
    blurred = Image.fromarray(images[4]).filter(ImageFilter.GaussianBlur(12))
    put(root / "train" / "a" / "blurred.png", encoded(blurred, "PNG"))
    put(root / "train" / "a" / "broken.png", b"no picture")
    return root


def test_planted_flaws_are_found(folder):
    record = inspect(load_source(str(folder), training=False))
    json.dumps(record, allow_nan=False)
    pairs = {frozenset((pair["a"].split("/")[-1], pair["b"].split("/")[-1])): pair for pair in record["duplicates"]}
    assert set(pairs) == {frozenset(("0.png", "copy.jpg")), frozenset(("1.png", "other class.png"))}
    across, contradicting = pairs[frozenset(("0.png", "copy.jpg"))], pairs[frozenset(("1.png", "other class.png"))]
    assert {across["split_a"], across["split_b"]} == {"train", "test"}
    assert (contradicting["mirrored"], {contradicting["class_a"], contradicting["class_b"]}) == (True, {"a", "b"})
    assert (record["across"], record["contradictions"]) == (1, 1)
    odd = {(row["id"].split("/")[-1], row["what"]) for row in record["odd"]}
    assert {("dark.png", "dark"), ("bright.png", "bright"), ("blank.png", "blank"), ("blurred.png", "blurred")} <= odd
    assert len(odd) <= 8  # what is dark or bright may be blank as well, and a drawn image smooth
    assert [reject["path"].split("/")[-1] for reject in record["rejects"]] == ["broken.png"]
    assert record["splits"]["train"]["classes"] == {"a": 34, "b": 11}
    assert record["splits"]["train"]["imbalance"] == pytest.approx(34 / 11)


def test_the_very_same_content_is_said(tmp_path):
    for name in ("one", "two"):
        put(tmp_path / "a" / f"{name}.png", picture(drawn_images(1, 40, 40)[0]))
    put(tmp_path / "b" / "three.png", picture(drawn_images(2, 40, 40, seed=9)[1]))
    (pair,) = inspect(load_source(str(tmp_path), training=False))["duplicates"]
    assert pair["same_content"]


def inspected(root):
    return inspect(load_source(str(root), training=False))


def on_screen(root, out):
    done = CliRunner().invoke(app, ["inspect", str(root), "--out", str(out)])
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split())


def test_a_copy_in_test_is_found_however_many_there_are_in_train(tmp_path):
    one, *others = (picture(image) for image in drawn_images(6, 70, 70, seed=4))
    for number in range(26):
        put(tmp_path / "train" / "a" / f"copy {number}.png", one)
    put(tmp_path / "test" / "a" / "leak.png", one)
    for number, other in enumerate(others):
        put(tmp_path / "train" / "b" / f"{number}.png", other)
    record = inspected(tmp_path)
    assert (record["pairs"], record["across"], record["contradictions"], record["left_out"]) == (26, 1, 0, 0)
    assert len(record["duplicates"]) == 26
    (leak,) = (pair for pair in record["duplicates"] if pair["split_a"] != pair["split_b"])
    assert (leak["b"], leak["split_b"], leak["same_content"]) == ("test/a/leak.png", "test", True)


@pytest.mark.parametrize("side", [32, 70])
def test_copies_that_show_next_to_nothing_are_found(tmp_path, side):
    dark = [picture(image // 40) for image in drawn_images(3, side, side, seed=8)]
    for split, number in (("train", 0), ("train", 1), ("train", 2), ("test", 0)):
        put(tmp_path / split / "a" / f"{number}.png", dark[number])
    (pair,) = inspected(tmp_path)["duplicates"]
    assert (pair["a"], pair["b"], pair["same_content"]) == ("train/a/0.png", "test/a/0.png", True)


def frames(root):
    """A still scene: thirty frames that compression alone tells apart, three of them in test and under another class."""
    image = drawn_images(1, 70, 70, seed=4)[0]
    for number in range(30):
        place = root / "test" / "b" if number in (4, 14, 24) else root / "train" / "a"
        put(place / f"{number}.jpg", encoded(Image.fromarray(image), "JPEG", quality=60 + number))
    return root


def test_what_the_tables_leave_out_is_counted_and_said(tmp_path):
    frames(tmp_path / "data")
    said = on_screen(tmp_path / "data", tmp_path / "out")
    record = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert record["pairs"] == 30 * 29 / 2
    assert record["across"] == record["contradictions"] == 27 * 3
    assert record["left_out"] == record["pairs"] - len(record["duplicates"]) > 0
    ends = {end: [pair[end] for pair in record["duplicates"] if pair["split_a"] != pair["split_b"]] for end in "ab"}
    assert {*ends["a"], *ends["b"]} == {pair[end] for pair in record["duplicates"] for end in "ab"}
    assert len({*ends["a"], *ends["b"]}) == 30
    assert "435 pairs of images are nearly the same (0 of them the very same): 81 across splits, 81 with two classes." in said
    assert f"{record['left_out']:,} of these pairs are counted but not listed." in said
    assert record["most_compared"] is None
    assert "compared closely" not in said


def test_a_search_that_was_limited_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(thumbnails, "LOOKS", 20)
    said = on_screen(frames(tmp_path / "data"), tmp_path / "out")
    record = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert record["most_compared"] == thumbnails.LEAST
    assert record["across"] >= 27
    assert record["pairs"] <= 2 * thumbnails.LEAST * 30
    assert "compared closely with the 4 most alike of its split and as many of other splits alone" in said


def test_sizes_of_photos_are_said(tmp_path):
    sizes = [(70, 90), (70, 200), (110, 90), (70, 91)]
    for number, (height, width) in enumerate(sizes):
        put(tmp_path / "train" / "ab"[number % 2] / f"{number}.png", picture(drawn_images(1, height, width, seed=number)[0]))
    put(tmp_path / "test" / "a" / "one.png", picture(drawn_images(1, 80, 120, seed=9)[0]))
    train, test = (inspected(tmp_path)["splits"][name] for name in ("train", "test"))
    assert (train["size"], test["size"]) == (None, [80, 120])
    assert train["width"] == {"minimum": 90, "median": 90.5, "maximum": 200}
    assert train["height"] == {"minimum": 70, "median": 70.0, "maximum": 110}
    lengths = sorted(path.stat().st_size for path in (tmp_path / "train").rglob("*.png"))
    assert train["bytes"] == {"minimum": lengths[0], "median": (lengths[1] + lengths[2]) / 2, "maximum": lengths[3]}
    said = on_screen(tmp_path, tmp_path / "out")
    assert "train: images 90 to 200 (median 90.5) px wide and 70 to 110 (median 70) px high, in files of" in said
    assert "test: images 120 px wide and 80 px high, in files of" in said


def test_sizes_of_arrays_are_said(tmp_path):
    pytest.importorskip("sklearn")
    source = load_source("digits")
    few = source.sets["train"].take(range(30))
    record = inspect(replace(source, sets={"train": few}))
    eight = {"minimum": 8, "median": 8.0, "maximum": 8}
    train = record["splits"]["train"]
    assert (train["size"], train["height"], train["width"], train["bytes"]) == ([8, 8], eight, eight, None)


def test_what_was_mended_does_not_stay_in_the_folder(tmp_path):
    pytest.importorskip("matplotlib")
    data, out = tmp_path / "data", tmp_path / "out"
    for number, image in enumerate(drawn_images(4, 70, 70, seed=2)):
        put(data / "ab"[number % 2] / f"{number}.png", picture(image))
    put(data / "a" / "again.png", (data / "a" / "0.png").read_bytes())
    put(out / "label_errors.csv", b"of an inspection with a network")
    put(out / "label_errors.png", b"the same")
    put(out / "notes.csv", b"a person's own")
    said = on_screen(data, out)
    assert "where an earlier inspection had left it: label_errors.csv, label_errors.png." in said
    assert (out / "duplicates.png").is_file()
    (data / "a" / "again.png").unlink()
    said = on_screen(data, out)
    assert "had left it: duplicates.png." in said
    assert {path.name for path in out.iterdir()} == {"audit.json", "duplicates.csv", "odd.csv", "samples.png", "notes.csv"}
    assert "had left it" not in on_screen(data, out)


def test_where_nothing_can_be_drawn_no_earlier_picture_stays(tmp_path, monkeypatch):
    for number, image in enumerate(drawn_images(3, 70, 70, seed=2)):
        put(tmp_path / "data" / "a" / f"{number}.png", picture(image))
    for name in ("samples.png", "duplicates.png"):
        put(tmp_path / "out" / name, b"earlier")
    source = load_source(str(tmp_path / "data"), training=False)

    def refuse(*_):
        raise UserError("Pictures need Matplotlib.")

    monkeypatch.setattr("frostline.plots.sample_grid", refuse)
    keep(inspect(source), source, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.png"))


def test_the_command_leaves_tables_and_pictures_and_changes_nothing(folder, tmp_path):
    pytest.importorskip("matplotlib")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    shown = CliRunner().invoke(app, ["inspect", str(folder), "--out", str(tmp_path / "out"), "--json"])
    assert shown.exit_code == 0, shown.output
    record = json.loads(shown.stdout)
    assert json.loads((tmp_path / "out" / "audit.json").read_text()) == record
    with open(tmp_path / "out" / "duplicates.csv", newline="") as stream:
        assert len(list(csv.DictReader(stream))) == 2
    with open(tmp_path / "out" / "odd.csv", newline="") as stream:
        assert {row["what"] for row in csv.DictReader(stream)} >= {"dark", "blank"}
    for name in ("samples.png", "duplicates.png"):
        with Image.open(tmp_path / "out" / name) as image:
            assert image.size[0] > 300
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_label_errors_need_a_network_and_that_is_said(folder, tmp_path):
    assert inspect(load_source(str(folder), training=False))["label_errors"] is None
    said = CliRunner().invoke(app, ["inspect", str(folder), "--out", str(tmp_path)]).output
    assert "Label errors are not sought in pixels: name a network, for example --backbone densenet169." in said
    assert not (tmp_path / "label_errors.csv").exists()


def test_what_is_said_on_the_screen(folder, tmp_path):
    said = " ".join(CliRunner().invoke(app, ["inspect", str(folder), "--out", str(tmp_path)]).output.split())
    assert "2 pairs of images are nearly the same (0 of them the very same): 1 across splits, 1 with two classes" in said
    assert "1 unusable files are left out" in said
