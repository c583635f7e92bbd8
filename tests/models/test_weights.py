"""Pretrained weights are loaded whole or not at all, and nobody is left guessing what is missing."""

import json
import shutil
import urllib.request

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from timm.data import create_transform
from torch import nn

from frostline.config import Settings
from frostline.convert import FromUint8
from frostline.drawn import drawn_images
from frostline.errors import UserError
from frostline.frozen import _loaded
from frostline.models.backbones import BACKBONES
from frostline.models.hub import at_hand, kept
from frostline.models.weights import _fill, architecture_of, check_there, load
from frostline.preprocess import stored_image

NAME, SIZE = "timm:test_resnet", (64, 64)


@pytest.fixture
def folder(tiny_weights, tmp_path):
    """A copy to change."""
    return shutil.copytree(tiny_weights, tmp_path / "weights")


def rewrite(folder, change):
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors")
    return str(folder)


def reconfigure(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    return str(folder)


def features(loaded):
    with torch.inference_mode():
        return loaded.network(torch.from_numpy(drawn_images(2, *SIZE)).permute(0, 3, 1, 2).float())[0].numpy()


# a folder


def test_a_folder_in_the_hubs_layout(tiny_weights):
    loaded = load(NAME, SIZE, str(tiny_weights))
    assert (loaded.mean, loaded.std, loaded.kernel, loaded.crop) == ((0.5, 0.4, 0.3), (0.2, 0.25, 0.3), "bicubic", 0.9)
    assert loaded.origin == "test_resnet.drawn (cc0-1.0)"
    assert (loaded.name, loaded.notes, loaded.model_args) == (NAME, (), {})
    assert loaded.parameters == 372_688
    assert not loaded.network.training
    assert not any(parameter.requires_grad for parameter in loaded.network.parameters())
    given = load_file(tiny_weights / "model.safetensors")
    for name, value in loaded.network.network.state_dict().items():
        torch.testing.assert_close(value, given[name], rtol=0, atol=0)


def seen(folder, pixels):
    """What the network is given of a photo, by the product."""
    _, preprocess = _loaded(Settings(backbone=NAME, weights=folder, image_size=96, fit="crop"), None)
    stored = torch.from_numpy(stored_image(pixels, preprocess).copy())
    return FromUint8(nn.Identity(), preprocess)(stored[None])[0]


@pytest.mark.parametrize("name", BACKBONES)
def test_a_photo_is_seen_as_timm_shows_it(name, folder):
    """timm's own preprocessing of each backbone's weights, value by value where nothing is cut off."""
    config = timm.get_pretrained_cfg(BACKBONES[name].timm).to_dict()
    given = {key: config[key] for key in ("mean", "std", "interpolation", "crop_pct")}
    timms = {key: given[key] for key in ("mean", "std", "interpolation")}

    def shown(pixels, crop):
        return create_transform((3, 96, 96), crop_pct=crop, is_training=False, **timms)(Image.fromarray(pixels))

    square, wide = drawn_images(1, 200, 200, seed=1)[0], drawn_images(1, 200, 330, seed=2)[0]
    whole = reconfigure(folder, pretrained_cfg={**given, "crop_pct": 1.0})
    torch.testing.assert_close(seen(whole, square), shown(square, 1.0), rtol=0, atol=1e-5)
    cut = reconfigure(folder, pretrained_cfg=given)
    # timm reduces, then cuts; we cut, then reduce: a pixel's place may differ by half of one
    assert (seen(cut, wide) - shown(wide, given["crop_pct"])).abs().mean() < 0.05


def test_golden_values_of_timms_imagenet_preprocessing(folder):
    cfg = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "interpolation": "bicubic", "crop_pct": 0.875}
    found = seen(reconfigure(folder, pretrained_cfg=cfg), np.full((120, 150, 3), (255, 0, 128), np.uint8))
    wanted = torch.tensor([2.2489083, -2.0357143, 0.4264924])  # (1 − .485) / .229, −.456 / .224, (128/255 − .406) / .225
    torch.testing.assert_close(found, wanted[:, None, None].expand(3, 96, 96), rtol=0, atol=1e-6)


def test_loading_twice_gives_the_same(tiny_weights):
    first, second = load(NAME, SIZE, str(tiny_weights)), load(NAME, SIZE, str(tiny_weights))
    assert first.digest == second.digest
    np.testing.assert_array_equal(features(first), features(second))


