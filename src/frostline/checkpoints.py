"""Checkpoints of a training: each file whole or not there, the newest two kept, a damaged one passed over and said."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from frostline.config import NOT_OF_THE_MODEL, Settings
from frostline.data.imageset import Splits
from frostline.errors import UserError
from frostline.files import PARTIAL, digest_bytes, digest_json, write_bytes
from frostline.progress import say

KEPT = 2
#: Share of a training's time that its checkpoints may take: where epochs are short, not each of them is kept.
SHARE = 0.05
#: Bytes a second at which the first is expected to be written; those after it, as the last one was.
EXPECTED_RATE = 1e9


def training_identity(settings: Settings, splits: Splits, weights: str = "", teacher: str = "") -> str:
    """Digest of all that decides what a training becomes: settings, images, starting weights, teacher."""
    chosen = {key: value for key, value in settings.identity().items() if key not in NOT_OF_THE_MODEL}
    taught = [teacher] if teacher else []
    return digest_json([chosen, splits.train.fingerprint, splits.validation.fingerprint, weights, *taught])


def noted(folder: Path) -> dict[str, Any]:
    """What the newest checkpoint of a folder that can be read notes beside its state; empty where there is none."""
    for path in _newest_first(folder):
        with suppress(SafetensorError, ValueError, AttributeError), safe_open(path, "pt") as opened:
            notes = json.loads(opened.metadata().get("notes", "{}"))
            if isinstance(notes, dict):
                return notes
    return {}


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("epoch-*.safetensors"), reverse=True)


def _is_whole(path: Path, data: bytes) -> bool:
    return digest_bytes(data) == path.stem.rpartition("-")[2]


@dataclass(frozen=True)
class State:
    """What a training needs to go on: tensors by name, and JSON values."""

    tensors: dict[str, Tensor]
    values: dict[str, Any] = field(default_factory=dict)


class Checkpoints:
    """The checkpoints in a folder: ``epoch-NUMBER-DIGEST.safetensors``, DIGEST being that of the file's bytes.

    Args:
        folder: made when the first is saved.
        identity: of the training (its settings, data and starting weights): checkpoints of another are an error.
        notes: JSON values that are wanted before the identity is known; see ``noted``.
        share: of the time, which ``offer`` may take.
    """

    def __init__(self, folder: Path, identity: str, notes: dict[str, Any] | None = None, share: float = SHARE) -> None:
        self.folder, self.identity, self.notes, self.share = folder, identity, notes or {}, share
        self._since, self._took = time.monotonic(), 0.0

    def offer(self, epoch: int, state: State) -> None:
        """``save``, where that takes at most ``share`` of the time since it was last done, or since these checkpoints were made.

        On a GPU an epoch of small images takes a quarter of a second, and a checkpoint a tenth.
        """
        bytes_ = sum(tensor.numel() * tensor.element_size() for tensor in state.tensors.values())
        if (self._took or bytes_ / EXPECTED_RATE) <= self.share * (time.monotonic() - self._since):
            started = time.monotonic()
            self.save(epoch, state)
            self._since = time.monotonic()
            self._took = self._since - started

    def save(self, epoch: int, state: State) -> None:
        """Keep ``state`` as it is after ``epoch`` epochs; older ones than the last ``KEPT`` go."""
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.tensors.items()}
        described = {"identity": self.identity, "notes": json.dumps(self.notes), "values": json.dumps(state.values)}
        data = save(tensors, metadata=described)
        write_bytes(self.folder / f"epoch-{epoch:06d}-{digest_bytes(data)}.safetensors", data)
        for path in _newest_first(self.folder)[KEPT:]:
            path.unlink()

    def load(self) -> State | None:
        """The newest whole one; None where there is none.

        Raises:
            UserError: it is of another training.
        """
        damaged = False
        for path in self.folder.glob(f".epoch-*{PARTIAL}"):  # of a process that was killed while it wrote
            path.unlink()
        for path in _newest_first(self.folder):
            data = path.read_bytes()
            if not _is_whole(path, data):
                say(f"The checkpoint {path.name} is damaged and is passed over.", "yellow")
                path.unlink()  # its number would else count among the newest
                damaged = True
                continue
            return State(load(data), json.loads(self._described(path)["values"]))
        if damaged:
            say("No whole checkpoint is left: training begins anew.", "yellow")
        return None

    def check(self) -> None:
        """As ``load``, but quickly, for what comes before minutes of work: a damaged checkpoint is left for ``load`` to find.

        Raises:
            UserError: the newest is of another training.
        """
        for path in _newest_first(self.folder)[:1]:
            with suppress(SafetensorError, KeyError, TypeError):
                try:
                    self._described(path)
                except UserError:
                    if _is_whole(path, path.read_bytes()):
                        raise

    def _described(self, path: Path) -> dict[str, str]:
        with safe_open(path, "pt") as opened:
            described: dict[str, str] = opened.metadata()
        if described["identity"] != self.identity:
            raise UserError(
                f"The checkpoints in {self.folder} are of another training.",
                expected="the same data, weights, settings and teacher",
                hint="train with --overwrite in place of --resume to begin anew",
            )
        return described
