"""Explanations of saved models of every kind, against torch autograd on their saved weights, and the command."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from drawing import drawn, encoded, put, tinted_folders
from PIL import Image
from safetensors.torch import load_file
from toymodel import write_toy

from frostline import cli
from frostline.convert import FromUint8
from frostline.data.sources import load_source
from frostline.errors import UserError
from frostline.experiment import train
from frostline.explaining.explain import Explainer, explain_files, near_training_images
from frostline.explaining.gradcam import GradCam
from frostline.explaining.neighbours import Neighbours
from frostline.feature_cache import entries, raw
from frostline.models.backbones import FeatureNetwork, build
from frostline.models.cnn import WithMap, make_network
from frostline.models.rebuilt import _head, _part
from frostline.serve.predictor import Predictor

CLASSES = ["cat", "dog", "nut"]
#: Of a gradient, relative to its largest value.
TOLERANCE = 1e-4
KINDS = {
    "frozen": {"views": 2},
    "finetuned": {"train_from": "layer4", "epochs": 1, "batch_size": 16, "lr": 1e-3},
    "dense": {"head": "dense-a", "epochs": 2, "batch_size": 16},
    "flattened": {"kind": "scratch", "network": "cnn-small", "epochs": 1, "batch_size": 16},
    "maximum": {"kind": "scratch", "network": "fast-small", "epochs": 1, "batch_size": 16},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tinted_folders(tmp_path_factory.mktemp("data") / "tinted", CLASSES, 16)


@pytest.fixture(scope="module")
def trained(data, tiny, tmp_path_factory):
    """A run of each kind, made when it is asked for."""
    made = {}

    def of(kind):
        if kind not in made:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("FROSTLINE_HOME", str(tmp_path_factory.mktemp("home")))
                patch.setattr("frostline.experiment._draw", lambda *_: None)
                made[kind] = train(str(data), tiny.with_values(recipe=kind, **KINDS[kind]), tmp_path_factory.mktemp(kind) / "run")
        return made[kind].folder

    return of


def rebuilt(predictor):
    """(features, map) of normalised images and logits of features, in torch, from the saved weights."""
    architecture, state = predictor.card.values["architecture"], load_file(predictor.folder / "weights.safetensors")
    if architecture["kind"] == "scratch":
        network = make_network(architecture["network"], len(CLASSES), predictor.card.preprocess.stored)
        network.load_state_dict(state)
        body = WithMap(network.eval().body)
        return body.below, body.above, network.head
    backbone = FeatureNetwork(build(architecture["backbone"], predictor.card.preprocess.size, **architecture["model_args"])).eval()
    backbone.load_state_dict(_part(state, "backbone."))
    pooled = lambda grid: backbone.network.forward_head(grid, pre_logits=True)  # noqa: E731
    return backbone.network.forward_features, pooled, _head(architecture, len(CLASSES), _part(state, "head."))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_saved_models_agree_with_autograd(trained, data, kind):
    predictor = Predictor(trained(kind))
    image = load_source(data).sets["train"].pixels[20]
    below, above, head = rebuilt(predictor)

    class Below(torch.nn.Module):
        forward = staticmethod(below)

    with torch.no_grad():
        kept = FromUint8(Below(), predictor.card.preprocess)(torch.from_numpy(image[None]))
    kept.requires_grad_(True)
    above_it = head(above(kept))
    above_it[0, 1].backward()
    A, by_map = GradCam(predictor.graph).map_and_gradient(image, 1)
    wanted = kept.grad[0].numpy()
    known = np.isfinite(wanted).all((1, 2))  # of a power of 0 autograd knows no gradient
    assert known.sum() > len(known) / 2
    assert (by_map[~known] == 0).all()
    np.testing.assert_allclose(A, kept.detach()[0].numpy(), atol=TOLERANCE * float(kept.detach().abs().max()))
    np.testing.assert_allclose(by_map[known], wanted[known], atol=TOLERANCE * np.abs(wanted[known]).max())


def test_an_explanation_says_what_the_model_says(trained, data):
    predictor = Predictor(trained("frozen"))
    image = load_source(data).sets["train"].pixels[3]
    found = Explainer(predictor)(image)
    p = predictor.predict(image)[0]
    assert [name for name, _ in found.top] == [CLASSES[k] for k in np.argsort(-p)]
    np.testing.assert_array_equal([each for _, each in found.top], np.sort(p)[::-1])
    assert found.explained == found.top[0]
    assert found.image.shape == found.overlay.shape == (192, 192, 3)
    np.testing.assert_array_equal(found.image[::8, ::8], image)
    other = Explainer(predictor)(image, "nut", top=1)
    assert other.explained == ("nut", pytest.approx(p[2]))
    assert len(other.top) == 1
    json.dumps(other.record())


def test_neighbours_are_the_nearest_by_cosine_among_what_training_has_seen(trained, data):
    predictor = Predictor(trained("frozen"))
    near, images = Neighbours(predictor, data), load_source(data).sets["train"]
    seen = [raw(digest) in predictor.seen() for digest in images.digests]
    assert len(near) == sum(seen) < len(images)
    features = np.concatenate([found[:, 0] for found in predictor.features([images.pixels[i : i + 16] for i in range(0, 48, 16)])])
    directions = features / np.linalg.norm(features, axis=1, keepdims=True)
    row = int(np.flatnonzero(np.logical_not(seen))[0])  # an image of test
    distances = np.where(seen, 1 - directions @ directions[row], np.inf)
    found = near.nearest(images.pixels[row], 5)
    wanted = np.argsort(distances, kind="stable")[:5]
    assert [each.id for each in found] == images.ids[wanted].tolist()
    assert [each.label for each in found] == [CLASSES[images.labels[i]] for i in wanted]
    np.testing.assert_allclose([each.distance for each in found], distances[wanted], atol=2e-3)  # float16
    np.testing.assert_array_equal(found[0].image, images.pixels[wanted[0]])


def test_features_of_training_images_are_computed_once(trained, data, monkeypatch):
    predictor = Predictor(trained("flattened"))
    first = Neighbours(predictor, data)
    (entry,) = entries()
    assert (entry["key"]["model"], entry["rows"]) == (predictor.card.digest, len(first))
    asked = []
    real = predictor.features
    monkeypatch.setattr(predictor, "features", lambda blocks: real(asked.append(len(block)) or block for block in blocks))
    again = Neighbours(predictor, data)
    assert asked == [1]  # the blank image that tells how wide features are
    np.testing.assert_array_equal(again._table, first._table)


def test_data_that_training_has_not_seen_has_no_neighbours(trained, tmp_path):
    other = tinted_folders(tmp_path / "other", CLASSES, 3, start=700)
    with pytest.raises(UserError, match="has seen no image of"):
        Neighbours(Predictor(trained("frozen")), other)


def test_without_data_it_is_said_that_neighbours_need_it(trained, tmp_path, capsys):
    predictor = Predictor(write_toy(tmp_path / "toy"))
    assert near_training_images(predictor, tmp_path / "toy", None) is None
    assert "They need --data DATA" in capsys.readouterr().err
    assert len(near_training_images(Predictor(trained("frozen")), trained("frozen"), None)) > 0


def test_heat_by_occlusion_needs_no_map(tmp_path):
    explainer = Explainer(Predictor(write_toy(tmp_path / "toy")), "occlusion")
    image = np.full((8, 8, 3), 128, np.uint8)
    image[:2, :2] = (255, 0, 0)
    found = explainer(image)
    assert found.explained[0] == "red"
    assert found.heat.peak == (0.0625, 0.0625)
    assert found.record()["heat"] is None
    with pytest.raises(UserError, match="without its last feature map") as caught:
        Explainer(explainer.predictor)
    assert "--method occlusion" in caught.value.hint
    with pytest.raises(UserError, match="no such method"):
        Explainer(explainer.predictor, "lime")


# the command


@pytest.fixture
def run(monkeypatch, capsys):
    def call(*arguments):
        capsys.readouterr()  # what the training of a fixture said, where this is the first test to ask for it
        monkeypatch.setattr(sys, "argv", ["frostline", "explain", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return ended.value.code or 0, said.out, said.err

    return call


@pytest.fixture
def photos(tmp_path):
    for number, name in enumerate(("a/one.png", "b/one.png")):
        put(tmp_path / "photos" / name, encoded(drawn(number), "PNG"))
    return tmp_path / "photos"


def test_a_picture_and_a_record_of_each_image(trained, photos, tmp_path, run, figures):
    pytest.importorskip("matplotlib")
    code, out, _ = run(trained("frozen"), photos, "--out", tmp_path / "out", "--json")
    assert code == 0
    record = json.loads(out)
    assert record == json.loads((tmp_path / "out" / "explain.json").read_text())
    assert [row["picture"] for row in record["images"]] == ["one.png", "one-2.png"]
    for row in record["images"]:
        with Image.open(tmp_path / "out" / row["picture"]) as image:
            assert image.size[0] > 1000
        assert (row["method"], len(row["neighbours"])) == ("grad-cam", 5)
        assert sum(each["probability"] for each in row["top"]) == pytest.approx(1, abs=1e-5)
        assert np.shape(row["heat"]) == (2, 2)
    words = [text.get_text() for axes in figures[0].get_axes() for text in (axes.title, *axes.texts)]
    best = record["images"][0]["top"][0]
    assert f"what speaks for {best['class']}\nGrad-CAM; {best['class']} {100 * best['probability']:.1f} %" in words
    assert set(CLASSES) <= set(words)
    assert figures[0].get_suptitle().startswith(f"one.png: {best['class']} {100 * best['probability']:.1f} % · frozen ")


def test_a_class_by_name_and_what_is_printed(trained, photos, tmp_path, run):
    code, out, err = run(trained("frozen"), photos, "--class", "nut", "--neighbours", 0, "--out", tmp_path / "out")
    assert (code, err) == (0, "")
    assert "one.png: " in out
    assert f"Pictures and explain.json are in {tmp_path / 'out'}" in out
    record = json.loads((tmp_path / "out" / "explain.json").read_text())
    assert [row["explained"]["class"] for row in record["images"]] == ["nut", "nut"]
    assert [row["neighbours"] for row in record["images"]] == [[], []]


def test_no_such_class(trained, photos, tmp_path, run):
    code, _, err = run(trained("frozen"), photos, "--class", "nuts", "--out", tmp_path / "out")
    assert code == 2
    assert "The model has no class 'nuts'." in err
    assert "did you mean nut?" in err
    assert not (tmp_path / "out").exists()


def test_an_unreadable_image_is_a_row_with_its_reason(trained, photos, tmp_path, run):
    put(photos / "c.png", b"no image")
    code, out, _ = run(trained("flattened"), photos, "--neighbours", 0, "--out", tmp_path / "out")
    assert code == 1
    assert "c.png: not read: not an image: text" in out
    record = json.loads((tmp_path / "out" / "explain.json").read_text())
    assert ["error" in row for row in record["images"]] == [False, False, True]


def test_neither_images_nor_a_gallery(trained, photos, run, tmp_path):
    for arguments in ([trained("frozen")], [trained("frozen"), photos, "--gallery"]):
        code, _, err = run(*arguments)
        assert code == 2
        assert "Name images to explain, or --gallery" in err
    (tmp_path / "empty").mkdir()
    code, _, err = run(trained("frozen"), tmp_path / "empty", "--neighbours", 0)
    assert code == 2
    assert "There are no images there." in err


def test_options_of_a_gallery_without_one(trained, photos, tmp_path, run):
    for option in (["--split", "validation"], ["--count", "3"]):
        code, _, err = run(trained("frozen"), photos, *option, "--out", tmp_path / "out")
        assert code == 2
        assert "go with --gallery" in err
    assert not (tmp_path / "out").exists()


def test_a_place_that_cannot_be_written_is_said_before_anything_is_computed(trained, photos, tmp_path, run, monkeypatch):
    (tmp_path / "out").write_text("a file")
    folder = trained("frozen")
    monkeypatch.setattr("frostline.serve.predictor.Predictor.__init__", lambda *_: pytest.fail("a model was read"))
    code, _, err = run(folder, photos, "--out", tmp_path / "out")
    assert code == 2
    assert "out" in err
    assert (tmp_path / "out").read_text() == "a file"


def test_the_galleries_of_a_run(trained, tmp_path, run):
    code, out, _ = run(trained("flattened"), "--gallery", "--count", 3, "--out", tmp_path / "out")
    assert code == 0
    record = json.loads((tmp_path / "out" / "galleries.json").read_text())
    assert f"{record['wrong']} of {record['n']} test images of run are wrong." in out
    assert len(record["hits"]) == min(3, record["n"] - record["wrong"])


def test_without_matplotlib_the_record_is_written_and_it_is_said_once(trained, photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    record, failed = explain_files(Explainer(Predictor(trained("flattened"))), [photos], None, tmp_path / "out")
    assert failed == 0
    assert [row["picture"] for row in record["images"]] == [None, None]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["explain.json"]
    assert capsys.readouterr().err.count("Pictures need Matplotlib") == 1


def test_explaining_loads_no_torch(trained, photos, tmp_path):
    arguments = ["frostline", "explain", str(trained("frozen")), str(photos), "--out", str(tmp_path / "out")]
    code = f"""import atexit, sys; sys.argv = {arguments!r}
