"""A service in this process on a port of its own, and predictors whose pace a test decides."""

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from drawing import encoded
from PIL import Image
from toymodel import write_toy

from frostline.drawn import drawn_images
from frostline.serve.connections import PatientConfig
from frostline.serve.predictor import Predictor

SIDE = 8


def toy(folder: Path, batch: int = 4) -> Predictor:
    """A predictor whose probabilities ``toymodel.probabilities`` works out for images of 8x8 pixels."""
    return Predictor(write_toy(folder / "toy" / "model"), batch=batch, threads=1)


def pictures(n: int, seed: int = 0) -> tuple[np.ndarray, list[bytes]]:
    """Drawn images of the toy's size, and the same as PNG files."""
    pixels = drawn_images(n, SIDE, SIDE, seed)
    return pixels, [encoded(Image.fromarray(each), "PNG") for each in pixels]


class Paced:
    """A predictor that waits before each block: for ``seconds``, and until ``gate`` is open."""

    def __init__(self, predictor: Predictor, seconds: float = 0.0) -> None:
        self._predictor, self.seconds = predictor, seconds
        self.gate = threading.Event()
        self.gate.set()
        self.blocks: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._predictor, name)

    def stored(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for block in blocks:
            self.blocks.append(len(block))
            assert self.gate.wait(30)
            time.sleep(self.seconds)
            yield from self._predictor.stored([block])


@contextmanager
def live(app: Any, patience_s: float = 30.0, linger_s: float = 0.0) -> Iterator[int]:
    """The port of a server of this application, in a thread; stopped, with all its connections closed, at the end of the block."""
    patient = {"patience_s": patience_s, "linger_s": linger_s}
    config = PatientConfig(app, port=0, log_config=None, access_log=False, ws="none", timeout_graceful_shutdown=5, **patient)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.005)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
