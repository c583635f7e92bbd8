"""Pretrained weights: from timm's hub, a folder in its layout, or a bare file. Loading is total or fails; nothing stays random."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import nn

from frostline import inside
from frostline.errors import UserError
from frostline.files import digest_bytes
from frostline.models.backbones import Backbone, FeatureNetwork, build, find
from frostline.models.cnn import WithMap
from frostline.models.hub import download, repository
from frostline.models.hub_config import KERNELS, HubConfig, read_config
from frostline.models.layers import seeded


@dataclass(frozen=True)
class Loaded:
    """A backbone with its weights.

    Attributes:
        name: as the user named it.
        network: in inference mode, without gradients.
        mean, std, kernel, crop: the preprocessing that belongs to the weights.
        digest: BLAKE2b-128 over names, shapes and values of all weights, and over the arguments the network was built with.
        model_args: arguments beside the size that the network was built with.
        origin: where the weights came from, with their licence where the card gives one.
        notes: sentences for the screen and the record.
    """

    name: str
    network: FeatureNetwork | WithMap
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    kernel: str
    crop: float
    digest: str
    origin: str
    model_args: dict[str, Any]
    notes: tuple[str, ...] = ()

    @property
    def parameters(self) -> int:
        """Number of weights (BatchNorm statistics not counted)."""
        return sum(parameter.numel() for parameter in self.network.parameters())


def load(name: str, size: tuple[int, int], weights: str = "", excuse: Sequence[str] = ()) -> Loaded:
    """A backbone with pretrained weights, ready to be frozen.

    Args:
        name: a row of ``BACKBONES`` or ``timm:NAME``.
        size: (H, W) that the network will see.
        weights: "" for timm's hub; a folder with ``config.json`` and ``model.safetensors``; or a ``.safetensors`` file.
        excuse: names of weights that may be missing or unexpected.

    Raises:
        UserError: weights that cannot be had or do not cover the network exactly. Nothing is left at random that ``excuse``
            does not name.
    """
    if name == inside.BACKBONE:
        return _inside(weights)
    row, path = find(name), Path(weights).expanduser()
    with seeded(0):  # weights that are excused from being there start from the same numbers every time
        if not weights:
            network, config, origin, notes = _from_hub(name, row, size, excuse)
        elif path.is_dir():
            network, config, origin, notes = _from_folder(name, row, path, size, excuse)
        else:
            network, config, origin, notes = _from_file(name, row, path, size, excuse)
    network.eval().requires_grad_(False)
    return Loaded(
        name=name,
        network=FeatureNetwork(network).eval(),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        kernel=config["interpolation"] if config["interpolation"] in KERNELS else KERNELS[0],
        crop=float(config["crop_pct"]),
        digest=_digest(network, config.get("model_args", {})),
        origin=origin,
        model_args=dict(config.get("model_args", {})),
        notes=tuple(notes),
    )


def check_there(name: str, weights: str = "") -> None:
    """Raise what ``load`` would where the weights cannot be had or are another network's; what timm's hub has is fetched."""
    if name == inside.BACKBONE:
        return _refuse_given(weights)
    row, path = find(name), Path(weights).expanduser()
    if not weights:
        download(name, repository(row))
    elif path.is_dir():
        _config_of(row, path)
        _check_header(path / "model.safetensors")
    else:
        _check_kind(path)
        _check_header(path)
    return None


def _refuse_given(weights: str) -> None:
    if weights:
        raise UserError(f"{inside.BACKBONE} comes with its weights.", received=weights, hint="leave out --weights")


def _inside(weights: str) -> Loaded:
    """The network of the classifier that ships in the package."""
    from frostline.models.shipped import backbone

    _refuse_given(weights)
    network, preprocess, digest, origin = backbone()
    return Loaded(inside.BACKBONE, network, preprocess.mean, preprocess.std, "bilinear", 1.0, digest, origin, {})


_Found = tuple[Any, dict[str, Any], str, list[str]]


def _from_hub(name: str, row: Backbone, size: tuple[int, int], excuse: Sequence[str]) -> _Found:
    return _from_folder(name, row, download(name, repository(row)), size, excuse)


def _config_of(row: Backbone, folder: Path) -> HubConfig:
    """What stands beside the weights of a folder, which are this network's."""
    config = read_config(folder)
    architecture = config.architecture
    if architecture.split(".")[0] != row.timm.split(".")[0]:
        raise UserError(
            f"The weights in {folder} are for another network.",
            expected=row.timm.split(".")[0],
            received=architecture or "no 'architecture' in config.json",
            hint=f"--set backbone=timm:{architecture}" if architecture else "",
        )
    return config


