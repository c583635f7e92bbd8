"""A model's self-test: ten drawn images and the probabilities that they must get wherever the model is run.

It catches a bad conversion, swapped classes, another preprocessing, a processor that computes otherwise. It is replayed once per
machine and model: a record under ``FROSTLINE_HOME`` says that it was passed here.
"""

from __future__ import annotations

import contextlib
import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import frostline
from frostline.drawn import drawn_images
from frostline.environment import cpu_flags, cpu_model
from frostline.errors import UserError
from frostline.files import COMPRESSIONS, digest_json, home, write_json
from frostline.model_card import SELFTEST, ModelCard

#: How far probabilities may be off, by precision of computing. In bf16 the winner must be the same, too, where it is ahead by more.
#: In int8 a value beside the border of two levels falls to either side, as its sums were rounded; a level is half a percent of a
#: range.
TOLERANCE = {"f32": 1e-4, "bf16": 2e-2, "int8": 5e-2}
IMAGES = 10
#: What the probabilities in f32 are called, of a model that was measured in another precision.
EXACT = "exact"
#: What reading a file of arrays raises that somebody has changed.
UNREADABLE = (
    *(OSError, ValueError, KeyError, EOFError, MemoryError),
    *(RuntimeError, NotImplementedError, zlib.error, zipfile.BadZipFile),
)
#: A self-test that unpacks to more bytes is none: ten images of 2,048 x 2,048 are 126 MB.
MOST_BYTES = 1 << 27


def write_selftest(folder: Path, runner: Any, size: tuple[int, int], exact: Any = None) -> None:
    """Write drawn images of the stored ``size`` (h, w) with the probabilities that ``runner`` gives them.

    ``exact`` runs the same model in f32 where ``runner`` does not. Drawn images are unlike a model's own, and what bf16 says of
    them may be far from what f32 says: each is compared with its like.
    """
    images = drawn_images(IMAGES, *size, seed=10)
    more = {} if exact is None else {EXACT: exact.probabilities(images)}
    np.savez(folder / SELFTEST, images=images, probabilities=runner.probabilities(images), **more)


def read_selftest(folder: Path, exact: bool = False) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The images (N, h, w, 3) and their probabilities (N, K). Nothing is unpickled, whatever the file holds.

    Args:
        folder: the model directory.
        exact: the probabilities in f32, where the model keeps them beside those in its own precision; else these.

    Raises:
        UserError: it is no self-test.
    """
    path = folder / SELFTEST
    try:
        with zipfile.ZipFile(path) as packed:
            entries = {entry.filename: entry.file_size for entry in packed.infolist()}
            unbounded = [entry.filename for entry in packed.infolist() if entry.compress_type not in COMPRESSIONS]
        if set(entries) - {f"{EXACT}.npy"} != {"images.npy", "probabilities.npy"} or sum(entries.values()) > MOST_BYTES:
            raise ValueError(f"{len(entries)} entries of {sum(entries.values()):,} bytes")
        if unbounded:
            raise ValueError(f"neither stored nor deflated: {', '.join(unbounded)}")
        with np.load(path, allow_pickle=False) as archive:
            images, wanted = archive["images"], archive[EXACT if exact and f"{EXACT}.npy" in entries else "probabilities"]
        kinds = (images.dtype, images.ndim, wanted.dtype)
        if not images.size or kinds != (np.uint8, 4, np.float32) or wanted.shape[:1] != images.shape[:1]:
            raise ValueError(f"{images.dtype} {images.shape} and {wanted.dtype} {wanted.shape}")
    except UNREADABLE as error:
        raise UserError(f"{path} is no self-test.", received=f"{type(error).__name__}: {error}") from error
    return images, wanted


def keeps_exact(folder: Path) -> bool:
    """Whether the self-test has the probabilities in f32, too. Models in f32 need not, and older ones do not."""
    try:
        with zipfile.ZipFile(folder / SELFTEST) as packed:
            return f"{EXACT}.npy" in packed.namelist()
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return False  # what is wrong with it is said by whoever reads it


def replay_selftest(folder: Path, compiled: Any, precision: str, running: str = "") -> float:
    """Compare what the model says about its self-test images here with what it said where it was saved.

    Args:
        folder: the model directory.
        compiled: with ``probabilities``, as ``artifact.make_runner`` makes it.
        precision: whose tolerance counts.
        running: what ``compiled`` computes in. A model of bf16 that is run in f32 is compared with what it said in f32, within
            f32's tolerance, where that was kept.

    Returns:
        The greatest difference.

    Raises:
        UserError: a probability is off by more than the tolerance: another computation than the one that was measured.
    """
    exact = running == "f32" and keeps_exact(folder)
    precision = "f32" if exact and precision == "bf16" else precision
    images, wanted = read_selftest(folder, exact)
    try:
        found = compiled.probabilities(images)
    except RuntimeError as error:  # images of another size, say
        reason = " ".join(str(error).split())[-200:]
        raise UserError(f"The model {folder} cannot compute its self-test.", received=reason) from error
    worst = float(np.abs(found - wanted).max()) if found.shape == wanted.shape else float("nan")
    if not worst <= TOLERANCE[precision] or _other_winner(found, wanted, TOLERANCE[precision]):
        raise UserError(
            f"The model {folder} does not pass its self-test on this machine.",
            expected=f"the same winners, probabilities within {TOLERANCE[precision]:g} of those it was saved with",
            received=f"a difference of {worst:.3g}",
            hint="" if running == "f32" else "--precision f32",
        )
    return worst


def _other_winner(found: NDArray[np.float32], wanted: NDArray[np.float32], tolerance: float) -> bool:
    """Whether an answer that was decided, by more than the tolerance, has become another."""
    if wanted.shape[1] < 2:
        return False
    second, first = np.partition(wanted, -2, axis=1)[:, -2:].T
    return bool(((first - second > tolerance) & (found.argmax(1) != wanted.argmax(1))).any())


def pass_selftest(folder: Path, card: ModelCard, compiled: Any, precision: str, how: Mapping[str, Any]) -> None:
    """``replay_selftest``, unless this very computation passed it on this machine before.

    Args:
        folder, compiled: as there.
        card: the model's.
        precision: as there.
        how: what the computation depends on beside the model and the processor: the engine and its version, batch, precision.
    """
    key = {"model": card.digest, "frostline": frostline.__version__, "processor": [cpu_model(), *sorted(cpu_flags())], **how}
    try:
        record = home() / "selftests" / f"{digest_json(key)}.json"
        if json.loads(record.read_text("utf-8"))["key"] == key:
            return
    except (OSError, RuntimeError, ValueError, KeyError, TypeError):  # no record, no home at all, or one that somebody spoiled
        pass
    worst = replay_selftest(folder, compiled, precision, str(how["precision"]))
    with contextlib.suppress(OSError, RuntimeError):  # nowhere to keep it: it is replayed next time
        write_json(home() / "selftests" / f"{digest_json(key)}.json", {"key": key, "worst": worst})
