"""Which rows a gallery shows, worked out by hand, and the pictures that go with them."""

import json

import numpy as np
import pytest
from drawing import put, tinted_folders
from judged import predictions

from frostline.data.sources import load_source
from frostline.errors import UserError
from frostline.explaining.galleries import (
    SHOWN,
    caption,
    described,
    find_images,
    least_certain_hits,
    make_galleries,
    most_confident_mistakes,
    picture,
    run_data,
)
from frostline.predictions import Predictions
from frostline.runs import Run

#: Right, wrong at .6, wrong at .9, right at .4, unknown at .9, right at .4.
LABELS = [0, 0, 1, 2, -1, 2]
P = np.array([[0.7, 0.2, 0.1], [0.3, 0.6, 0.1], [0.9, 0.1, 0.0], [0.3, 0.3, 0.4], [0.0, 0.9, 0.1], [0.35, 0.25, 0.4]])


@pytest.fixture
def six():
    return predictions(LABELS, P)


def test_mistakes_are_the_most_confident_first_and_equals_in_order(six):
    found = most_confident_mistakes(six, 10)
    assert found.rows.tolist() == [2, 4, 1]
    assert found.labels.tolist() == [1, -1, 0]
    assert found.predicted.tolist() == [0, 1, 1]
    np.testing.assert_array_equal(found.probabilities, P[[2, 4, 1]])
    np.testing.assert_array_equal(found.confidence, [0.9, 0.9, 0.6])
    assert most_confident_mistakes(six, 1).rows.tolist() == [2]


def test_hits_are_the_least_certain_first(six):
    found = least_certain_hits(six, 2)
    assert found.rows.tolist() == [3, 5]
    assert found.labels.tolist() == found.predicted.tolist() == [2, 2]
    assert least_certain_hits(six, 10).rows.tolist() == [3, 5, 0]


def test_none_at_all():
    right, wrong = predictions([0], np.eye(2)[:1]), predictions([1], np.eye(2)[:1])
    assert len(most_confident_mistakes(right, 5)) == len(least_certain_hits(wrong, 5)) == 0
    assert described(most_confident_mistakes(right, 5), right) == []


def test_rows_are_described_and_captioned(six):
    first, unknown, _ = described(most_confident_mistakes(six, 3), six)
    wanted = {"row": 2, "id": "row/2", "true": "b", "predicted": "a", "probability": 0.9}
    assert first == {**wanted, "second": "b", "second_probability": 0.1}
    assert caption(first) == "a 90.0 %\nis b"
    assert unknown["true"] is None
    assert caption(unknown) == "b 90.0 %\nis of another class"
    assert caption(described(least_certain_hits(six, 1), six)[0]) == "c 40.0 %\na 30.0 %"
    one = predictions([0], np.ones((1, 1)))
    assert caption(described(least_certain_hits(one, 1), one)[0]) == "a 100.0 %"


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
    mistakes, hits = figures
    assert [text.get_text() for text in mistakes.axes[0].texts] == ["cat 90.0 %\nis dog", "dog 70.0 %\nis cat"]
    np.testing.assert_array_equal(mistakes.axes[0].images[0].get_array(), picture(images, 6))
    assert mistakes.get_suptitle() == "run · test · the 2 most confident mistakes"
    assert hits.get_suptitle() == "run · test · the 5 least certain hits"


def test_without_matplotlib_the_rows_are_written_and_it_is_said(judged, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    record = make_galleries(judged[0], None, "test", 5, tmp_path / "out")
    assert len(record["mistakes"]) == 2
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
