"""The pictures of a gallery, and where in the data they come from."""

import json

import numpy as np
import pytest
from drawing import put, tinted_folders

from frostline.data.sources import load_source
from frostline.errors import UserError
from frostline.explaining.galleries import SHOWN, find_images, make_galleries, picture, run_data
from frostline.files import digest_file
from frostline.predictions import Predictions
from frostline.reporting.galleries import read
from frostline.runs import Run


@pytest.fixture
def judged(tmp_path):
    """A finished run by hand on drawn images, two of them wrong, and its data."""
    data = tinted_folders(tmp_path / "data", ["cat", "dog"], 4, height=300, width=400)
    images = load_source(data).sets["train"]
    p = np.where(images.labels[:, None] == [0, 1], 0.8, 0.2)
    p[[1, 6]] = [[0.3, 0.7], [0.9, 0.1]]
    with Run.create(tmp_path / "run") as run:
        run.write_data({"source": str(data)})
        run.write_predictions("test", Predictions(images.ids, images.labels, p, images.classes, images.digests))
        run.finish({})
    return run.folder, data, images


def test_galleries_of_a_run(judged, tmp_path, figures):
    pytest.importorskip("matplotlib")
    folder, _, images = judged
    record = make_galleries(folder, None, "test", 5, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "galleries.json").read_text()) == record
    assert (record["n"], record["wrong"], len(record["hits"])) == (8, 2, 5)
    assert [(row["id"], row["true"]) for row in record["mistakes"]] == [(images.ids[6], "dog"), (images.ids[1], "cat")]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["galleries.json", "hits.png", "mistakes.png"]
    assert record["predictions"] == Run.open(folder).manifest["files"]["predictions/test.npz"]
    assert record["pictures"] == {name: digest_file(tmp_path / "out" / name) for name in ("mistakes.png", "hits.png")}
    mistakes, hits = figures
    assert [text.get_text() for text in mistakes.axes[0].texts] == ["cat 90.0 %\nis dog", "dog 70.0 %\nis cat"]
    np.testing.assert_array_equal(mistakes.axes[0].images[0].get_array(), picture(images, 6))
    assert mistakes.get_suptitle() == "run · test · the 2 most confident mistakes"
    assert hits.get_suptitle() == "run · test · the 5 least certain hits"


def test_a_report_takes_them(judged, tmp_path):
    pytest.importorskip("matplotlib")
    make_galleries(judged[0], None, "test", 5, tmp_path / "out")
    found = read(tmp_path / "out", [Run.open(judged[0])])
    assert [row["predicted"] for row in found.record["mistakes"]] == ["cat", "dog"]
    assert found.pictures["hits"] == (tmp_path / "out" / "hits.png").read_bytes()


def test_without_matplotlib_the_rows_are_written_and_it_is_said(judged, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    record = make_galleries(judged[0], None, "test", 5, tmp_path / "out")
    assert (len(record["mistakes"]), record["pictures"]) == (2, {})
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["galleries.json"]
    assert "Pictures need Matplotlib. The rows are in" in capsys.readouterr().err


def test_photos_are_shown_small_and_arrays_as_they_are(judged, tmp_path):
    _, _, photos = judged
    assert picture(photos, 0).shape == (SHOWN * 3 // 4, SHOWN, 3)
    arrays = load_source(tinted_folders(tmp_path / "small", ["a", "b"], 2, height=9, width=9)).sets["train"]
    np.testing.assert_array_equal(picture(arrays, 1), arrays.pixels[1])


def test_images_that_are_not_in_the_data_are_an_error(judged):
    folder, data, images = judged
    source = load_source(data)
    assert [row for _, row in find_images(source, list(images.digests[[5, 0]]))] == [5, 0]
    put(data / "cat" / "1.png", (data / "dog" / "0.png").read_bytes())
    with pytest.raises(UserError, match="1 of the 2 images to show are not in") as caught:
        make_galleries(folder, None, "test", 5, folder.parent / "out")
    assert caught.value.hint == "--data with that data"


def test_a_gallery_of_missing_rows_or_of_a_changed_score_is_refused(judged, tmp_path):
    folder, data, images = judged
    p = Run.open(folder).predictions("test")
    with Run.create(tmp_path / "fewer") as run:
        run.write_data({"source": str(data), "counts": {"test": {"images": len(images), "classes": {}}}})
        run.write_predictions("test", Predictions(p.ids[1:], p.labels[1:], p.probabilities[1:], p.classes, p.digests[1:]))
        run.finish({})
    with pytest.raises(UserError, match="no prediction for 1 of its 8 test images"):
        make_galleries(tmp_path / "fewer", None, "test", 5, tmp_path / "out")
    with Run.create(tmp_path / "digit") as run:
        run.write_data({"source": str(data)})
        run.write_predictions("test", p)
        run.write_scores("test", {"accuracy": 0.875})
        run.finish({})
    with pytest.raises(UserError, match="A claim of digit is wrong"):
        make_galleries(tmp_path / "digit", None, "test", 5, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_split_that_was_not_predicted(judged):
    with pytest.raises(UserError, match="has no predictions of validation") as caught:
        make_galleries(judged[0], None, "validation", 5, judged[0].parent / "out")
    assert caught.value.expected == "test"


def test_the_data_of_a_run_is_found_from_its_model(judged, tmp_path):
    folder, data, _ = judged
    for inside in (folder, folder / "model", folder / "stages" / "head"):
        assert run_data(inside) == str(data)
    assert run_data(tmp_path / "elsewhere" / "model") is None


def test_a_run_of_data_in_memory_names_none(tmp_path):
    with Run.create(tmp_path / "run") as made:
        made.write_data({})
        made.finish({})
    assert run_data(tmp_path / "run") is None