def _from_folder(name: str, row: Backbone, folder: Path, size: tuple[int, int], excuse: Sequence[str]) -> _Found:
    config = _config_of(row, folder)
    network = build(name, size, **config.model_args)
    given, silent = config.preprocessing(network.pretrained_cfg)
    notes = _fill(network, folder / "model.safetensors", given.get("classifier") or "", excuse)
    # timm's own default may name a licence, but only the card beside the weights speaks for them
    licence = config.licence or "licence not stated"
    given["model_args"] = config.model_args
    return network, given, f"{config.architecture}.{given.get('tag') or 'untagged'} ({licence})", [*notes, *silent]


def _check_kind(path: Path) -> None:
    if path.suffix != ".safetensors":
        raise UserError(
            f"Cannot take weights from {path}.",
            expected="a folder with config.json and model.safetensors, or a .safetensors file (other formats may run code)",
            received="a file of another kind" if path.exists() else "nothing is there",
        )


def _check_header(path: Path) -> None:
    try:
        with safe_open(path, "pt"):
            pass
    except (OSError, SafetensorError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"Cannot read weights from {path}.", received=str(error))


def _from_file(name: str, row: Backbone, path: Path, size: tuple[int, int], excuse: Sequence[str]) -> _Found:
    _check_kind(path)
    network = build(name, size)
    notes = _fill(network, path, network.pretrained_cfg.get("classifier") or "", excuse)
    notes.append(f"{path.name} has no config.json beside it: preprocessing and architecture arguments are timm's defaults.")
    return network, dict(network.pretrained_cfg), f"{path.name} (licence not stated)", notes


def _fill(network: Any, path: Path, classifier: str | Sequence[str], excuse: Sequence[str]) -> list[str]:
    """Load every weight or fail with both differences; BatchNorm's counters and the classifier may be absent or extra."""
    try:
        given = load_file(path)
    except (OSError, SafetensorError) as error:
        raise _unreadable(path, error) from error
    if hasattr(network, "pre_logits"):  # the dense top of timm's VGG, which FeatureNetwork leaves out
        network.pre_logits = nn.Identity()
        given = {key: value for key, value in given.items() if not key.startswith("pre_logits.")}
    wanted = network.state_dict()
    heads = [classifier] if isinstance(classifier, str) else list(classifier)
    dropped = [key for key in given if any(head and key.startswith(f"{head}.") for head in heads) and key not in wanted]
    given = {key: value for key, value in given.items() if key not in dropped}
    counters = {key for key in wanted if key.endswith("num_batches_tracked")}
    missing = sorted(set(wanted) - set(given) - counters - set(excuse))
    unexpected = sorted(set(given) - set(wanted) - set(excuse))
    shapes = [
        f"{key}: {tuple(given[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in sorted(set(given) & set(wanted))
        if given[key].shape != wanted[key].shape
    ]
    differences = {"missing": missing, "unexpected": unexpected, "of another shape": shapes}
    if any(differences.values()):
        raise UserError(
            f"The weights in {path} do not fit the network.",
            expected=f"exactly its {len(wanted) - len(counters)} tensors",
            received="\n    ".join(_list(title, names) for title, names in differences.items()),
            hint="the right weights, or --set excuse=NAME,NAME for those that may differ"
            if missing or unexpected
            else "the right weights; of a network that is built for one size of images, leave image_size out",
        )
    network.load_state_dict({key: value for key, value in given.items() if key in wanted}, strict=False)
    absent, unused = sorted(set(wanted) - set(given) - counters), sorted(set(given) - set(wanted))
    notes = [f"Weights that were not given and are random numbers, as excused: {', '.join(absent)}."] if absent else []
    return [*notes, f"Weights given that the network lacks, as excused: {', '.join(unused)}."] if unused else notes


def _list(title: str, names: list[str]) -> str:
    return f"{title} ({len(names)}): {', '.join(names) or 'none'}"


def _digest(network: Any, arguments: dict[str, Any]) -> str:
    """Over names, shapes and float32 values, so that the same weights stored in another file are the same.

    Arguments (other padding, another activation) make another network of the same weights.
    """
    state = {key: value for key, value in network.state_dict().items() if not key.endswith("num_batches_tracked")}
    parts: list[bytes | memoryview] = [json.dumps(arguments, sort_keys=True).encode()]
    for key in sorted(state):
        value = state[key].detach().to(torch.float32).contiguous().numpy()
        parts += [f"{key}{value.shape}".encode(), value.tobytes()]
    return digest_bytes(*parts)


def architecture_of(weights: str) -> str:
    """timm's name of the network that a folder of weights is for; a bare file does not say, which is a ``UserError``."""
    path = Path(weights).expanduser()
    architecture = "" if path.is_file() else read_config(path).architecture.split(".")[0]
    if not architecture:
        raise UserError(
            f"{path.name} does not say which network it is for.",
            hint="--recipe NAME, see 'frostline recipes', or --set backbone=NAME",
        )
    return architecture
