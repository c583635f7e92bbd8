"""Which recipe is taken for somebody who names none, and the reason given."""

import json

import pytest

from frostline.choosing import check_same, choose, settings_from, settled
from frostline.config import Settings
from frostline.errors import UserError
from frostline.models import hub
from frostline.recipes import recipe


@pytest.fixture
def reachable(monkeypatch):
    """Say whether the hub can be reached, and which backbones' weights are kept; returns the backbones asked for."""
    asked = []

    def say(answer, kept=()):
        monkeypatch.setattr(hub, "at_hand", lambda name: asked.append(name) or answer)
        monkeypatch.setattr(hub, "kept", lambda name: name in (*kept, "cifar-fast"))
        return asked

    return say


def folder(path, architecture):
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"architecture": architecture, "pretrained_cfg": {}}))
    return path


def test_the_best_frozen_recipe_where_its_weights_can_be_had(reachable):
    asked = reachable(True)
    settings, reason = choose({})
    assert (settings.recipe, asked) == ("densenet169-frozen", ["densenet169"])
    assert "does best for its time" in reason


def test_the_best_scratch_recipe_without_weights(reachable):
    reachable(False)
    settings, reason = choose({})
    assert (settings.recipe, settings.kind) == ("fast-94", "scratch")
    assert "no pretrained weights can be had" in reason
    assert "it mirrors images" in reason


@pytest.mark.parametrize(
    ("kept", "name"), [(["vgg16", "mobilenetv2"], "mobilenetv2-frozen"), (["resnet50v2"], "resnet50v2-frozen")]
)
def test_weights_that_are_kept_are_taken_where_the_best_cannot_be_had(reachable, kept, name):
    reachable(False, kept)
    settings, reason = choose({})
    assert (settings.recipe, settings.backbone) == (name, name.removesuffix("-frozen"))
    assert reason.startswith(f"{name}, whose weights are kept here")


def test_without_a_network_nothing_is_asked(monkeypatch):
    """HF_HUB_OFFLINE=1 with an empty cache: frozen features could not be had, so none are chosen."""
    import urllib.request

    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: pytest.fail("the network was asked"))
    assert choose({})[0].recipe == "fast-94"


def test_weights_and_a_teacher_may_have_moved_and_nothing_else():
    begun = Settings(weights="/old/weights", teacher="/old/run")
    check_same(begun, begun.with_values(weights="/new/weights", teacher="/new/run"))
    for values in ({"weights": ""}, {"teacher": ""}, {"lr": 0.5}):
        with pytest.raises(UserError, match="settings it began with"):
            check_same(begun, begun.with_values(**values))


def test_digits_have_a_recipe_of_their_own(reachable):
    asked = reachable(True)
    settings, reason = choose({}, "digits")
    assert (settings.recipe, settings.mirror, settings.views, asked) == ("cnn-digits", False, 1, [])
    assert "must not be mirrored" in reason
    assert settings_from(None, None, [], {}, "digits") == settings


@pytest.mark.parametrize(
    ("architecture", "recipe", "backbone"),
    [
        ("mobilenetv2_100", "mobilenetv2-frozen", "mobilenetv2"),
        ("densenet169", "densenet169-frozen", "densenet169"),
        ("test_resnet", "test_resnet-frozen", "timm:test_resnet"),
    ],
)
def test_weights_given_decide(tmp_path, reachable, architecture, recipe, backbone):
    asked = reachable(False)
    settings, reason = choose({"weights": str(folder(tmp_path / "weights", architecture))})
    assert (settings.recipe, settings.backbone, settings.kind) == (recipe, backbone, "frozen")
    assert architecture in reason
    assert asked == []  # whoever gives weights needs no network


def test_a_bare_file_does_not_say_what_it_is_for(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="does not say which network"):
        choose({"weights": str(tmp_path / "w.safetensors")})


def test_the_choice_is_said(reachable, capsys):
    reachable(False)
    settings_from(None, None, [], {})
    assert capsys.readouterr().err.startswith("Recipe: fast-94, the best recipe from scratch, because")


def test_a_named_recipe_asks_for_nothing(reachable, capsys):
    asked = reachable(False)
    assert settings_from("cnn-small", None, [], {}).network == "cnn-small"
    assert (asked, capsys.readouterr().err) == ([], "")


