"""What is to be trained: the recipe for somebody who names none, settings from all that was given or of a run that goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from frostline.config import Settings
from frostline.data.imageset import Splits
from frostline.errors import UserError
from frostline.progress import say
from frostline.recipes import BEST_FROZEN, BEST_SCRATCH, FINETUNE, RECIPES, recipe
from frostline.runs import DATA, MANIFEST, SETTINGS, Run


def choose(weights: str, data: str = "") -> tuple[Settings, str]:
    """The recipe for somebody who named none, and why: the best frozen one whose weights can be had, else the best from scratch.

    Args:
        weights: those given, or "".
        data: what was named; "digits" has a recipe of its own.
    """
    from frostline.models.weights import architecture_of, at_hand

    if weights:
        architecture = architecture_of(weights)
        for name in RECIPES:
            settings = recipe(name)
            if settings.kind == "frozen" and settings.train_from == "head" and architecture == _timm_name(settings.backbone):
                return settings, f"{name}, because the weights given are for its network, {architecture}"
        settings = Settings(recipe=f"{architecture}-frozen", backbone=f"timm:{architecture}")
        return settings, f"a frozen {architecture}, because that is what the weights given are for"
    if data == "digits":
        return recipe("cnn-digits"), "cnn-digits, because digits are small, unlike photographs, and must not be mirrored"
    if at_hand(recipe(BEST_FROZEN).backbone):
        return recipe(BEST_FROZEN), f"{BEST_FROZEN}, the frozen recipe that does best for its time; its weights can be had"
    why = f"{BEST_SCRATCH}, the best recipe from scratch, because no pretrained weights can be had (no network, none given)"
    return recipe(BEST_SCRATCH), why


def _timm_name(backbone: str) -> str:
    from frostline.models.backbones import find

    return find(backbone).timm.split(".")[0]


def resumed(
    folder: Path, config: Path | None, assignments: list[str], values: dict[str, Any], data: str | None = None
) -> tuple[str, Settings]:
    """Data and settings of the interrupted run in ``folder``, to be given to ``train`` with ``resume``.

    What else was asked for, as in ``settings_from``, may not change anything. A run that was stopped before its first whole epoch
    begins anew, with what was cached.

    Raises:
        UserError: no run that can go on, other data, or changed settings, which are listed.
    """
    run = Run(folder)
    finished = (folder / MANIFEST).exists() and not run.checkpoints_folder.is_dir()
    if finished or not (folder / DATA).is_file() or not (folder / SETTINGS).is_file():
        received = "a finished run" if finished else "no run, or one that was stopped before it had read its data"
        raise UserError(f"There is nothing to resume in {folder}.", expected="a run that was interrupted", received=received)
    source = str(run.read(DATA)["source"])
    if data is not None and data != source:
        raise UserError("A run goes on with the data it began with.", expected=source, received=data)
    saved = Settings().with_values(**run.read(SETTINGS))
    asked = saved.with_toml(config) if config is not None else saved
    before, after = saved.as_dict(), asked.with_assignments(assignments).with_values(**values).as_dict()
    changed = [f"{name}: {before[name]!r} became {after[name]!r}" for name in before if before[name] != after[name]]
    if changed:
        raise UserError("A run goes on with the settings it began with.", received="; ".join(changed), hint="leave them out")
    return source, saved


def settings_from(
    name: str | None, config: Path | None, assignments: list[str], values: dict[str, Any], data: str = ""
) -> Settings:
    """A recipe (chosen for ``data`` where none is named), a TOML file over it, ``key=value`` texts over that, values over all."""
    base, reason = (recipe(name), "") if name else choose(str(values.get("weights", "")), data)
    if reason:
        say(f"Recipe: {reason}.")

    def over(settings: Settings) -> Settings:
        settings = settings.with_toml(config) if config is not None else settings
        return settings.with_assignments(assignments).with_values(**values)

    settings = over(base)
    if settings.kind == "scratch" and (settings.train_from != base.train_from or settings.weights):
        raise UserError(
            f"{settings.recipe} trains a network from random weights: it has no pretrained part to keep or to begin from.",
            received="train_from or weights",
            hint="--recipe mobilenetv2-finetune, or another that 'frostline recipes' lists",
        )
    if settings.train_from != "head" and base.train_from == "head":  # a frozen recipe has no settings for training above the line
        say("Trained above the frost line as the fine-tuning recipes are, but for what you set.")
        return over(base.with_values(**FINETUNE))
    return settings


def asked_for(
    data: str | None, resume: Path | None, config: Path | None, assignments: list[str], values: dict[str, Any]
) -> tuple[str, Settings]:
    """Data and settings that a command line asks for: those of the run ``resume``, or new ones for ``data``.

    Args:
        data: what to train on; may be None where a run goes on.
        values: by the name of a setting, and "recipe"; None: not asked for.
    """
    given = {key: value for key, value in values.items() if value is not None}
    if resume is not None:
        return resumed(resume, config, assignments, given, data)
    return str(data), settings_from(given.pop("recipe", None), config, assignments, given, str(data))


def settled(data: Any, settings: Settings | str | None, values: dict[str, Any]) -> Settings:
    """Settings, a recipe's name or None (one is then chosen for ``data``), with ``values`` over them."""
    if isinstance(settings, Settings):
        return settings.with_values(**values)
    return settings_from(settings, None, [], values, str(data.record.get("source", "")) if isinstance(data, Splits) else str(data))
