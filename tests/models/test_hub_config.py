"""config.json in both of timm's forms: the same values, defaults that are said, and nothing impossible."""

import json
import math

import pytest
from timm.models._hub import _parse_model_cfg

from frostline.errors import UserError
from frostline.models.hub_config import read_config

SAID = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3], "interpolation": "bilinear", "crop_pct": 0.9, "tag": "mine"}
NEWER = {"architecture": "resnet18", "num_features": 512, "pretrained_cfg": SAID, "model_args": {"output_stride": 16}}
OLDER = {"architecture": "resnet18", "num_features": 512, **SAID, "license": "mit", "labels": ["a", "b"]}
DEFAULTS = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "interpolation": "bicubic", "crop_pct": 0.875, "tag": "a1"}


def read(folder, config):
    (folder / "config.json").write_text(json.dumps(config))
    return read_config(folder)


@pytest.mark.parametrize("config", [NEWER, OLDER])
def test_both_forms_are_read_as_timm_reads_them(tmp_path, config):
    found = read(tmp_path, config)
    wanted, architecture, arguments = _parse_model_cfg(json.loads(json.dumps(config)), {})
    values, notes = found.preprocessing(DEFAULTS)
    assert (found.architecture, found.model_args, notes) == (architecture, arguments, [])
    assert {name: values[name] for name in SAID} == {name: wanted[name] for name in SAID} == SAID


def test_the_licence_stands_in_either_place(tmp_path):
    assert read(tmp_path, OLDER).licence == "mit"
    assert read(tmp_path, {**NEWER, "license": "mit"}).licence == "mit"
    assert read(tmp_path, {**NEWER, "pretrained_cfg": {"license": "mit"}}).licence == "mit"
    assert read(tmp_path, NEWER).licence == ""


@pytest.mark.parametrize(
    ("config", "silent"),
    [
        ({**NEWER, "pretrained_cfg": {"mean": [0.5, 0.5, 0.5]}}, "std, interpolation, crop_pct"),
        ({**NEWER, "pretrained_cfg": None, "model_args": None}, "mean, std, interpolation, crop_pct"),
        ({**NEWER, "pretrained_cfg": {**SAID, "crop_pct": None}}, "crop_pct"),
        ({"architecture": "resnet18"}, "mean, std, interpolation, crop_pct"),
    ],
)
def test_what_is_not_said_is_timms_default_and_that_is_said(tmp_path, config, silent):
    found = read(tmp_path, config)
    values, notes = found.preprocessing(DEFAULTS)
    assert notes == [f"config.json does not give {silent}: timm's defaults for resnet18 are used."]
    for name in silent.split(", "):
        assert values[name] == DEFAULTS[name]
    assert found.model_args in ({}, NEWER["model_args"])


def test_a_kernel_that_is_not_known_is_said(tmp_path):
    _, notes = read(tmp_path, {**OLDER, "interpolation": "lanczos"}).preprocessing(DEFAULTS)
    assert notes == ["config.json asks for lanczos interpolation, which is not known here: bicubic is used."]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mean", [0.5, 0.5]),
        ("mean", 0.5),
        ("mean", ["a", "b", "c"]),
        ("mean", [0.5, 0.5, math.nan]),
        ("mean", [True, 0.5, 0.5]),
        ("std", [0.2, 0.2]),
        ("std", [0.2, 0.0, 0.2]),
        ("crop_pct", "whole"),
        ("crop_pct", 0),
        ("crop_pct", 87.5),
        ("interpolation", 3),
        ("classifier", {"fc": 1}),
        ("classifier", [1]),
    ],
)
def test_impossible_values_are_named(tmp_path, name, value):
    for config in ({**OLDER, name: value}, {**NEWER, "pretrained_cfg": {**SAID, name: value}}):
        with pytest.raises(UserError, match=f"'{name}' in .*config.json has an impossible value") as caught:
            read(tmp_path, config)
        assert caught.value.expected


@pytest.mark.parametrize(
    ("name", "value"), [("pretrained_cfg", []), ("pretrained_cfg", "a1"), ("model_args", [1]), ("model_args", {"size": 3})]
)
def test_parts_of_another_kind_are_named(tmp_path, name, value):
    with pytest.raises(UserError, match=f"'{name}' in"):
        read(tmp_path, {**NEWER, name: value})
