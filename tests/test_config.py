import json
import math
from dataclasses import fields

import pytest

from frostline.config import Settings
from frostline.errors import UserError
from frostline.recipes import BEST_FROZEN, BEST_SCRATCH, recipe


def test_settings_that_came_later_leave_the_identity_of_older_trainings():
    assert "teacher_mixtures" not in Settings().identity()
    assert Settings(teacher_mixtures=2).identity()["teacher_mixtures"] == 2
    later = {"teacher_mixtures": 0, "head_lr": 0.0, "head_epochs": 0, "crop_from": 1.0, "skip_easy_from": 0}
    assert Settings().as_dict() == {**Settings().identity(), **later}


def test_an_unknown_setting_names_the_nearest():
    with pytest.raises(UserError, match="no setting 'epoch'") as caught:
        Settings().with_values(epoch=3)
    assert "epochs" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("head", "linear", "logistic"),
        ("kind", "both", "one of frozen, scratch"),
        ("seed", 1.5, "a whole number"),
        ("seed", True, "a whole number"),
        ("seed", "x", "a whole number"),
        ("lr", "fast", "a number"),
        ("lr", True, "a number"),
        ("lr", None, "a number"),
        ("strict", "maybe", "true or false"),
        ("strict", 1, "true or false"),
        ("weights", 3, "a text"),
        ("l2", "a,b", "a list of a number"),
        ("l2", 0.1, "a list of a number"),
        ("excuse", (1, 2), "a list of a text"),
        ("feature_dtype", "int8", "float16"),
        ("optimizer", "lamb", "one of adam, adamw, sgd"),
    ],
)
def test_impossible_values_say_what_would_be_possible(name, value, expected):
    with pytest.raises(UserError, match=f"Setting '{name}'") as caught:
        Settings().with_values(**{name: value})
    assert expected in caught.value.expected
    assert caught.value.received


@pytest.mark.parametrize(
    ("name", "inside", "outside"),
    [
        ("seed", [0, 2**32 - 1], [-1, 2**32]),
        ("validation_fraction", [0.01, 0.9], [0.0, 1.0, -0.1]),
        ("validation_max", [1], [0]),
        ("image_size", [0, 4096], [-1, 5000]),
        ("views", [1, 2], [0, 3]),
        ("epochs", [1], [0]),
        ("batch_size", [1, 65536], [0]),
        ("lr", [1e-9, 1000.0], [0.0, -1.0, float("nan"), float("inf")]),
        ("momentum", [0.0, 0.99], [1.0]),
        ("weight_decay", [0.0, 10.0], [-0.1]),
        ("label_smoothing", [0.0, 0.9], [1.0]),
        ("shift", [0, 4], [-1]),
        ("patience", [-1, 0, 5], [-2]),
        ("stop_at", [0.0, 1.0], [1.1, -0.1, 90.0]),
        ("budget", [0.0, 3600.0], [-1.0]),
    ],
)
def test_ranges(name, inside, outside):
    for value in inside:
        assert getattr(Settings().with_values(**{name: value}), name) == value
    for value in outside:
        with pytest.raises(UserError, match=f"Setting '{name}' is out of range"):
            Settings().with_values(**{name: value})


@pytest.mark.parametrize("l2", [(), (-1.0,), (0.1, -1e-9)])
def test_l2_is_a_list_of_numbers_that_are_not_negative(l2):
    with pytest.raises(UserError, match="l2"):
        Settings(l2=l2)


FLOATS = [field.name for field in fields(Settings) if field.type in ("float", "tuple[float, ...]")]


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e999"])
@pytest.mark.parametrize("name", FLOATS)
def test_every_number_is_finite(name, value):
    with pytest.raises(UserError, match=f"Setting '{name}'"):
        Settings().with_assignments([f"{name}={value}"])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_one_number_of_a_list_that_is_not_finite(value):
    assert "l2" in FLOATS
    with pytest.raises(UserError, match="Setting 'l2' is not finite") as caught:
        Settings(l2=(0.1, value))
    assert repr(value) in caught.value.received


