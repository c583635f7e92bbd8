"""What is to be trained: the recipe for somebody who names none, settings from all that was given or of a run that goes on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from frostline.config import Settings, assigned, toml_values
from frostline.data.imageset import Splits
from frostline.errors import UserError
from frostline.inside import BACKBONE
from frostline.progress import say
from frostline.recipes import BEST_FROZEN, BEST_SCRATCH, FINETUNE, RECIPES, recipe
from frostline.runs import DATA, SETTINGS, Run

#: Settings that only a pretrained network has a use for, and that only one from random weights has.
_ONLY: dict[str, tuple[str, ...]] = {"frozen": ("backbone", "weights", "head", "train_from"), "scratch": ("network",)}
#: The same, but these do nothing at their defaults, and may be given so.
_EFFECTS: dict[str, tuple[str, ...]] = {
    "frozen": ("cached_views", "drop_activations", "noise", "crop_from", "layer_decay", "train_batchnorm"),
    "scratch": ("alternate", "grow_from", "least_steps"),
}


def choose(asked: Mapping[str, Any], data: str = "") -> tuple[Settings, str]:
    """The recipe for somebody who named none, and why.

    A network that was asked for decides; else it is the best frozen recipe whose weights can be had, else the best from scratch.

    Args:
        asked: all that was given, by the name of a setting.
        data: what was named; "digits" has a recipe of its own.

    Raises:
        UserError: both kinds of network are asked for, or one that there is not.
    """
    pretrained, scratch = (_asks_for(kind, asked) for kind in ("frozen", "scratch"))
    if pretrained and scratch:
        one, other = ", ".join(pretrained), ", ".join(scratch)
        raise UserError(
            "A network begins from pretrained weights or from random ones, not from both.",
            received=f"{one} and {other}",
            hint=f"leave out {one}, or leave out {other}",
        )
    if pretrained:
        return _on_pretrained(str(asked.get("backbone") or ""), str(asked.get("weights") or ""), pretrained)
    if data == "digits":
        return recipe("cnn-digits"), "cnn-digits, because digits are small, unlike photographs, and must not be mirrored"
    if scratch:
        return _from_scratch(str(asked.get("network") or ""), scratch)
    return _best_frozen() or _best_scratch()


def _asks_for(kind: str, asked: Mapping[str, Any]) -> list[str]:
    """What of ``asked`` only this kind of training has a use for, as key=value texts."""
    given = {name: value for name, value in asked.items() if value not in (None, "")}
    named = [name for name in ("kind", *_ONLY[kind]) if name in given and (name != "kind" or given[name] == kind)]
    plain = Settings()
    named += [name for name in _EFFECTS[kind] if name in given and plain.with_values(**{name: given[name]}) != plain]
    return [f"{name}={given[name]}" for name in named]


def _on_pretrained(backbone: str, weights: str, asking: list[str]) -> tuple[Settings, str]:
    """A frozen recipe for the network that was asked for; ``asking`` asks for some pretrained network, this or any."""
    from frostline.models.weights import architecture_of

    if not backbone and not weights:  # where none can be had, what is said then tells how to give one
        why = f"{BEST_FROZEN}, because {', '.join(asking)} is for a pretrained network"
        return _best_frozen() or (recipe(BEST_FROZEN), why)
    architecture = _timm_name(backbone) if backbone else architecture_of(weights)
    source = f"the backbone given is {backbone}" if backbone else f"the weights given are for its network, {architecture}"
    for name, settings in _frozen():
        if architecture == _timm_name(settings.backbone):
            return settings, f"{name}, because {source}"
    name = backbone if backbone and not backbone.startswith("timm:") else architecture
    why = "it is the backbone given" if backbone else "that is what the weights given are for"
    return Settings(recipe=f"{name}-frozen", backbone=backbone or f"timm:{architecture}"), f"a frozen {name}, because {why}"


def _from_scratch(network: str, asking: list[str]) -> tuple[Settings, str]:
    """The recipe of a network that is trained from random weights, or the best of them where none has it."""
    for name in RECIPES:
        settings = recipe(name)
        if settings.kind == "scratch" and settings.network == network:
            return settings, f"{name}, because the network given is {network}"
    return recipe(BEST_SCRATCH), f"{BEST_SCRATCH}, the best recipe from scratch, because of {', '.join(asking)}"


def _best_frozen() -> tuple[Settings, str] | None:
    """The best frozen recipe whose weights can be had, and why; None without any."""
    from frostline.models.hub import at_hand, kept

    if at_hand(recipe(BEST_FROZEN).backbone):
        return recipe(BEST_FROZEN), f"{BEST_FROZEN}, the frozen recipe that does best for its time; its weights can be had"
    for name, settings in _frozen():
        if settings.backbone != BACKBONE and kept(settings.backbone):
            return settings, f"{name}, whose weights are kept here, because those of {BEST_FROZEN} cannot be had (no network)"
    return None


def _best_scratch() -> tuple[Settings, str]:
    why = "because no pretrained weights can be had (no network, none kept, none given); it mirrors images, cnn-digits does not"
    return recipe(BEST_SCRATCH), f"{BEST_SCRATCH}, the best recipe from scratch, {why}"


def _frozen() -> Iterator[tuple[str, Settings]]:
    """The recipes that fit a head on a frozen network, the best for their time first."""
    for name in RECIPES:
        settings = recipe(name)
        if settings.kind == "frozen" and settings.train_from == "head":
            yield name, settings


def _timm_name(backbone: str) -> str:
    from frostline.models.backbones import find

    return find(backbone).timm.split(".")[0] or backbone


def resumed(
    folder: Path, config: Path | None, assignments: list[str], values: dict[str, Any], data: str | None = None
) -> tuple[str, Settings]:
    """Data and settings of the interrupted run in ``folder``, to be given to ``train`` with ``resume``.

    What else was asked for, as in ``settings_from``, may not change anything. A run that was stopped before its first whole epoch,
    be it by Ctrl-C, begins anew, with what was cached.

    Raises:
        UserError: no run, other data, or changed settings, which are listed.
    """
    run = Run(folder)
    if not (folder / DATA).is_file() or not (folder / SETTINGS).is_file():
        raise UserError(
            f"There is nothing to resume in {folder}.",
            expected="a run that was interrupted",
            received="no run, or one that was stopped before it had read its data",
            hint="the command that it began with",
        )
    source = str(run.read(DATA).get("source") or "")
    if not source:
        raise UserError(
            f"The run {folder} was trained from data in memory.",
            expected="data that have a name, which a command can load again",
            hint="go on where it began: frostline.train(splits, settings, folder, resume=True) in Python",
        )
    if data is not None and data != source:
        raise UserError("A run goes on with the data it began with.", expected=source, received=data)
    saved = Settings().with_values(**run.read(SETTINGS))
    asked = saved.with_toml(config) if config is not None else saved
    asked = asked.with_assignments(assignments).with_values(**values)
    check_same(saved, asked)
    return source, asked


def check_same(saved: Settings, asked: Settings) -> None:
    """A run that goes on may not be asked for other settings: a ``UserError`` lists those that changed.

    Weights and a teacher may have moved: that they are still the same is seen by their digests.
    """
    before, after = saved.as_dict(), asked.as_dict()
    moved = {name for name in ("weights", "teacher") if before[name] and after[name]}
    changed = [
        f"{name}: {before[name]!r} became {after[name]!r}" for name in before if before[name] != after[name] and name not in moved
    ]
    if changed:
        raise UserError("A run goes on with the settings it began with.", received="; ".join(changed), hint="leave them out")


def settings_from(
    name: str | None, config: Path | None, assignments: list[str], values: dict[str, Any], data: str = ""
) -> Settings:
    """A recipe (chosen for ``data`` where none is named), a TOML file over it, ``key=value`` texts over that, values over all.

    ``recipe`` among any of these names the recipe; ``name`` goes before them.
    """
    asked = {**(toml_values(config) if config is not None else {}), **assigned(assignments), **values}
    also = asked.pop("recipe", None)
    named = also if name is None else name
    base, reason = choose(asked, data) if named is None else (recipe(str(named)), "")
    if reason:
        say(f"Recipe: {reason}.")
    _check_use(base.recipe, base.kind, asked)
    settings = base.with_values(**asked)
    below = begins_from(base, settings.train_from)
    if below is not base:
        say("Trained above the frost line as the fine-tuning recipes are, but for what you set.")
    return below.with_values(**asked)


def begins_from(base: Settings, train_from: str) -> Settings:
    """What settings over ``base`` that train from there begin from: a frozen recipe has none for training above the line."""
    above = train_from != "head" and base.kind == "frozen" and base.train_from == "head"
    return base.with_values(**FINETUNE) if above else base


def _check_use(name: str, kind: str, asked: Mapping[str, Any]) -> None:
    """Nothing that was asked for is for the other kind of training, where it would be ignored in silence."""
    if kind == "scratch" and (unused := _asks_for("frozen", asked)):
        raise UserError(
            f"{name} trains a network from random weights: it has no pretrained part to keep or to begin from.",
            received=", ".join(unused),
            hint="--recipe mobilenetv2-frozen or mobilenetv2-finetune, or another that 'frostline recipes' lists",
        )
    if kind == "frozen" and (unused := _asks_for("scratch", asked)):
        raise UserError(
            f"{name} begins from a pretrained network: it trains none from random weights.",
            received=", ".join(unused),
            hint=f"--recipe {BEST_SCRATCH}, or another from scratch that 'frostline recipes' lists",
        )


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
    """Settings, a recipe's name or None (one is then chosen for ``data``), with ``values`` over them; see ``settings_from``.

    Raises:
        UserError: anything in ``values`` that cannot be, ``recipe`` among them where ``settings`` says another.
    """
    begun, asked = _begun(settings, values)
    if isinstance(begun, Settings):
        own = begun.recipe in RECIPES  # settings of one's own may become the other kind, those of a recipe not
        _check_use(begun.recipe, begun.kind if own else str(asked.get("kind", begun.kind)), asked)
        return begun.with_values(**asked)
    return settings_from(begun, None, [], asked, str(data.record.get("source", "")) if isinstance(data, Splits) else str(data))


def settled_for_data(settings: Settings | str | None, values: dict[str, Any]) -> Settings:
    """As ``settled``, for what only reads data: where no recipe is named none is chosen."""
    begun, asked = _begun(settings, values)
    return (recipe(begun) if isinstance(begun, str) else begun or Settings()).with_values(**asked)


def _begun(settings: Settings | str | None, values: dict[str, Any]) -> tuple[Settings | str | None, dict[str, Any]]:
    """What settings begin from, and the values over them; a recipe may be named among the values."""
    asked = dict(values)
    named = asked.pop("recipe", None)
    if named is None or settings is None:
        return (settings if named is None else str(named)), asked
    given = settings.recipe if isinstance(settings, Settings) else settings
    if named != given:
        raise UserError("Two recipes are named.", expected="one", received=f"{given} and recipe={named}")
    return settings, asked
