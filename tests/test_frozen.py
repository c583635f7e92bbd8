"""Below the frost line: the network is compiled once and kept, and its key knows everything that its features depend on."""

import copy
import json
import shutil

import numpy as np
import pytest
import torch

from frostline import convert, engine, frozen
from frostline.convert import FromUint8
from frostline.data.imageset import ImageSet
from frostline.data.rows import pixel_digests
from frostline.drawn import drawn_images
from frostline.environment import has_bf16
from frostline.errors import UserError
from frostline.feature_cache import from_stored
from frostline.frozen import freeze
from frostline.vino import ov

STORED = (20, 24)


@pytest.fixture
def settings(tiny):
    return tiny


@pytest.fixture(scope="module")
def kept(tiny, tmp_path_factory):
    """The graphs folder that a first call leaves."""
    home = tmp_path_factory.mktemp("kept")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FROSTLINE_HOME", str(home))
        freeze(tiny, STORED)
    return home / "graphs"


@pytest.fixture
def graphs(kept, cache_folder):
    shutil.copytree(kept, cache_folder / "graphs")
    return cache_folder / "graphs"


@pytest.fixture
def no_conversion(monkeypatch):
    def refuse(*_):
        raise AssertionError("converted although the graph is kept")

    monkeypatch.setattr(frozen, "converted", refuse)


def image_set(n=5):
    pixels = drawn_images(n, *STORED)
    return ImageSet(
        "train", ("a", "b"), np.zeros(n, np.int64), np.array([str(i) for i in range(n)]), pixel_digests(pixels), pixels=pixels
    )


def by_torch(made, pixels):
    with torch.inference_mode():
        return FromUint8(made.loaded.network, made.preprocess).eval()(torch.from_numpy(pixels.copy()))[0].numpy()


def test_features_are_torchs_of_the_image_and_its_mirror(settings, graphs):
    made, images = freeze(settings, STORED), image_set()
    (block,) = made.extract(images, np.arange(5), made.caches(range(2), "float32"))
    found = from_stored(block.features, "float32")
    assert found.shape == (5, 2, made.width)
    np.testing.assert_allclose(found[:, 0], by_torch(made, images.pixels), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found[:, 1], by_torch(made, images.pixels[:, :, ::-1]), rtol=1e-3, atol=1e-4)


def test_what_it_is(settings, graphs):
    made = freeze(settings, STORED)
    assert (made.width, made.precision, made.exact_layers) == (96, "f32", 0)
    assert (made.preprocess.size, made.preprocess.stored, made.preprocess.kernel) == ((48, 48), STORED, "bicubic")
    assert (made.preprocess.mean, made.preprocess.crop, made.preprocess.fit) == ((0.5, 0.4, 0.3), 0.9, "squash")
    assert "f32" in made.notes[0]


def test_photos_are_stored_at_the_size_that_is_seen(settings, monkeypatch):
    monkeypatch.setattr(frozen, "_compiled", lambda loaded, preprocess, precision, first: preprocess)
    assert freeze(settings.with_values(fit="pad"), None).stored == (48, 48)
    default = settings.with_values(image_size=0)
    assert (freeze(default, None).size, freeze(default, (32, 32)).size) == ((160, 160), (160, 160))


def test_a_kept_graph_is_not_converted_again(settings, graphs, no_conversion):
    images = drawn_images(3, *STORED)
    np.testing.assert_allclose(
        freeze(settings, STORED).engine.features(images), by_torch(freeze(settings, STORED), images), rtol=1e-3, atol=1e-4
    )


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: flip(folder / "graph.bin"),
        lambda folder: flip(folder / "graph.xml"),
        lambda folder: (folder / "graph.bin").unlink(),
        lambda folder: (folder / "graph.json").unlink(),
        lambda folder: (folder / "graph.json").write_text("{"),
        lambda folder: (folder / "graph.json").write_text("{}"),
        lambda folder: (folder / "graph.json").write_text("[]"),
    ],
)
def test_a_damaged_graph_is_made_anew(settings, graphs, damage, monkeypatch):
    (folder,) = graphs.iterdir()
    whole = engine.read_graph(folder / "graph.xml").clone()
    damage(folder)
    monkeypatch.setattr(frozen, "converted", lambda *_: (whole, 0))
    made, images = freeze(settings, STORED), drawn_images(3, *STORED)
    np.testing.assert_allclose(made.engine.features(images), by_torch(made, images), rtol=1e-3, atol=1e-4)
    described = json.loads((folder / "graph.json").read_text())
    assert set(described["files"]) == {"graph.xml", "graph.bin"}


