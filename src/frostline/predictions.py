"""What a model said about every row of a split: the one value that all judging starts from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from frostline.data.imageset import UNKNOWN, fingerprint
from frostline.errors import UserError
from frostline.files import atomic_file

#: Version of the file's layout.
FORMAT = 1

#: How far a row of probabilities may be from one.
TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class Predictions:
    """Probabilities of K classes for N images, with the truth and the content digest of each.

    Attributes:
        ids: (N,) unique names of rows.
        labels: (N,) int64 in [0, K), or ``UNKNOWN`` (-1) for a class the model does not know: always wrong.
        probabilities: (N, K) float32 or float64, rows sum to one within 1e-3.
        classes: the K class names, in the order of the columns.
        digests: (N,) bytes of 16, the images' content digests.

    Raises:
        ValueError: the columns do not fit together, or hold values that are no probabilities.
    """

    ids: NDArray[np.str_]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.floating]
    classes: tuple[str, ...]
    digests: NDArray[np.bytes_]

    def __post_init__(self) -> None:
        _check_columns(self)
        _check_probabilities(self.probabilities)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def fingerprint(self) -> str:
        """Of the images and true classes that were predicted, in their order: that of an ``ImageSet`` of the same."""
        return fingerprint(self.classes, self.digests, self.labels)

    @property
    def predicted(self) -> NDArray[np.int64]:
        """(N,) the most probable class; of equals the first in class order."""
        best: NDArray[np.int64] = self.probabilities.argmax(axis=1).astype(np.int64)
        return best

    @property
    def correct(self) -> NDArray[np.bool_]:
        """(N,) whether the most probable class is the true one; false for ``UNKNOWN``."""
        hit: NDArray[np.bool_] = self.predicted == self.labels
        return hit

    def save(self, path: Path) -> None:
        """Write to ``path`` as .npz without pickles, atomically; equal predictions give equal bytes."""
        with atomic_file(path) as stream:
            np.savez(
                stream,
                format=np.int64(FORMAT),
                ids=self.ids,
                labels=self.labels,
                probabilities=self.probabilities,
                classes=np.array(self.classes, dtype=np.str_),
                digests=self.digests,
            )

    @classmethod
    def load(cls, path: Path) -> Predictions:
        """Read what ``save`` wrote.

        Raises:
            UserError: the file is missing, damaged, no predictions, or of a newer format.
        """
        columns = _read_columns(path)
        if (found := columns.pop("format", None)) is None or int(found) != FORMAT:
            raise UserError(f"{path} holds no predictions this version can read.", expected=f"format {FORMAT}", received=str(found))
        try:
            return cls(classes=tuple(map(str, columns.pop("classes"))), **columns)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"The predictions in {path} do not fit together.", received=str(error), hint=_AGAIN) from error


_AGAIN = "make them again with 'frostline evaluate'"


def _read_columns(path: Path) -> dict[str, NDArray]:
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError as error:
        raise UserError(f"There are no predictions at {path}.", expected="an .npz file written by Frostline") from error
    except Exception as error:  # zip and npy parsing fail in a dozen ways on damaged bytes; all mean the same to a reader
        raise UserError(
            f"The predictions in {path} are damaged.", received=f"{type(error).__name__}: {error}", hint=_AGAIN
        ) from error


def _check_columns(p: Predictions) -> None:
    n, k = len(p.labels), len(p.classes)
    wanted = {"ids": (n,), "labels": (n,), "digests": (n,), "probabilities": (n, k)}
    for name, shape in wanted.items():
        if getattr(p, name).shape != shape:
            raise ValueError(f"{name} has shape {getattr(p, name).shape}, not {shape}")
    if k == 0 or len(set(p.classes)) != k:
        raise ValueError("classes must be at least one name, none twice")
    if p.ids.dtype.kind != "U" or p.labels.dtype != np.int64 or p.digests.dtype != np.dtype("S16"):
        raise ValueError(f"ids, labels, digests must be text, int64, S16; not {p.ids.dtype}, {p.labels.dtype}, {p.digests.dtype}")
    if len(np.unique(p.ids)) != n:
        raise ValueError("ids must be unique")
    if n and (p.labels.min() < UNKNOWN or p.labels.max() >= k):
        raise ValueError(f"labels must lie in [0, {k}) or be {UNKNOWN}")


def _check_probabilities(values: NDArray[np.floating]) -> None:
    if values.dtype not in (np.float32, np.float64):
        raise ValueError(f"probabilities must be float32 or float64, not {values.dtype}")
    if not np.isfinite(values).all() or (values < 0).any():
        raise ValueError("probabilities must be finite and not negative")
    if (np.abs(values.sum(axis=1, dtype=np.float64) - 1) > TOLERANCE).any():
        raise ValueError(f"rows of probabilities must sum to 1 within {TOLERANCE:g}")