def test_a_home_relative_path(tiny_weights, monkeypatch):
    monkeypatch.setenv("HOME", str(tiny_weights.parent))
    assert load(NAME, SIZE, f"~/{tiny_weights.name}").crop == 0.9


def test_arguments_of_the_card_build_the_network(folder):
    plain = load(NAME, SIZE, str(folder))
    changed = load(NAME, SIZE, reconfigure(folder, model_args={"output_stride": 16, "num_classes": 1000}))
    assert changed.digest != plain.digest
    assert np.abs(features(changed) - features(plain)).max() > 1e-3
    with pytest.raises(UserError, match="cannot build 'test_resnet' with these arguments"):
        load(NAME, SIZE, reconfigure(folder, model_args={"wings": 2}))
    with pytest.raises(UserError, match="cannot build 'test_resnet' with these arguments"):
        load(NAME, SIZE, reconfigure(folder, model_args={"output_stride": 7}))


def test_the_hubs_older_form_gives_the_same(folder):
    newer = load(NAME, SIZE, str(folder))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config.pop("pretrained_cfg"), **config}))
    older = load(NAME, SIZE, str(folder))
    for name in ("mean", "std", "kernel", "crop", "digest", "origin", "notes"):
        assert getattr(older, name) == getattr(newer, name)


@pytest.mark.parametrize("values", [{"pretrained_cfg": None}, {"model_args": None}])
def test_nulls_in_the_card_say_nothing(folder, values):
    loaded = load(NAME, SIZE, reconfigure(folder, **values))
    assert loaded.model_args == {}
    assert any("timm's defaults" in note for note in loaded.notes) == ("pretrained_cfg" in values)


def test_a_mean_of_two_values_is_named(folder):
    with pytest.raises(UserError, match="'mean' in") as caught:
        load(NAME, SIZE, reconfigure(folder, pretrained_cfg={"mean": [0.5, 0.5]}))
    assert (caught.value.expected, caught.value.received) == ("three finite numbers", "[0.5, 0.5]")


def test_what_the_card_does_not_say_is_timms_default_and_that_is_said(folder):
    loaded = load(NAME, SIZE, reconfigure(folder, pretrained_cfg={}, license=None))
    default = timm.get_pretrained_cfg("test_resnet")
    assert (loaded.mean, loaded.std, loaded.kernel) == (default.mean, default.std, default.interpolation)
    assert "licence not stated" in loaded.origin
    assert "does not give mean, std, interpolation, crop_pct" in loaded.notes[0]


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "config.json").unlink(),
        lambda folder: (folder / "config.json").write_text("{"),
        lambda folder: (folder / "config.json").write_text("[]"),
        lambda folder: (folder / "config.json").write_bytes(b"\xff\xfe"),
        lambda folder: (folder / "model.safetensors").unlink(),
        lambda folder: (folder / "model.safetensors").write_bytes(b""),
        lambda folder: (folder / "model.safetensors").write_bytes(b"\x80\x04 a pickle"),
        lambda folder: (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-5]),
    ],
)
def test_a_damaged_folder_is_named(folder, damage):
    damage(folder)
    with pytest.raises(UserError) as caught:
        load(NAME, SIZE, str(folder))
    assert str(folder) in caught.value.message


def test_weights_of_another_network(folder):
    with pytest.raises(UserError, match="for another network") as caught:
        load("resnet50", SIZE, str(folder))
    assert (caught.value.expected, caught.value.received) == ("resnet50", "test_resnet")
    assert "timm:test_resnet" in caught.value.hint
    with pytest.raises(UserError, match="for another network"):
        load(NAME, SIZE, reconfigure(folder, architecture=None))


# names and shapes


def test_every_difference_is_listed(folder):
    def change(state):
        del state["conv1.0.weight"], state["layer1.0.bn1.running_var"]
        state["extra.weight"] = torch.zeros(3)
        state["another.bias"] = torch.zeros(1)
        state["bn1.bias"] = torch.zeros(7)

    with pytest.raises(UserError, match="do not fit") as caught:
        load(NAME, SIZE, rewrite(folder, change))
    assert caught.value.received.split("\n    ") == [
        "missing (2): conv1.0.weight, layer1.0.bn1.running_var",
        "unexpected (2): another.bias, extra.weight",
        f"of another shape (1): bn1.bias: (7,) instead of {tuple(load_file(folder / 'model.safetensors')['bn1.weight'].shape)}",
    ]
    assert "--set excuse=" in caught.value.hint