def test_each_overrides_what_stands_before_it(tmp_path):
    (tmp_path / "s.toml").write_text("epochs = 3\nlr = 0.5\nseed = 1\n")
    settings = settings_from("cnn-small", tmp_path / "s.toml", ["lr=0.25", "seed=2"], {"seed": 3})
    assert settings == recipe("cnn-small").with_values(epochs=3, lr=0.25, seed=3)


def test_a_frozen_recipe_that_trains_above_the_line_trains_as_the_finetuning_ones(capsys):
    settings = settings_from("mobilenetv2-frozen", None, ["epochs=2"], {"train_from": "last:50"})
    like = recipe("mobilenetv2-finetune")
    assert "as the fine-tuning recipes are" in capsys.readouterr().err
    assert (settings.recipe, settings.epochs, settings.train_from) == ("mobilenetv2-frozen", 2, "last:50")
    for name in ("optimizer", "lr", "schedule", "weight_decay", "batch_size", "views"):
        assert getattr(settings, name) == getattr(like, name)


@pytest.mark.parametrize(
    "values", [{"train_from": "layer4"}, {"weights": "somewhere"}, {"backbone": "vgg16"}, {"head": "dense-b"}, {"kind": "frozen"}]
)
def test_a_scratch_network_has_nothing_to_keep(values):
    assignments = [f"{name}={value}" for name, value in values.items()]
    for given in ((None, [], values), (None, assignments, {})):
        with pytest.raises(UserError, match="from random weights") as caught:
            settings_from("cnn-vgg", *given)
        assert caught.value.received == assignments[0]
        assert "--recipe mobilenetv2-frozen" in caught.value.hint
    with pytest.raises(UserError, match="from random weights"):
        settled("digits", recipe("cnn-digits"), values)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("fast-94", "noise=0.1"),
        ("fast-94", "train_batchnorm=true"),
        ("cnn-vgg", "cached_views=4"),
        ("mobilenetv2-finetune", "alternate=true"),
        ("mobilenetv2-finetune", "grow_from=20"),
    ],
)
def test_what_would_do_nothing_in_this_kind_of_training_is_refused(name, text):
    with pytest.raises(UserError, match="pretrained") as caught:
        settings_from(name, None, [text], {})
    assert text in str(caught.value)


@pytest.mark.parametrize(("name", "text"), [("fast-94", "noise=0"), ("mobilenetv2-finetune", "alternate=false")])
def test_what_does_nothing_at_its_default_may_be_given(name, text):
    assert settings_from(name, None, [text], {}) == recipe(name)


def test_settings_of_one_s_own_may_become_the_other_kind():
    made = settled("digits", Settings(), {"kind": "scratch", "network": "cnn-small"})
    assert (made.kind, made.network) == ("scratch", "cnn-small")
    with pytest.raises(UserError, match="begins from a pretrained network"):
        settled("digits", Settings(), {"network": "cnn-small"})


@pytest.mark.parametrize("text", ["network=cnn-small", "kind=scratch"])
def test_a_pretrained_network_is_not_built_anew(text):
    with pytest.raises(UserError, match="begins from a pretrained network") as caught:
        settings_from("mobilenetv2-frozen", None, [text], {})
    assert (caught.value.received, "--recipe" in caught.value.hint) == (text, True)


def test_what_is_empty_asks_for_nothing():
    assert settings_from("cnn-small", None, ["weights="], {}) == recipe("cnn-small")


@pytest.mark.parametrize(
    ("text", "name", "backbone"),
    [
        ("backbone=mobilenetv2", "mobilenetv2-frozen", "mobilenetv2"),
        ("backbone=cifar-fast", "cifar-fast-frozen", "cifar-fast"),
        ("backbone=timm:mobilenetv2_100.ra_in1k", "mobilenetv2-frozen", "timm:mobilenetv2_100.ra_in1k"),
        ("backbone=timm:test_resnet", "test_resnet-frozen", "timm:test_resnet"),
        ("backbone=vit-small", "vit-small-frozen", "vit-small"),
        ("head=dense-b", "densenet169-frozen", "densenet169"),
        ("kind=frozen", "densenet169-frozen", "densenet169"),
    ],
)
@pytest.mark.parametrize("data", ["digits", "photos"])
def test_a_pretrained_network_that_is_asked_for_is_taken_whatever_the_data(reachable, capsys, text, name, backbone, data):
    reachable(False)
    settings = settings_from(None, None, [text], {}, data)
    assert (settings.kind, settings.recipe, settings.backbone) == ("frozen", name, backbone)
    assert capsys.readouterr().err.startswith("Recipe: ")


