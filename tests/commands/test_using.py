"""``frostline predict`` as a person types it: what it takes, where it writes, how it ends."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from drawing import encoded, put
from PIL import Image
from toymodel import write_toy

from frostline import cli
from frostline.model_zip import pack_model
from frostline.predicting import batch


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return write_toy(tmp_path_factory.mktemp("toy") / "model")


@pytest.fixture(scope="module")
def with_sets(tmp_path_factory):
    """A model whose sets of 90 % are of one class on these photos, and those of 99 % of all."""
    return write_toy(tmp_path_factory.mktemp("sets") / "model", label_sets={0.9: 0.5, 0.99: 0.0})


@pytest.fixture
def photos(tmp_path):
    for number in range(30):
        pixels = np.full((8, 8, 3), (200, 20, number), np.uint8)
        put(tmp_path / "photos" / f"{number:02d}.png", encoded(Image.fromarray(pixels), "PNG"))
    return tmp_path / "photos"


@pytest.fixture
def run(monkeypatch, capsys):
    """Run ``predict``; its exit code, standard output and standard error."""

    def call(*arguments, stdin=b""):
        monkeypatch.setattr(sys, "argv", ["frostline", "predict", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return ended.value.code or 0, said.out, said.err

    return call


def paths(out):
    return [json.loads(line)["path"].rpartition("/")[2] for line in out.splitlines()]


def test_paths_on_standard_input(run, toy, photos):
    named = b"\0".join(str(photos / name).encode() for name in ("03.png", "01.png", "gone.png"))
    code, out, _ = run("-", "--model", toy, "--format", "jsonl", stdin=named)
    assert (code, paths(out)) == (1, ["03.png", "01.png", "gone.png"])


def test_patterns_archives_and_folders_together(run, toy, photos, tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as packed:
        packed.write(photos / "07.png", "inner/seven.png")
    code, out, _ = run(photos / "0[12].png", tmp_path / "x.zip", photos / "05.png", "--model", toy, "--format", "jsonl")
    assert (code, paths(out)) == (0, ["01.png", "02.png", "seven.png", "05.png"])
    (photos / "sub").mkdir()
    (photos / "00.png").rename(photos / "sub" / "00.png")
    assert len(run(photos, "--model", toy)[1].splitlines()) == 30
    assert len(run(photos, "--no-recursive", "--model", toy)[1].splitlines()) == 29


def test_a_packed_model(run, toy, photos, tmp_path):
    packed = pack_model(toy, tmp_path / "toy.zip")
    assert run(photos, "--model", packed)[:2] == run(photos, "--model", toy)[:2]


@pytest.mark.parametrize("form", ["table", "json", "jsonl", "csv", "parquet"])
def test_label_sets_in_every_form(run, with_sets, photos, tmp_path, form):
    if form == "parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
    for coverage, held in ((0.9, ["red"]), (0.99, ["red", "blue", "green"])):
        command = (photos / "29.png", "--model", with_sets, "--sets", coverage, "--top", 1, "--format", form)
        if form == "parquet":
            code, out, err = run(*command, "--output", tmp_path / f"{coverage}.parquet")
            found = parquet.read_table(tmp_path / f"{coverage}.parquet").to_pylist()[0]
        else:
            code, out, err = run(*command)
        assert code == 0
        assert f"true class of {100 * coverage:g} % of images" in err
        assert ("less than all classes" in err) == (coverage == 0.99)
        if form == "table":
            assert out.endswith(f"  ({100 * coverage:g} % set: {', '.join(held)})\n")
        elif form in ("json", "jsonl"):
            row = json.loads(out)[0] if form == "json" else json.loads(out)
            assert row["set"] == {"coverage": coverage, "classes": held}
        else:
            row = next(csv.DictReader(io.StringIO(out))) if form == "csv" else found
            assert float(row["coverage"]) == coverage
            assert (json.loads(row["set"]) if form == "csv" else row["set"]) == held


@pytest.mark.parametrize("coverage", ["0.95", "0", "95", "-1", "nan"])
def test_a_coverage_that_the_card_lacks_is_code_2_and_lists_those_it_has(run, with_sets, toy, photos, coverage):
    code, out, err = run(photos, "--model", with_sets, "--sets", coverage)
    assert (code, out) == (2, "")
    assert "no threshold for that coverage" in err
    assert "one of 0.9, 0.99" in err
    code, out, err = run(photos, "--model", toy, "--sets", coverage)
    assert (code, out) == (2, "")
    assert "keeps no thresholds for label sets" in err


def test_the_classifier_inside_has_label_sets(run, photos):
    code, out, _ = run(photos, "--sets", 0.95, "--format", "jsonl")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code in (0, 1)  # some of the files are no images
    answered = [row for row in rows if "top" in row]
    assert answered
    assert all(row["set"]["classes"] for row in answered)


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.json", "a.parquet"])
def test_an_output(run, toy, photos, tmp_path, name):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    code, out, err = run(photos, "--model", toy, "--output", tmp_path / name)
    assert (code, out) == (0, "")
    assert "30 images, of which 0 could not be read" in err
    assert {path.name for path in tmp_path.iterdir()} == {"photos", name}


def test_ctrl_c_says_how_to_go_on(run, toy, photos, tmp_path, monkeypatch):
    original = batch.predict_items

    def interrupted(*rest):
        for number, row in enumerate(original(*rest)):
            if number == 12:
                raise KeyboardInterrupt
            yield row

    command = (photos, "--model", toy, "--output", tmp_path / "a.jsonl")
    with monkeypatch.context() as patched:
        patched.setattr(batch, "predict_items", interrupted)
        code, _, err = run(*command)
    assert code == 130
    assert "12 answers are kept: the same command with --resume" in err
    assert "train" not in err
    code, _, err = run(*command)
    assert code == 2
    assert "--resume goes on with them" in err
    code, _, err = run(*command, "--resume")
    assert code == 0
    assert "12 images are answered already" in err
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 30
    assert "is finished" in run(*command, "--resume")[2]


@pytest.mark.parametrize("output", [None, "a.json"])
def test_ctrl_c_says_that_nothing_is_kept(run, toy, photos, tmp_path, monkeypatch, output):
    def interrupted(*_):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(batch, "predict_items", interrupted)
    code, _, err = run(photos, "--model", toy, *(("--output", tmp_path / output) if output else ()))
    assert code == 130
    assert "Interrupted; nothing is kept" in err
    assert {path.name for path in tmp_path.iterdir()} == {"photos"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--resume",), "--resume continues an --output"),
        (("--format", "parquet"), "written to a file"),
        (("--output", "answers.doc"), "no such format"),
        (("--output", "answers.json", "--resume"), "cannot be continued"),
        (("--sure", "nan"), "--sure"),
        (("--output", "photos", "--format", "parquet"), "photos"),
        (("--output", "photos", "--format", "jsonl"), "photos"),
    ],
)
def test_mistakes_are_code_2(run, toy, photos, options, words, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(photos, "--model", toy, *options)
    assert code == 2
    assert words in err
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_a_pipe_that_closes_ends_it_quietly(toy, photos, tmp_path):
    """The reader takes one line and goes; the rest is far more than a pipe holds."""
    listed = put(tmp_path / "list", "\n".join([str(photos / "01.png")] * 3000).encode())
    command = [sys.executable, "-m", "frostline", "predict", "-", "--model", str(toy), "--format", "jsonl"]
    with (
        open(tmp_path / "err", "w+b") as err,
        open(listed, "rb") as stdin,
        subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, stderr=err) as process,
    ):
        assert json.loads(process.stdout.readline())["path"].endswith("01.png")
        process.stdout.close()
        assert process.wait(60) == 141
        err.seek(0)
        assert err.read() == b""


@pytest.mark.parametrize("form", ["table", "jsonl", "csv"])
def test_names_that_the_terminal_cannot_write_end_nothing(toy, photos, tmp_path, form):
    shutil.copy(photos / "01.png", tmp_path / "日本.png")
    command = [sys.executable, "-m", "frostline", "predict", str(tmp_path), "--model", str(toy), "--format", form]
    ended = subprocess.run(command, env={**os.environ, "PYTHONIOENCODING": "cp1252"}, capture_output=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")
    wanted = b"\\u65e5\\u672c" if form == "table" else "日本".encode()
    assert wanted in ended.stdout