def test_what_is_excused_may_differ_and_is_said(folder):
    def change(state):
        del state["bn1.bias"]
        state["extra.weight"] = torch.zeros(3)

    rewrite(folder, change)
    with pytest.raises(UserError, match="do not fit"):
        load(NAME, SIZE, str(folder), excuse=["extra.weight"])
    loaded = load(NAME, SIZE, str(folder), excuse=["extra.weight", "bn1.bias"])
    assert loaded.notes == (
        "Weights that were not given and are random numbers, as excused: bn1.bias.",
        "Weights given that the network lacks, as excused: extra.weight.",
    )


def test_what_is_excused_from_being_there_is_the_same_every_time(folder):
    rewrite(folder, lambda state: state.pop("conv1.0.weight"))
    one, two = (load(NAME, SIZE, str(folder), excuse=["conv1.0.weight"]) for _ in range(2))
    assert one.digest == two.digest


def test_an_excuse_that_was_not_needed_is_not_said(tiny_weights):
    assert load(NAME, SIZE, str(tiny_weights), excuse=["bn1.bias", "nothing"]).notes == ()


def test_a_wrong_shape_is_not_excused(folder):
    with pytest.raises(UserError, match="do not fit"):
        load(NAME, SIZE, rewrite(folder, lambda state: state.update({"bn1.bias": torch.zeros(7)})), excuse=["bn1.bias"])


def test_the_classifier_is_dropped_and_counters_may_lack(folder):
    plain = load(NAME, SIZE, str(folder))

    def change(state):
        state["fc.weight"], state["fc.bias"] = torch.zeros(1000, 96), torch.zeros(1000)
        for key in [key for key in state if key.endswith("num_batches_tracked")]:
            del state[key]

    loaded = load(NAME, SIZE, rewrite(folder, change))
    assert (loaded.digest, loaded.notes) == (plain.digest, ())


def test_the_digest_is_of_values_not_of_their_storage(folder, tmp_path):
    def halve(state):
        for key, value in state.items():
            state[key] = value.half().float() if value.is_floating_point() else value

    wanted = load(NAME, SIZE, rewrite(folder, halve)).digest
    state = load_file(folder / "model.safetensors")
    stored = {key: state[key].half() if state[key].is_floating_point() else state[key] for key in reversed(state)}
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    assert load(NAME, SIZE, str(folder)).digest == wanted
    assert load(NAME, SIZE, rewrite(folder, lambda state: state["bn1.bias"].add_(1))).digest != wanted


# a bare file


def test_a_bare_file_says_what_is_assumed(tiny_weights, tmp_path):
    path = shutil.copy(tiny_weights / "model.safetensors", tmp_path / "mine.safetensors")
    loaded, default = load(NAME, SIZE, str(path)), timm.get_pretrained_cfg("test_resnet")
    assert (loaded.mean, loaded.std, loaded.kernel) == (default.mean, default.std, default.interpolation)
    assert "mine.safetensors has no config.json" in loaded.notes[0]
    assert loaded.origin == "mine.safetensors (licence not stated)"
    assert loaded.digest == load(NAME, SIZE, str(tiny_weights)).digest


@pytest.mark.parametrize(("name", "received"), [("w.bin", "another kind"), ("w.pth", "another kind"), ("none", "nothing is there")])
def test_other_files_are_refused_unread(tmp_path, name, received):
    if name != "none":
        (tmp_path / name).write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(UserError, match="Cannot take weights") as caught:
        load(NAME, SIZE, str(tmp_path / name))
    assert received in caught.value.received
    assert "safetensors" in caught.value.expected


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="Cannot read weights"):
        load(NAME, SIZE, str(tmp_path / "none.safetensors"))


