"""Hyperparameters searched by Optuna, on validation only; test is never read here.

Trials that do worse than the median of those before them at the same epoch end early. The study is a file: the same command goes on
where it was interrupted. What is found is written as settings that ``frostline train --config`` takes.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frostline.choosing import begins_from
from frostline.config import Settings
from frostline.data.imageset import Splits
from frostline.data.order import stream_seed
from frostline.errors import UserError
from frostline.experiment import trained_on
from frostline.feature_cache import in_use
from frostline.files import digest_json, write_text
from frostline.progress import say
from frostline.recipes import RECIPES, model_name, recipe
from frostline.run_folder import lock
from frostline.runs import Run
from frostline.search_spaces import MIXING, SPACES, searched_names
from frostline.stopping import StopRule
from frostline.teacher import digest_of, open_teacher
from frostline.train_scratch import mixtures

STUDY, TRIALS, PICTURE, BEST = "study.db", "trials.csv", "trials.png", "best.toml"


@dataclass
class _Reporting(StopRule):
    """A stop rule that tells Optuna of every epoch, and ends what is not promising."""

    trial: Any = None
    pruned: bool = False

    def report(self, row: Mapping[str, Any]) -> None:
        """Take up a row of the history; only epochs of what the trials are about can be compared, not those of a head before it."""
        if "epoch" not in row or "stage" in row:
            return
        self.trial.report(row["validation_accuracy"], row["epoch"])
        if self.trial.should_prune():
            self.pruned, self.reason = True, "pruned: worse than the median of earlier trials"


class _Watched(Run):
    """A run whose history the stop rule sees."""

    stop: _Reporting

    def add_history(self, row: Mapping[str, Any]) -> None:
        super().add_history(row)
        self.stop.report(row)


def tune(splits: Splits, settings: Settings, names: list[str], cuts: list[str], count: int, out: Path) -> list[dict[str, Any]]:
    """Search ``count`` trials in all, those of an earlier call in ``out`` among them.

    Args:
        splits: train and validation are used.
        settings: where the search starts, and all that it does not change.
        names: settings to search, of ``search_spaces.SPACES``; empty: the usual ones for this kind of training.
        cuts: places for ``train_from`` to choose from; empty: as in ``settings``.
        count: trials.
        out: holds the study, its table, its picture and the best settings.

    Returns:
        The table: a row a trial with ``trial``, ``state``, ``validation_accuracy``, ``seconds`` and what was searched.

    Raises:
        UserError: a name that cannot be searched, a study of something else in ``out``, or no trial that ended well.
    """
    optuna = _optuna()
    searched = searched_names(settings, names, cuts)
    if settings.skip_easy and MIXING & set(searched):
        say(f"{' and '.join(sorted(MIXING & set(searched)))} searched: every trial shows all images, skip_easy is off.", "yellow")
        settings = settings.with_values(skip_easy=0.0)
    out.mkdir(parents=True, exist_ok=True)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=1)
    storage = f"sqlite:///{(out / STUDY).resolve()}"
    study = _study(optuna, storage, pruner, out)
    _clear(out)
    # a seed of its own for every continuation: it would else begin with the first trials again
    study.sampler = optuna.samplers.TPESampler(seed=stream_seed(settings.seed, len(study.trials)) % 2**32)
    taught = [digest_of(settings)] if settings.teacher else []
    given = [settings.identity(), searched, cuts, splits.train.fingerprint, splits.validation.fingerprint, *taught]
    _same_search(study, digest_json(given))
    _ask_once(settings.with_values(train_from=cuts[0]) if cuts else settings, splits)
    interrupted = _search(study, splits, settings, searched, cuts, count, out)
    rows = table(study)
    _write(rows, study, settings, out)
    if interrupted:
        say("Interrupted: the same command goes on from here.", "yellow")
    return rows


def _study(optuna: Any, storage: str, pruner: Any, out: Path) -> Any:
    """The study of the folder, or a new one."""
    try:
        return optuna.create_study(
            study_name="frostline", storage=storage, load_if_exists=True, direction="maximize", pruner=pruner
        )
    except Exception as error:  # SQLAlchemy's, sqlite's and Optuna's own, which have no class in common
        wanted = f"a {STUDY} that an earlier search has left there, or none, in a folder that can be written to"
        found = f"{type(error).__name__}: {str(error)[:200]}"
        message = f"The search in {out} cannot be opened."
        raise UserError(message, expected=wanted, received=found, hint="another folder for --out") from error


def _clear(out: Path) -> None:
    """Remove what trials have left that were killed; not those of another process that is at work."""
    for left in out.glob("trial-*/"):
        with suppress(UserError):
            handle = lock(left)
            shutil.rmtree(left, ignore_errors=True)
            os.close(handle)


def _ask_once(settings: Settings, splits: Splits) -> None:
    """A teacher's answers, where there is one, before the trials that all take them."""
    with StopRule().listen() as stop, in_use():
        teacher = open_teacher(settings, splits)
        if teacher and teacher.answers(splits.train, stop, mixtures(splits, settings)) is None:
            raise teacher.unfinished(stop)