def test_texts_become_what_the_setting_holds():
    made = Settings().with_assignments(
        [
            "seed=7",
            "lr = 0.01 ",
            "batch-size=32",
            "strict=true",
            "unknown_as_wrong=No",
            "l2=0.1,1,1e-3",
            "excuse=a.weight,b.bias",
            "weights=a=b",
            "head=ridge",
            "budget=60",
        ]
    )
    assert (made.seed, made.lr, made.batch_size, made.strict, made.unknown_as_wrong) == (7, 0.01, 32, True, False)
    assert (made.l2, made.excuse, made.weights, made.head) == ((0.1, 1.0, 1e-3), ("a.weight", "b.bias"), "a=b", "ridge")
    assert type(made.budget) is float


def test_an_empty_list_of_texts():
    assert Settings(excuse=("a",)).with_assignments(["excuse="]).excuse == ()


@pytest.mark.parametrize(("text", "message"), [("seed", "key=value"), ("seed=", "seed"), ("=3", "no setting ''"), ("sed=1", "sed")])
def test_texts_that_say_nothing(text, message):
    with pytest.raises(UserError, match=message):
        Settings().with_assignments([text])


def test_the_last_text_wins():
    assert Settings().with_assignments(["seed=1", "seed=2"]).seed == 2


def test_toml(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('backbone = "vgg16"\nviews = 2\nl2 = [0.1, 1]\nexcuse = ["a"]\nlr = 1\n')
    made = Settings(seed=5).with_toml(path)
    assert (made.backbone, made.views, made.l2, made.excuse, made.lr, made.seed) == ("vgg16", 2, (0.1, 1), ("a",), 1, 5)


@pytest.mark.parametrize("text", ["seed = ", "seed = 1\nseed = 2", "\xff", "[data]\nseed = 1", "sed = 1", 'seed = "x"'])
def test_broken_toml(text, tmp_path):
    path = tmp_path / "run.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError):
        Settings().with_toml(path)


def test_toml_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="Cannot read settings"):
        Settings().with_toml(tmp_path / "none.toml")


def test_settings_survive_json():
    made = Settings(seed=3, l2=(0.1,), excuse=("a",), views=2)
    assert Settings().with_values(**json.loads(json.dumps(made.as_dict()))) == made


def test_settings_do_not_change():
    with pytest.raises(AttributeError):
        Settings().seed = 3


def test_the_best_recipes_are_recipes():
    assert (recipe(BEST_FROZEN).kind, recipe(BEST_SCRATCH).kind) == ("frozen", "scratch")
    with pytest.raises(UserError, match="no recipe 'mobilenet-frozen'") as caught:
        recipe("mobilenet-frozen")
    assert "mobilenetv2-frozen" in caught.value.hint


@pytest.mark.parametrize("values", [{"mixup": "0.2"}, {"cutmix": 1.0}, {"balance": "sampling"}, {"teacher_mixtures": 3}])
def test_easy_images_are_left_out_no_more_where_rows_are_to_be_mixed_or_drawn(values):
    assert recipe("fast-94").with_values(**values).skip_easy == 0
    with pytest.raises(UserError, match="Easy images"):
        recipe("fast-94").with_values(skip_easy=0.2, **values)
    with pytest.raises(UserError, match="Easy images"):  # nobody's recipe: both were asked for
        Settings(skip_easy=0.2).with_values(**values)


@pytest.mark.parametrize("values", [{"mixup": 0.0}, {"balance": "loss"}, {"epochs": 3}])
def test_easy_images_are_left_out_still_where_nothing_is_mixed(values):
    assert Settings(skip_easy=0.2).with_values(**values).skip_easy == 0.2


def test_easy_images_are_left_out_only_where_there_are_enough():
    assert [recipe("fast-94").left_out(images) for images in (500, 9_999, 10_000, 50_000)] == [0, 0, 0.25, 0.25]
    assert [Settings(skip_easy=0.2).left_out(images) for images in (10, 50_000)] == [0.2, 0.2]  # asked for, with no bound
