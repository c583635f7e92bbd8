"""timm's hub: where a backbone's weights are, whether they are kept here, and how they are fetched once."""

from __future__ import annotations

import urllib.request
from pathlib import Path
from typing import Any

import timm

from frostline import inside
from frostline.errors import UserError
from frostline.models.backbones import Backbone, find

#: What a hub repository of timm's holds that is needed here.
_FILES = ("config.json", "model.safetensors")


def repository(row: Backbone) -> str:
    """The hub's name of what holds a backbone's weights; a ``UserError`` where it has none."""
    config: Any = timm.get_pretrained_cfg(row.timm) or timm.get_pretrained_cfg(row.timm.split(".")[0])
    if config is None or not config.hf_hub_id:
        raise UserError(
            f"timm's hub has no weights for '{row.timm}'.", hint="--weights FOLDER, or a name with a tag: timm:NAME.TAG"
        )
    tagged = f"{config.architecture}.{config.tag}" if config.tag else str(config.architecture)
    return f"{config.hf_hub_id}{tagged}" if config.hf_hub_id.endswith("/") else str(config.hf_hub_id)


def download(name: str, place: str) -> Path:
    """The local folder of a hub repository; fetched on first use, and then no network is asked."""
    from huggingface_hub import hf_hub_download

    try:
        try:
            paths = [hf_hub_download(place, file, local_files_only=True) for file in _FILES]
        except OSError:  # not in the hub client's cache: ask once whether the hub answers, for its own retries take a minute
            _ask_hub(10)
            paths = [hf_hub_download(place, file) for file in _FILES]
    except Exception as error:  # the hub client raises many kinds: no network, no such file, proxy, disk
        raise UserError(
            f"The weights of '{name}' ({place}) could not be had from timm's hub.",
            received=f"{type(error).__name__}: {str(error)[:200]}",
            hint="with a network it is fetched once and kept; without, give a folder that holds config.json and "
            "model.safetensors: --weights FOLDER",
        ) from error
    return Path(paths[0]).parent


def kept(name: str) -> bool:
    """Whether a backbone's weights can be had without a network: from the hub client's cache, or from inside the package."""
    from huggingface_hub import try_to_load_from_cache

    if name == inside.BACKBONE:
        return True
    place = repository(find(name))
    return all(isinstance(try_to_load_from_cache(place, file), str) for file in _FILES)


def at_hand(name: str) -> bool:
    """Whether a backbone's weights are kept here already, or the hub may be asked and answers within three seconds."""
    if kept(name):
        return True
    try:
        _ask_hub(3)
    except (OSError, ValueError):
        return False
    return True


def _ask_hub(seconds: float) -> None:
    """Ask once whether timm's hub answers; an ``OSError`` where it does not, or where HF_HUB_OFFLINE forbids to ask."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise OSError("HF_HUB_OFFLINE is set, so no network is asked")
    urllib.request.urlopen(urllib.request.Request(constants.ENDPOINT, method="HEAD"), timeout=seconds).close()