@pytest.mark.parametrize("place", ["none", "none.safetensors", "w.bin", "torn.safetensors", "folder", "other"])
def test_what_cannot_be_loaded_is_known_beforehand(folder, tmp_path, place):
    check_there(NAME, str(folder))
    check_there(NAME, str(folder / "model.safetensors"))
    (tmp_path / "w.bin").write_bytes(b"\x80\x04K\x01.")
    (tmp_path / "torn.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:1000])
    for name, architecture in (("folder", "test_resnet"), ("other", "resnet50")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({"architecture": architecture}))
    with pytest.raises(UserError) as loaded:
        load(NAME, SIZE, str(tmp_path / place))
    with pytest.raises(UserError) as checked:
        check_there(NAME, str(tmp_path / place))
    assert checked.value.message == loaded.value.message


def test_the_network_inside_takes_no_weights(folder):
    check_there("cifar-fast")
    with pytest.raises(UserError, match="comes with its weights"):
        check_there("cifar-fast", str(folder))


# the hub


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No network and an empty hub cache; counts what is asked."""
    import huggingface_hub

    asked = []

    def refused(*given, **options):
        asked.append(given)
        raise OSError("Network is unreachable")

    def absent(repository, file, local_files_only=False):
        assert local_files_only, "the hub client's own retries take a minute"
        raise OSError("not in the cache")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(urllib.request, "urlopen", refused)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", absent)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    return asked


def test_without_a_network_it_says_how_to_give_a_folder(offline):
    with pytest.raises(UserError, match="could not be had from timm's hub") as caught:
        load("densenet169", SIZE)
    assert "'densenet169' (timm/densenet169.tv_in1k)" in caught.value.message
    assert "Network is unreachable" in caught.value.received
    assert "--weights FOLDER" in caught.value.hint
    assert "config.json" in caught.value.hint
    assert len(offline) == 1
    assert not at_hand("densenet169")


def test_told_to_stay_offline_it_asks_nobody(offline, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert not at_hand("densenet169")
    with pytest.raises(UserError, match="could not be had from timm's hub") as caught:
        load("densenet169", SIZE)
    assert "HF_HUB_OFFLINE" in caught.value.received
    assert offline == []


def test_weights_are_kept_where_both_files_are(offline, monkeypatch):
    import huggingface_hub

    there = {("timm/mobilenetv2_100.ra_in1k", file) for file in ("config.json", "model.safetensors")}
    there.add(("timm/densenet169.tv_in1k", "config.json"))
    found = lambda repository, file: "there" if (repository, file) in there else None  # noqa: E731
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", found)
    assert [kept(name) for name in ("mobilenetv2", "densenet169", "cifar-fast")] == [True, False, True]
    assert [at_hand(name) for name in ("mobilenetv2", "densenet169")] == [True, False]


def test_what_the_hub_has_is_loaded_like_a_folder(offline, monkeypatch, tiny_weights):
    import huggingface_hub

    asked = []

    def kept(repository, file, local_files_only=False):
        asked.append((repository, file, local_files_only))
        return str(tiny_weights / file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", kept)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: "there")
    loaded = load(f"{NAME}.r160_in1k", SIZE)
    assert asked == [("timm/test_resnet.r160_in1k", file, True) for file in ("config.json", "model.safetensors")]
    assert loaded.digest == load(NAME, SIZE, str(tiny_weights)).digest
    assert at_hand(f"{NAME}.r160_in1k")
    assert offline == []


def test_a_network_without_weights_on_the_hub(offline):
    without = next(name for name in timm.list_models() if not getattr(timm.get_pretrained_cfg(name), "hf_hub_id", None))
    with pytest.raises(UserError, match=f"no weights for '{without}'"):
        load(f"timm:{without}", SIZE)
    assert offline == []


def test_the_network_that_weights_are_for(tiny_weights, folder):
    assert architecture_of(str(tiny_weights)) == "test_resnet"
    assert architecture_of(reconfigure(folder, architecture="test_resnet.r160_in1k")) == "test_resnet"
    with pytest.raises(UserError, match="does not say which network"):
        architecture_of(str(tiny_weights / "model.safetensors"))
    with pytest.raises(UserError, match="hub layout"):
        architecture_of(str(tiny_weights.parent))


class _WithDenseTop(nn.Module):
    """As timm's VGG is."""

    def __init__(self):
        super().__init__()
        self.features = nn.Linear(2, 3)
        self.pre_logits = nn.Sequential(nn.Linear(3, 4096))


@pytest.mark.parametrize("top", [True, False])
def test_a_dense_top_that_is_left_out_may_be_missing(tmp_path, top):
    network = _WithDenseTop()
    wanted = {key: value.clone() for key, value in network.state_dict().items() if top or key.startswith("features")}
    save_file(wanted, tmp_path / "weights.safetensors")
    fresh = _WithDenseTop()
    assert _fill(fresh, tmp_path / "weights.safetensors", "", ()) == []
    assert torch.equal(fresh.features.weight, wanted["features.weight"])


def test_weights_for_another_size_are_not_excused(tmp_path):
    save_file({"weight": torch.zeros(3, 4), "bias": torch.zeros(3)}, tmp_path / "weights.safetensors")
    with pytest.raises(UserError, match="do not fit") as caught:
        _fill(nn.Linear(5, 3), tmp_path / "weights.safetensors", "", ())
    assert "leave image_size out" in caught.value.hint
