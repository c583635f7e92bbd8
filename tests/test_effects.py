"""What is asked for in vain is named, and nothing else."""

from __future__ import annotations

import pytest

from frostline.config import Settings
from frostline.effects import kind_of_training, say_without_effect, without_effect
from frostline.recipes import RECIPES, recipe


@pytest.mark.parametrize("name", RECIPES)
def test_no_recipe_sets_anything_in_vain_over_the_defaults(name):
    assert without_effect(recipe(name)) == []
    assert without_effect(recipe(name).with_values(recipe="own")) == []


@pytest.mark.parametrize(
    ("name", "values", "kind", "unused"),
    [
        ("mobilenetv2-frozen", {"epochs": 3, "noise": 0.1, "l2": (0.1,)}, "fitted", ["epochs", "noise"]),
        ("mobilenetv2-frozen", {"head": "dense-d", "epochs": 3, "rates": ("*=2",), "l2": (0.1,)}, "dense", ["l2", "rates"]),
        ("mobilenetv2-finetune", {"power": 0.5, "head_lr": 0.1}, "cached", ["power", "head_lr"]),
        ("mobilenetv2-finetune", {"head": "dense-d", "head_lr": 0.1, "l2": (0.1,)}, "cached", ["l2"]),
        ("mobilenetv2-finetune", {"augment": ("mirror",), "cached_views": 5}, "live", ["cached_views"]),
        ("fast-94", {"announce": 0.9, "power": 0.5, "epochs": 2}, "scratch", ["announce", "power"]),
    ],
)
def test_what_a_kind_of_training_has_no_use_for(name, values, kind, unused, capsys):
    settings = recipe(name).with_values(**values)
    assert kind_of_training(settings) == kind
    assert without_effect(settings) == unused
    say_without_effect(settings, 50_000)
    said = " ".join(capsys.readouterr().err.split())
    assert f"{', '.join(unused)} without effect." in said


def test_nothing_is_said_of_defaults(capsys):
    say_without_effect(Settings(), 50_000)
    assert capsys.readouterr().err == ""


def test_it_is_said_that_the_recipe_would_leave_out_easy_images(capsys):
    say_without_effect(recipe("fast-94").with_values(mixup=0.2), 50_000)
    assert "skip_easy=0.25 of the recipe is off" in " ".join(capsys.readouterr().err.split())
    say_without_effect(recipe("fast-94"), 50_000)
    assert capsys.readouterr().err == ""
    headed = recipe("mobilenetv2-finetune").with_values(train_from="head", skip_easy=0.0)  # its head has no epochs
    say_without_effect(headed, 50_000)
    assert "Every epoch" not in capsys.readouterr().err


def test_it_is_said_that_so_few_images_are_all_shown(capsys):
    say_without_effect(recipe("fast-94"), 9_999)
    said = " ".join(capsys.readouterr().err.split())
    assert "Every epoch shows all 9,999 images: skip_easy=0.25 is for 10,000 or more." in said
    say_without_effect(recipe("fast-94").with_values(skip_easy_from=500), 9_999)
    fitted = recipe("mobilenetv2-finetune").with_values(train_from="head")  # its head has no epochs
    say_without_effect(fitted, 100)
    assert "Every epoch" not in capsys.readouterr().err
