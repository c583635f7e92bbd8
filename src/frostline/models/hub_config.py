"""config.json of a folder in timm's hub layout, in both its forms: what it says of a network and its preprocessing, checked."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frostline.errors import UserError

#: What belongs to preprocessing. Where the file says nothing of one, timm's default for the architecture is taken, which is said.
PREPROCESSING = ("mean", "std", "interpolation", "crop_pct")
KERNELS = ("bicubic", "bilinear")
#: Keys of the file itself in its older form, in which all others are of the ``pretrained_cfg``.
_TOP = ("architecture", "num_features", "model_args", "pretrained_cfg")
#: Arguments that are the caller's, whatever a file says.
_OURS = {"name", "size", "classes", "pretrained"}


@dataclass(frozen=True)
class HubConfig:
    """What a config.json says.

    Attributes:
        architecture: timm's name, perhaps with a tag; empty where it is not said.
        model_args: arguments that the network was built with.
        pretrained: of the weights: mean, std, interpolation, crop_pct, classifier, tag, …, as far as they are said.
        licence: of the weights; empty where it is not said.
    """

    architecture: str
    model_args: dict[str, Any]
    pretrained: dict[str, Any]
    licence: str

    def preprocessing(self, defaults: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """The file's word over timm's ``defaults``, and sentences on what is not the file's word."""
        silent = [name for name in PREPROCESSING if name not in self.pretrained]
        notes = (
            [f"config.json does not give {', '.join(silent)}: timm's defaults for {self.architecture} are used."] if silent else []
        )
        asked = self.pretrained.get("interpolation", KERNELS[0])
        notes += [f"config.json asks for {asked} interpolation, which is not known here: {KERNELS[0]} is used."] * (
            asked not in KERNELS
        )
        return {**defaults, **self.pretrained}, notes


def read_config(folder: Path) -> HubConfig:
    """Read ``folder``/config.json. Newer files hold a ``pretrained_cfg``; in older ones it is the file, which timm reads as well.

    A null says nothing.

    Raises:
        UserError: there is none, or it says what cannot be.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{folder} is not a folder of weights in timm's hub layout.",
            expected="config.json and model.safetensors",
            received=str(error),
        ) from error
    if not isinstance(config, dict):
        raise UserError(f"{path} is not a JSON object.", received=type(config).__name__)
    said = {key: value for key, value in config.items() if value is not None}
    for name in ("pretrained_cfg", "model_args"):
        _check(path, name, said, isinstance(said.get(name, {}), dict), "an object")
    given = said.get("pretrained_cfg", {key: value for key, value in said.items() if key not in _TOP})
    pretrained = {key: value for key, value in given.items() if value is not None}
    _check_pretrained(path, pretrained)
    arguments = said.get("model_args", {})
    _check(path, "model_args", said, not _OURS & set(arguments), f"arguments of the network, without {', '.join(sorted(_OURS))}")
    architecture, licence = (said.get(name, "") for name in ("architecture", "license"))
    licence = licence or pretrained.get("license", "")
    return HubConfig(architecture if isinstance(architecture, str) else "", arguments, pretrained, str(licence))


def _check_pretrained(path: Path, given: Mapping[str, Any]) -> None:
    for name in ("mean", "std"):
        _check(path, name, given, _is_colour(given.get(name, [1, 1, 1])), "three finite numbers")
    _check(path, "std", given, min(given.get("std", [1])) > 0, "three numbers above 0")
    crop = given.get("crop_pct", 1)
    _check(path, "crop_pct", given, _is_number(crop) and 0 < crop <= 1, "a number above 0, at most 1")
    _check(path, "interpolation", given, isinstance(given.get("interpolation", ""), str), "a name such as bicubic")
    heads = given.get("classifier", "")
    listed = heads if isinstance(heads, list) else [heads]
    _check(path, "classifier", given, all(isinstance(head, str) for head in listed), "a name, or names")


def _is_colour(values: Any) -> bool:
    return isinstance(values, list) and len(values) == 3 and all(map(_is_number, values))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check(path: Path, name: str, given: Mapping[str, Any], right: bool, expected: str) -> None:
    if not right:
        raise UserError(f"'{name}' in {path} has an impossible value.", expected=expected, received=str(given.get(name))[:200])
