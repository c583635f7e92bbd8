"""Which recipe is taken for somebody who names none, and the reason given."""

import json

import pytest

from frostline.choosing import choose, settings_from
from frostline.errors import UserError
from frostline.models import weights
from frostline.recipes import recipe


@pytest.fixture
def reachable(monkeypatch):
    """Say whether the hub can be reached; returns the backbones asked for."""
    asked = []

    def say(answer):
        monkeypatch.setattr(weights, "at_hand", lambda name: asked.append(name) or answer)
        return asked

    return say


def folder(path, architecture):
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"architecture": architecture, "pretrained_cfg": {}}))
    return path


def test_the_best_frozen_recipe_where_its_weights_can_be_had(reachable):
    asked = reachable(True)
    settings, reason = choose("")
    assert (settings.recipe, asked) == ("densenet169-frozen", ["densenet169"])
    assert "does best for its time" in reason


def test_the_best_scratch_recipe_without_weights(reachable):
    reachable(False)
    settings, reason = choose("")
    assert (settings.recipe, settings.kind) == ("cnn-vgg", "scratch")
    assert "no pretrained weights can be had" in reason


def test_digits_have_a_recipe_of_their_own(reachable):
    asked = reachable(True)
    settings, reason = choose("", "digits")
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
    settings, reason = choose(str(folder(tmp_path / "weights", architecture)))
    assert (settings.recipe, settings.backbone, settings.kind) == (recipe, backbone, "frozen")
    assert architecture in reason
    assert asked == []  # whoever gives weights needs no network


def test_a_bare_file_does_not_say_what_it_is_for(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="does not say which network"):
        choose(str(tmp_path / "w.safetensors"))


def test_the_choice_is_said(reachable, capsys):
    reachable(False)
    settings_from(None, None, [], {})
    assert capsys.readouterr().err.startswith("Recipe: cnn-vgg, the best recipe from scratch, because")


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


@pytest.mark.parametrize("values", [{"train_from": "layer4"}, {"weights": "somewhere"}])
def test_a_scratch_network_has_nothing_to_keep(values):
    with pytest.raises(UserError, match="from random weights"):
        settings_from("cnn-vgg", None, [], values)
