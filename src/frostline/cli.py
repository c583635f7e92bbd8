"""The program ``frostline``: its commands are gathered here from ``commands``, and a user's mistake is said without a traceback."""

from __future__ import annotations

import errno
import io
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from frostline import __version__
from frostline.commands.explaining import explain
from frostline.commands.judging import compare, evaluate, inspect
from frostline.commands.reporting import report
from frostline.commands.serving import serve
from frostline.commands.shipping import export, import_
from frostline.commands.training import train, tune
from frostline.commands.using import predict
from frostline.errors import UserError

app = typer.Typer(
    name="frostline",
    help="Trains, judges and ships image classifiers on the hardware you have.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

#: The exit code that Typer gives where Ctrl-C ended a command.
INTERRUPTED = 130
#: Packages of the extra "train" that whole modules stand on; others are asked for where they are used.
TRAINING = ("torch", "torchvision", "timm", "lightning_fabric", "huggingface_hub")
#: Those of the extra "serve".
SERVING = ("fastapi", "starlette", "uvicorn", "prometheus_client", "python_multipart")


def _version(show: bool) -> None:
    if show:
        typer.echo(f"frostline {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None: ...


for _command in (train, evaluate, inspect, predict, explain, compare, report, serve, tune, export):
    app.command()(_command)
app.command("import")(import_)


@app.command()
def recipes() -> None:
    """List the named experiments."""
    from frostline import show_lists

    show_lists.recipes()


@app.command()
def models() -> None:
    """List the backbones and the scratch networks."""
    from frostline import show_lists

    show_lists.models()


@app.command()
def cache(
    clear: Annotated[
        bool, typer.Option("--clear", help="Delete these, unless something is trained or inspected now; downloads stay.")
    ] = False,
) -> None:
    """Show the cache (features, teachers' answers, compiled graphs), or clear it, with unpacked models and self-tests' records."""
    from frostline import show_lists

    show_lists.cleared() if clear else show_lists.cache()


def _fail(error: UserError) -> None:
    typer.secho(f"Error: {error}", fg="red", err=True)
    sys.exit(2)


def _refused(error: OSError) -> UserError | None:
    """What to say of a file or folder that the system refuses; None where the error names none, as that of a connection."""
    if error.errno is None or not isinstance(error.filename, str | bytes):
        return None
    path = os.fsdecode(error.filename)
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    if _of_the_cache(path):
        hint = "FROSTLINE_HOME=FOLDER before the command keeps the cache elsewhere"
        hint += "; 'frostline cache --clear' empties it" if full else ""
    else:
        hint = "make room on that disk, or name another place" if full else "another place, or the right to use this one"
    received = "a file, where a folder is needed" if isinstance(error, FileExistsError) else error.strerror or str(error)
    return UserError(f"Cannot use {path}.", received=received, hint=hint)


def _of_the_cache(path: str) -> bool:
    """Whether a path is in the cache folder, or the folder cannot be made for its sake."""
    from frostline.files import home

    try:
        cache, place = home().absolute(), Path(path).absolute()
    except RuntimeError:  # nobody knows where the user's files are
        return False
    return place.is_relative_to(cache) or cache.is_relative_to(place)


def main() -> Any:
    """Run a command; a user's mistake, and a place that the system refuses, is said without a traceback and gives exit code 2."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # names have letters that a terminal may not have
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app(prog_name="frostline")
    except UserError as error:
        _fail(error)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in (*TRAINING, *SERVING):
            raise
        hint = f"pip install 'frostline[{'serve' if package in SERVING else 'train'}]'"
        _fail(UserError(f"This needs {package}, which the base install leaves out.", hint=hint))
    except RuntimeError as error:
        if "home directory" not in str(error):  # Path.expanduser of an account that there is not, or of one without a folder
            raise
        hint = "write the path out; FROSTLINE_HOME says where the cache is to be"
        _fail(UserError("Nobody knows where that home folder is.", received=str(error), hint=hint))
    except OSError as error:
        if (told := _refused(error)) is None:
            raise
        _fail(told)
    except SystemExit as ended:
        if ended.code == INTERRUPTED and sys.argv[1:2] != ["predict"]:  # which has said itself what it keeps
            typer.secho("Aborted. Cached features are kept, and the last whole epoch: train --resume RUN.", fg="yellow", err=True)
        raise


if __name__ == "__main__":
    main()
