"""Runs the service: loads the models, listens, and stops without losing what it has accepted. One process or several."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import socket
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from uvicorn.supervisors import Multiprocess

from frostline.environment import cores
from frostline.errors import UserError
from frostline.progress import say
from frostline.serve import logs
from frostline.serve.api import create_app
from frostline.serve.connections import PatientConfig
from frostline.serve.metrics import OWN, SHARED
from frostline.serve.predictor import Predictor
from frostline.serve.settings import ServeSettings

#: Seconds that idle connections stay open after SIGTERM, for requests that are on their way.
LINGER_S = 1.0
#: Seconds after which a connection that is kept open without a request is closed; longer than the 60 of usual balancers.
KEEP_ALIVE_S = 75
#: A request's line and headers, in bytes.
HEAD_BYTES = 32 * 1024
#: Seconds in which another process must say that it lives; loading a model on a busy machine takes some.
HEALTHCHECK_S = 60
_BACKLOG = 2048


@dataclass(frozen=True)
class Application:
    """What each process makes its application from; plain values, so that they can be handed to another process."""

    models: tuple[tuple[str, str], ...]
    precision: str
    settings: ServeSettings
    log_level: str = "info"

    def __call__(self) -> FastAPI:
        logs.configure(self.log_level)
        return create_app({name: self.load(folder) for name, folder in self.models}, self.settings)

    def load(self, folder: str) -> Predictor:
        """A model as each process has it; its self-test, once passed, is passed for all of them."""
        threads = max(1, cores() // self.settings.workers)
        return Predictor(folder, precision=self.precision, batch=self.settings.batch, threads=threads)


def named(models: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """(name, folder) of models given as ``NAME=FOLDER`` or as a folder, which is then called as the folder is.

    Raises:
        UserError: two have one name, or a name has other characters than letters, digits, ``.``, ``_`` and ``-``.
    """
    found: dict[str, str] = {}
    for text in models:
        name, told, folder = text.partition("=") if not Path(text).exists() else ("", "", "")
        if not told:
            name, folder = _called(text), text
        if not re.fullmatch(r"[\w.-]+", name, re.ASCII):
            raise UserError("A model's name stands in addresses.", expected="letters, digits, . _ -", received=name)
        if name in found:
            raise UserError(f"Two models are called {name}.", hint="--model NAME=FOLDER names them")
        found[name] = folder
    return tuple(found.items())


def _called(folder: str) -> str:
    path = Path(folder).resolve()
    name = path.parent.name if path.name == "model" else path.name
    return re.sub(r"[^\w.-]+", "-", name, flags=re.ASCII).strip("-") or "model"


def page_installed() -> bool:
    """Whether the extra "page" is there."""
    return importlib.util.find_spec("gradio") is not None


def serve(application: Application) -> None:
    """Serve until SIGTERM or SIGINT; then answer what was accepted, and return.

    Raises:
        UserError: the address is taken or not ours, or, before several processes are started, a model cannot be used.
    """
    settings = application.settings
    if settings.workers > 1:  # what is wrong with a model is said once, and not by every process that is started in another's place
        for _, folder in application.models:
            application.load(folder)
    listening = _listen(settings)
    host, port = listening.getsockname()[:2]
    warn(settings)
    say(f"Listening on http://{f'[{host}]' if ':' in host else host}:{port} (Ctrl-C stops)")
    for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises them again when it has stopped: that is no failure
        signal.signal(number, lambda *_: None)
    if settings.workers == 1:
        uvicorn.Server(_config(application)).run([listening])
        return
    with _shared_counts():
        Multiprocess(_config(application), [listening]).run()


def warn(settings: ServeSettings) -> None:
    """Say it where anyone in the network may use the service."""
    if not settings.local and not settings.api_key:
        say(f"Whoever reaches {settings.host} can use this service: FROSTLINE_API_KEY asks for a key.", "yellow")


def _listen(settings: ServeSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((settings.host, settings.port))
    except OSError as error:
        listening.close()
        received = f"{settings.host} port {settings.port}: {error.strerror or error}"
        raise UserError("The service cannot listen there.", received=received, hint="--port 0 takes any that is free") from error
    listening.listen(_BACKLOG)
    listening.set_inheritable(True)
    return listening


def _config(application: Application) -> PatientConfig:
    settings = application.settings
    return PatientConfig(
        application,
        factory=True,
        workers=settings.workers,
        patience_s=settings.timeout_s,
        linger_s=LINGER_S,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=int(2 * settings.timeout_s + LINGER_S) + 1,
        h11_max_incomplete_event_size=HEAD_BYTES,
        timeout_worker_healthcheck=HEALTHCHECK_S,
        backlog=_BACKLOG,
    )


@contextmanager
def _shared_counts() -> Iterator[None]:
    """A folder in which all processes keep their counts while inside; an operator's own choice is left alone."""
    if SHARED in os.environ:
        yield
        return
    with tempfile.TemporaryDirectory(prefix=OWN) as place:
        os.environ[SHARED] = place
        yield