def _same_search(study: Any, identity: str) -> None:
    if study.user_attrs.setdefault("identity", identity) != identity:
        raise UserError("The folder holds a search with other settings or data.", hint="another folder for --out")
    study.set_user_attr("identity", identity)


def _search(study: Any, splits: Splits, settings: Settings, searched: list[str], cuts: list[str], count: int, out: Path) -> bool:
    """Run the trials that are still to be run; true where Ctrl-C ended them."""
    optuna = _optuna()
    while len(_ended(study)) < count:
        trial = study.ask()
        values = {name: SPACES[name](trial, settings) for name in searched}
        if cuts:
            values["train_from"] = trial.suggest_categorical("train_from", cuts)
        stop = _Reporting(stop_at=settings.stop_at or None, budget_s=settings.budget or None, trial=trial)
        said = ", ".join(f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items())
        say(f"Trial {trial.number + 1} of {count}: {said}")
        try:
            with stop.listen():
                accuracy = _accuracy(splits, settings.with_values(**values), stop, out / f"trial-{trial.number}")
        except UserError as error:  # a rate at which the loss becomes infinite, a cut that the network does not have
            if stop.interrupted:
                return _given_up(study, trial)
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            say(f"Trial {trial.number + 1} failed: {error}", "yellow")
            continue
        if stop.interrupted:
            return _given_up(study, trial)
        trial.set_user_attr("seconds", round(stop.elapsed(), 1))
        trial.set_user_attr("accuracy", accuracy)
        state = optuna.trial.TrialState.PRUNED if stop.pruned else optuna.trial.TrialState.COMPLETE
        study.tell(trial, None if stop.pruned else accuracy, state=state)
        say(
            f"Trial {trial.number + 1}: validation accuracy {accuracy:.2%} {'(ended early) ' if stop.pruned else ''}"
            f"after {stop.elapsed():.0f} s."
        )
    return False


def _given_up(study: Any, trial: Any) -> bool:
    """A trial that Ctrl-C has ended does not count; always true."""
    trial.set_user_attr("interrupted", True)
    study.tell(trial, state=_optuna().trial.TrialState.FAIL)
    return True


def _accuracy(splits: Splits, settings: Settings, stop: _Reporting, folder: Path) -> float:
    """Validation accuracy of a training whose traces are then removed: a tuning keeps numbers, not models."""
    try:
        with in_use(), _Watched.create(folder, overwrite=True) as run:
            run.stop = stop
            return float(trained_on(splits, settings, run, stop).record["validation_accuracy"])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def table(study: Any) -> list[dict[str, Any]]:
    """The trials that have ended, in order; see ``tune``."""
    return [
        {
            "trial": trial.number + 1,
            "state": trial.state.name.lower(),
            "validation_accuracy": trial.user_attrs.get("accuracy"),
            "seconds": trial.user_attrs.get("seconds"),
            **trial.params,
        }
        for trial in _ended(study)
    ]


def _ended(study: Any) -> list[Any]:
    """The trials that were run to their end, or to where they were given up; not those that a person or a power cut ended."""
    return [
        trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished() and "interrupted" not in trial.user_attrs
    ]


def _write(rows: list[dict[str, Any]], study: Any, settings: Settings, out: Path) -> None:
    if not rows:
        return
    text = io.StringIO()
    columns = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(out / TRIALS, text.getvalue())
    if not any(row["state"] == "complete" for row in rows):
        raise UserError(
            "No trial ended well.", received=f"{len(rows)} trials", hint="look at trials.csv, and at the messages above"
        )
    best = study.best_trial
    write_text(out / BEST, _toml(settings, best.params, f"trial {best.number + 1}: validation accuracy {best.value:.4f}"))
    try:
        from frostline.plots_search import trials

        trials(rows, out / PICTURE, f"{model_name(settings)}: {len(rows)} trials")
    except UserError as error:
        say(f"No picture: {error}", "yellow")


def _toml(settings: Settings, found: dict[str, Any], why: str) -> str:
    """What was found, and all else that the search had set, as settings over the recipe's: the same training again."""
    known = settings.recipe in RECIPES
    chosen = settings.with_values(**found)
    plain = recipe(settings.recipe) if known else Settings(recipe=settings.recipe)
    bases = [each.as_dict() for each in (plain, begins_from(plain, chosen.train_from))]  # as Settings.with_toml reads it, and train
    lines = [f"# Over {'the recipe ' + settings.recipe if known else 'no recipe'}; {why}"]
    for name, value in chosen.as_dict().items():
        if name not in found and all(value == base[name] for base in bases):
            continue
        text = f"[{', '.join(map(_quoted, value))}]" if isinstance(value, tuple | list) else _quoted(value)
        lines.append(f"{name} = {text}")
    return "\n".join(lines) + "\n"


def _quoted(value: Any) -> str:
    return (
        json.dumps(value, ensure_ascii=False)
        if isinstance(value, str)
        else str(value).lower()
        if isinstance(value, bool)
        else repr(value)
    )


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise UserError("Tuning needs Optuna.", hint="pip install 'frostline[tune]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
