"""Recipes: valid settings, named for what they are, over networks that exist."""

import csv
import re
from pathlib import Path

import pytest

from frostline import inside
from frostline.config import Settings
from frostline.errors import UserError
from frostline.models.backbones import BACKBONES
from frostline.models.cnn import NETWORKS
from frostline.recipes import BEST_FROZEN, BEST_SCRATCH, RECIPES, model_name, recipe

SOURCES_RECIPES = [
    "densenet169-frozen",
    "mobilenetv2-frozen",
    "resnet50-frozen",
    "resnet50v2-frozen",
    "efficientnetb0-frozen",
    "efficientnetb2-frozen",
    "efficientnetb4-frozen",
    "efficientnetv2s-frozen",
    "vgg16-frozen",
    "mobilenetv2-finetune",
    "densenet169-finetune",
    "cnn-small",
    "cnn-vgg",
]


def test_the_recipes_that_were_asked_for():
    assert set(SOURCES_RECIPES) <= set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_named_for_what_it_is(name):
    settings = recipe(name)
    assert settings.recipe == name
    assert name in RECIPES[name].__doc__
    if settings.kind != "scratch":
        assert settings.backbone in {*BACKBONES, inside.BACKBONE}
        assert name in (f"{settings.backbone}-{_kind(settings)}", "vgg16-block5")
    else:
        assert settings.network in NETWORKS
        assert name in (settings.network, "cnn-digits") or (name.startswith("fast-") and settings.network.startswith("fast-"))


def _kind(settings):
    return "frozen" if settings.train_from == "head" else "finetune"


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_says_its_command(name):
    told = RECIPES[name].__doc__
    assert told is not None
    data = "digits" if name in ("cnn-digits", "cifar-fast-frozen") else "cifar10"
    assert told.startswith(f"``frostline train {data} --recipe {name}")


@pytest.mark.parametrize("name", ["densenet169-frozen", "mobilenetv2-frozen", "fast-94", "fast-95", "cnn-small", "cnn-vgg"])
def test_a_recipe_tells_the_accuracy_and_the_minutes_that_were_last_measured(name):
    with open(Path(__file__).parent.parent / "results" / "recipes.csv", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["recipe"] == name and row["cache"] == "cold"]
    told, last = RECIPES[name].__doc__, rows[-1]
    accuracy, low, high = (f"{100 * float(last[key]):.1f}" for key in ("accuracy", "low", "high"))
    assert f"{accuracy} % ({low} to {high}" in told
    assert f" {float(last['wall_s']) / 60:.0f} minutes" in told


@pytest.mark.parametrize("name", ["mobilenetv2-finetune", "densenet169-finetune"])
def test_a_fine_tuning_recipe_tells_what_was_last_measured_of_every_seed(name):
    with open(Path(__file__).parent.parent / "results" / "finetuned.csv", newline="") as stream:
        last = {row["seed"]: row for row in csv.DictReader(stream) if row["recipe"] == name}
    told = RECIPES[name].__doc__
    for row in last.values():
        assert f"{100 * float(row['accuracy']):.1f}" in told
        assert f"{100 * float(row['one_view']):.1f}" in told
    least, most = map(int, re.search(r"(\d+) (?:to|and) (\d+) minutes", told).groups())
    assert all(least <= round(float(row["wall_s"]) / 60) <= most for row in last.values())


def test_the_chosen_ones_are_of_their_kind():
    assert recipe(BEST_FROZEN).kind == "frozen"
    assert recipe(BEST_SCRATCH).kind == "scratch"


@pytest.mark.parametrize(("wrong", "nearest"), [("densnet169-frozen", "densenet169-frozen"), ("cnn-vg", "cnn-vgg")])
def test_an_unknown_name_suggests_the_nearest(wrong, nearest):
    with pytest.raises(UserError) as raised:
        recipe(wrong)
    assert raised.value.hint.startswith(f"did you mean {nearest}")


def test_a_name_like_none_lists_them_all():
    with pytest.raises(UserError, match="cnn-small, cnn-vgg"):
        recipe("zzzzzz")


@pytest.mark.parametrize("name", RECIPES)
def test_a_model_of_a_recipe_has_its_name(name):
    assert model_name(recipe(name).with_values(seed=3, epochs=2)) == name


@pytest.mark.parametrize(
    ("name", "values", "called"),
    [
        ("mobilenetv2-frozen", {"backbone": "timm:resnet18.a1_in1k"}, "mobilenetv2-frozen with timm:resnet18.a1_in1k"),
        ("mobilenetv2-finetune", {"backbone": "vgg16"}, "mobilenetv2-finetune with vgg16"),
        ("cnn-digits", {"network": "cnn-small"}, "cnn-digits with cnn-small"),
        ("mobilenetv2-frozen", {"network": "cnn-small"}, "mobilenetv2-frozen"),  # it has none
        ("cnn-digits", {"backbone": "vgg16"}, "cnn-digits"),
    ],
)
def test_a_model_of_another_network_than_its_recipe_s_says_so(name, values, called):
    assert model_name(recipe(name).with_values(**values)) == called


def test_a_model_of_no_recipe_has_the_name_that_its_settings_give():
    assert model_name(Settings(recipe="mine", backbone="vgg16")) == "mine"
