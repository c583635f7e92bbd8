"""A saved model judged on changed images: the record, its pictures, and the command."""

import json

import numpy as np
import pytest
from drawing import tinted_folders
from PIL import Image
from typer.testing import CliRunner

from frostline.cli import app
from frostline.config import Settings
from frostline.experiment import train
from frostline.model_card import read_card
from frostline.shifts import shift
from frostline.shifts.corruptions import CORRUPTIONS
from frostline.shifts.shift import brighter, covered, judge_shift, turned


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("frostline.experiment._draw", lambda *_: None)
        root = tmp_path_factory.mktemp("shift")
        data = tinted_folders(root / "data", ["a", "b"], 30)
        settings = Settings(
            kind="scratch", network="cnn-small", epochs=2, batch_size=20, device="cpu", precision="f32", image_size=16
        )
        return train(data, settings, root / "run"), data


@pytest.fixture
def few(monkeypatch):
    """Two corruptions and a curve: the rest is the same again."""
    monkeypatch.setattr(shift, "CORRUPTIONS", {name: CORRUPTIONS[name] for name in ("contrast", "fog")})
    monkeypatch.setattr(shift, "CURVES", {"occlusion": (covered, (0.0, 0.5))})


@pytest.mark.usefixtures("few")
def test_the_record_says_what_the_model_does_on_changed_images(trained):
    run, data = trained
    record = judge_shift(run.folder, data)
    json.dumps(record, allow_nan=False)
    assert record["clean"] == run.record["test_accuracy"] == record["curves"]["occlusion"][0][1]
    assert {len(row) for row in record["corruptions"].values()} == {5}
    assert record["by_corruption"]["fog"] == pytest.approx(np.mean(record["corruptions"]["fog"]))
    assert record["mean_corrupted"] == pytest.approx(np.mean(list(record["corruptions"].values())))
    assert record["by_severity"][2] == pytest.approx(np.mean([row[2] for row in record["corruptions"].values()]))
    assert (record["split"], record["seen_in_training"], record["stated"]) == ("test", 0, {})
    again = judge_shift(run.folder, data)
    timed = {"seconds": 0, "seconds_to_corruptions": 0}
    assert {**again, **timed} == {**record, **timed}
    assert 0 < record["seconds_to_corruptions"] <= record["seconds"]


@pytest.mark.usefixtures("few")
def test_fewer_images_are_from_all_over_the_split_and_said(trained, capsys):
    run, data = trained
    assert judge_shift(run.folder, data, most=4)["n"] == 4
    assert "4 images from all over" in capsys.readouterr().err


@pytest.mark.usefixtures("few")
def test_the_command_keeps_the_record_and_its_pictures(trained, tmp_path):
    pytest.importorskip("matplotlib")
    run, data = trained
    shown = CliRunner().invoke(
        app, ["evaluate", str(run.folder), str(data), "--corruptions", "--out", str(tmp_path / "out"), "--json"]
    )
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.stdout) == json.loads((tmp_path / "out" / "shift.json").read_text())
    for name in ("corruptions.png", "curves.png"):
        with Image.open(tmp_path / "out" / name) as image:
            assert image.size[0] > 500


def test_pictures_name_the_model_by_its_card(trained, tmp_path, figures):
    pytest.importorskip("matplotlib")
    run, _ = trained
    record = {"model": "cnn-small", "model_digest": run.record["model_digest"], "clean": 0.5, "n": 6}
    record |= {"corruptions": {"fog": [0.5] * 5}, "by_corruption": {"fog": 0.5}, "by_severity": [0.5] * 5}
    record |= {"mean_corrupted": 0.5, "curves": {"occlusion": [(0.0, 0.5), (0.5, 0.4)]}}
    shift.keep(record, tmp_path)
    assert [figure.get_suptitle().replace("\n", " ") for figure in figures] == [
        f"cnn-small {run.record['model_digest'][:8]}: accuracy {of}" for of in ("on corrupted images", "as images change")
    ]


@pytest.mark.usefixtures("few")
def test_the_record_names_the_model(trained):
    run, data = trained
    record = judge_shift(run.model_folder, data, most=2)
    assert (record["model"], record["model_digest"]) == (read_card(run.model_folder).name, run.record["model_digest"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--corruptions", "--save", "p.npz"), "--save"),
        (("--out", "shift"), "--corruptions"),
        (("--most", "3"), "--corruptions"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused = CliRunner().invoke(app, ["evaluate", "model", "data", *options])
    assert refused.exit_code == 2
    assert "Invalid value" in refused.output
    assert said in refused.output
    assert list(tmp_path.iterdir()) == []


def test_changes_by_hand():
    image = np.arange(48, dtype=np.uint8).reshape(1, 4, 4, 3)
    np.testing.assert_array_equal(brighter(image, 1.0), image)
    np.testing.assert_array_equal(brighter(image, 2.0), image * 2)
    np.testing.assert_array_equal(turned(image, 0.0), image)
    np.testing.assert_array_equal(turned(image, 90.0), np.rot90(image, axes=(1, 2)))
    hidden = covered(image, 0.5)
    assert (hidden[0, 1:3, 1:3] == 128).all()
    assert (hidden != image).sum() == 12
    np.testing.assert_array_equal(covered(image, 0.0), image)