atexit.register(lambda: print(sorted(set(sys.modules) & {{"torch", "timm", "torchvision"}})))
import frostline.cli; frostline.cli.main()"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1] == "[]"
    assert (tmp_path / "out" / "explain.json").exists()


def test_a_picture_takes_the_place_of_nothing_but_itself(tmp_path):
    photo, other = (put(tmp_path / name, encoded(drawn(1), kind)) for name, kind in (("one.jpg", "JPEG"), ("one.png", "PNG")))
    before = other.read_bytes()
    explainer = Explainer(Predictor(write_toy(tmp_path / "toy" / "model")), "occlusion")
    for images, names in (([photo], ["one-2.png"]), ([photo, other], ["one-2.png", "one-3.png"]), ([photo], ["one-2.png"])):
        record, failed = explain_files(explainer, images, None, tmp_path)
        assert failed == 0
        assert [row["picture"] for row in record["images"]] == names
        assert other.read_bytes() == before


@pytest.mark.skipif(sys.platform == "darwin", reason="its file system takes Unicode alone")
def test_a_name_that_is_no_unicode_is_drawn(tmp_path):
    image = put(tmp_path / os.fsdecode(b"caf\xe9.png"), encoded(drawn(1), "PNG"))
    toy = Predictor(write_toy(tmp_path / "toy" / "model"))
    record, failed = explain_files(Explainer(toy, "occlusion"), [image], None, tmp_path / "out")
    assert (failed, len(list((tmp_path / "out").glob("*.png")))) == (0, 1)
    assert "\\udce9" in record["images"][0]["path"]