@pytest.mark.parametrize(
    "change",
    [
        {"mean": (0.1, 0.2, 0.3)},
        {"kernel": "bilinear"},
        {"digest": "0" * 32},
    ],
)
def test_the_key_knows_the_weights_and_their_preprocessing(settings, graphs, change, monkeypatch):
    from dataclasses import replace

    from frostline.models import weights

    plain, load = freeze(settings, STORED), weights.load
    monkeypatch.setattr(weights, "load", lambda *given: replace(load(*given), **change))
    assert _folder(freeze(settings, STORED)) != _folder(plain)


def _folder(made, dtype="float16", view=0):
    return made.caches(range(2), dtype)[view].folder


@pytest.mark.slow
def test_the_key_knows_the_rest(settings, graphs, monkeypatch):
    plain = freeze(settings, STORED)
    folders = {_folder(plain), _folder(plain, "bfloat16"), _folder(plain, view=1), _folder(freeze(settings, (24, 20)))}
    others = {"DECODER_VERSION": "pillow-0/0", "CONVERSION_VERSION": 0, "version": lambda package: f"{package} of tomorrow"}
    for place, changed in ((frozen, others), (engine, {"version": lambda: "2099.1"})):
        for name, value in changed.items():
            with monkeypatch.context() as patch:
                patch.setattr(place, name, value)
                folders.add(_folder(freeze(settings, STORED)))
    assert len(folders) == 8


@pytest.mark.skipif(not has_bf16(), reason="this processor has no bf16")
def test_bf16_is_near_and_has_rows_of_its_own(settings, graphs):
    made, exact = freeze(settings.with_values(precision="bf16"), STORED), freeze(settings, STORED)
    images = drawn_images(8, *STORED)
    difference = made.engine.features(images) - exact.engine.features(images)
    assert np.linalg.norm(difference) < 0.05 * np.linalg.norm(exact.engine.features(images))
    assert _folder(made) != _folder(exact)
    assert made.key["exact_layers"] == made.exact_layers


def test_what_loading_has_to_say_is_passed_on(settings, graphs, tmp_path):
    shutil.copytree(settings.weights, tmp_path / "weights")
    (tmp_path / "weights" / "config.json").unlink()
    bare = freeze(settings.with_values(weights=str(tmp_path / "weights" / "model.safetensors")), STORED)
    assert any("no config.json beside it" in note for note in bare.notes)


def test_a_compiled_graph_that_computes_something_else_is_not_used(settings, monkeypatch):
    honest = convert.convert_network

    def wrong(network, preprocess):
        other = copy.deepcopy(network)
        for parameter in other.parameters():
            parameter.mul_(1.1)
        return honest(other, preprocess)

    monkeypatch.setattr(convert, "convert_network", wrong)
    made = freeze(settings, STORED)
    assert made.graph is None
    assert "the compiled graph differs from torch by" in made.notes[0]


@pytest.mark.parametrize("error", [RuntimeError("Can't open bin file for writing"), OSError(28, "No space left on device")])
def test_a_graph_that_cannot_be_kept_is_no_network_that_does_not_compile(settings, graphs, cache_folder, monkeypatch, error):
    (folder,) = graphs.iterdir()
    whole = engine.read_graph(folder / "graph.xml").clone()
    shutil.rmtree(folder)

    def refuse(*_):
        raise error

    monkeypatch.setattr(frozen, "converted", lambda *_: (whole, 0))
    monkeypatch.setattr(engine, "save_graph", refuse)
    with pytest.raises(OSError, match=str(error.args[-1])) as caught:
        freeze(settings, STORED)
    assert caught.value.filename == str(folder)


def test_where_a_network_does_not_compile_torch_runs_it_and_says_so(settings, monkeypatch, capsys):
    def refuse(*_given, **_options):
        raise ov.frontend.OpConversionFailure("No conversion rule for aten::strange\nmore")

    monkeypatch.setattr(convert.ov, "convert_model", refuse)
    made, images = freeze(settings, STORED), image_set()
    assert "could not be compiled (OpConversionFailure: No conversion rule for aten::strange more)" in made.notes[0]
    assert "torch runs it" in capsys.readouterr().err
    assert made.graph is None
    assert made.key["engine"].startswith("torch ")
    (block,) = made.extract(images, np.arange(5), made.caches(range(2), "float32"))
    np.testing.assert_allclose(block.features[:, 0], by_torch(made, images.pixels), rtol=1e-3, atol=1e-4)


def test_a_network_that_does_not_run_at_all_is_said(settings, monkeypatch):
    """Images too small for it, or arguments with which it is none: torch cannot run it either."""
    from frostline.models.backbones import FeatureNetwork

    def fails(self, x):
        raise RuntimeError("Output size is too small\nmore")

    monkeypatch.setattr(FeatureNetwork, "pooled", fails)
    monkeypatch.setattr(convert.ov, "convert_model", fails)
    with pytest.raises(UserError, match="gives no features of images of") as caught:
        freeze(settings, STORED)
    assert caught.value.received == "Output size is too small"