def test_a_head_goes_onto_the_best_network_whose_weights_can_be_had(reachable):
    reachable(False, ["mobilenetv2"])
    settings = settings_from(None, None, ["head=dense-b"], {}, "photos")
    assert (settings.recipe, settings.head) == ("mobilenetv2-frozen", "dense-b")
    reachable(True, ["mobilenetv2"])
    assert settings_from(None, None, ["head=dense-b"], {}, "photos").recipe == "densenet169-frozen"


@pytest.mark.parametrize(
    ("text", "data", "name", "network"),
    [
        ("network=cnn-small", "photos", "cnn-small", "cnn-small"),
        ("network=fast-large", "photos", "fast-96", "fast-large"),
        ("network=cnn-small", "digits", "cnn-digits", "cnn-small"),
        ("kind=scratch", "photos", "fast-94", "fast-small"),
        ("kind=scratch", "digits", "cnn-digits", "cnn-vgg"),
    ],
)
def test_a_network_from_scratch_that_is_asked_for_is_taken(reachable, text, data, name, network):
    asked = reachable(True)
    settings = settings_from(None, None, [text], {}, data)
    assert (settings.kind, settings.recipe, settings.network, asked) == ("scratch", name, network, [])


@pytest.mark.slow
def test_weights_are_seen_wherever_they_are_given(tmp_path, reachable):
    reachable(False)
    weights = str(folder(tmp_path / "weights", "test_resnet"))
    (tmp_path / "s.toml").write_text(f"weights = {json.dumps(weights)}\n")
    ways = [(None, [], {"weights": weights}), (None, [f"weights={weights}"], {}), (tmp_path / "s.toml", [], {})]
    found = [settings_from(None, *way, "photos") for way in ways]
    assert {(settings.recipe, settings.backbone, settings.weights) for settings in found} == {
        ("test_resnet-frozen", "timm:test_resnet", weights)
    }


def test_a_bare_file_of_weights_goes_with_the_backbone_given(tmp_path, reachable):
    reachable(False)
    (tmp_path / "w.safetensors").write_bytes(b"")
    settings = settings_from(None, None, ["backbone=vgg16"], {"weights": str(tmp_path / "w.safetensors")}, "photos")
    assert (settings.recipe, settings.weights) == ("vgg16-frozen", str(tmp_path / "w.safetensors"))


def test_no_network_is_both_pretrained_and_not():
    with pytest.raises(UserError, match="not from both") as caught:
        settings_from(None, None, ["kind=scratch", "backbone=vgg16"], {}, "photos")
    assert caught.value.hint == "leave out backbone=vgg16, or leave out kind=scratch"


def test_weights_that_name_no_network_are_said(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="does not say which network"):
        choose({"weights": str(tmp_path)})


def test_a_recipe_is_named_by_every_way_of_setting(tmp_path, reachable):
    asked = reachable(True)
    (tmp_path / "s.toml").write_text('recipe = "cnn-small"\nseed = 2\n')
    wanted = recipe("cnn-small").with_values(seed=2)
    assert settings_from(None, None, ["recipe=cnn-small"], {"seed": 2}) == wanted
    assert settings_from(None, tmp_path / "s.toml", [], {}) == wanted
    assert settled("photos", None, {"recipe": "cnn-small", "seed": 2}) == wanted
    assert settled("photos", "cnn-small", {"recipe": "cnn-small", "seed": 2}) == wanted
    assert asked == []  # nothing was to be chosen


def test_the_recipe_of_the_option_goes_before_those_of_set_and_of_the_file(tmp_path):
    (tmp_path / "s.toml").write_text('recipe = "cnn-small"\n')
    assert settings_from("cnn-digits", tmp_path / "s.toml", [], {}) == recipe("cnn-digits")
    assert settings_from(None, tmp_path / "s.toml", ["recipe=cnn-digits"], {}) == recipe("cnn-digits")


@pytest.mark.parametrize("begun", [None, "cnn-small", Settings(recipe="mine")])
def test_a_recipe_that_there_is_not_is_no_name_for_another(begun):
    with pytest.raises(UserError, match=r"no recipe 'cnn-smal'|Two recipes") as caught:
        settled("digits", begun, {"recipe": "cnn-smal"})
    assert "cnn-small" in caught.value.hint or "recipe=cnn-smal" in caught.value.received
    with pytest.raises(UserError, match="no recipe 'nonsense'"):
        settings_from(None, None, ["recipe=nonsense"], {})
