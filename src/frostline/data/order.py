"""Which rows an epoch shows, in which order, and what each batch of them is to be told.

All randomness comes from the pair (seed, epoch), never from a global generator: an epoch can be made again at any time. Every row
is shown in every epoch, unless easy rows are to be left out; the last batch may be smaller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

#: In place of an epoch's number: which version of each row the first epoch shows.
_FIRST_VERSION = 2**32 - 3


def stream_seed(*parts: int) -> int:
    """A 64-bit seed for the stream of random numbers that these numbers name: (seed, epoch), or (seed, epoch, purpose)."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0])


def generator(seed: int, epoch: int) -> torch.Generator:
    """A CPU generator for what an epoch draws: its order, its views, its augmentations."""
    return torch.Generator().manual_seed(stream_seed(seed, epoch))


def on_device(array: NDArray[Any], device: torch.device | str) -> Tensor:
    """An array as a tensor there. Read-only arrays (memory-mapped data) are copied: torch has no read-only tensors and warns."""
    return torch.from_numpy(array if array.flags.writeable else array.copy()).to(device)


def fits(features: Tensor, device: torch.device) -> bool:
    """Whether features may all lie on the device: on a GPU that they would fill by more than half they are sent batch by batch."""
    if device.type != "cuda":
        return True
    return features.numel() * features.element_size() <= torch.cuda.mem_get_info(device)[0] / 2


class OrderedRows:
    """N rows and their labels on the device, an order for every epoch, cut into batches.

    Attributes:
        answers: (M, K) float32, a teacher's, which batches then have in place of labels; None: there is no teacher.
        versions: of every row, of which an epoch shows one: version v of row i is number vN + i of ``answers``.
        losses: (N,) float32 on the device, the loss of each row when training saw it last, infinite before; None: not kept.
        sizes: (H, W) of what each epoch shows of every row, the last of them in all later epochs; empty: all there is.
        shapes, due: see ``Batches``.
        shown: rows that an epoch shows.
    """

    versions = 1
    sizes: tuple[tuple[int, int], ...] = ()

    def __init__(
        self,
        labels: NDArray[np.int64],
        batch_size: int,
        seed: int,
        shuffle: bool,
        device: torch.device | str,
        balanced: bool = False,
    ) -> None:
        if not len(labels):
            raise ValueError("there are no rows to make batches of")
        self.rows, self.batch_size, self.seed, self.shuffle = len(labels), batch_size, seed, shuffle
        self.shown, self.balanced = self.rows, balanced
        self.answers: Tensor | None = None
        self.losses: Tensor | None = None
        self._answer_of = self._told = torch.empty(0, dtype=torch.int64)
        self._begun: Tensor | None = None
        self.due: Callable[[], float] = lambda: 0.0
        self.device = torch.device(device)
        self.labels = on_device(np.ascontiguousarray(labels, dtype=np.int64), device)

    @property
    def shapes(self) -> int:
        """See ``Batches``."""
        return max(1, len(self.sizes))

    def size(self, number: int) -> tuple[int, int]:
        """Which of ``sizes`` the epoch of this number has, or a later one's where the clock of a budget is further on."""
        return self.sizes[min(max(number, int(self.due())), len(self.sizes) - 1)]

    def __len__(self) -> int:
        return -(-self.shown // self.batch_size) - self._one_is_left

    def prepare(self, number: int) -> None:
        """See ``Batches``; nothing, where all rows are there from the beginning."""

    def learn_from(self, answers: NDArray[np.float32] | None, places: NDArray[np.int64] | None = None) -> Self:
        """These batches with a teacher's answers in place of labels; as they are where there are none.

        Args:
            answers: (M, K), which may lie in a file.
            places: (versions N,) which of them is whose; None: the rows' own, one after the other.
        """
        if answers is not None:
            places = np.arange(len(answers)) if places is None else places
            if len(places) != self.rows * self.versions:
                raise ValueError(f"expected answers for {self.rows * self.versions} rows, not {len(places)}")
            held = on_device(answers, "cpu")
            self.answers = held.to(self.device) if fits(held, self.device) else held
            self._answer_of = torch.from_numpy(places).to(self.answers.device)
        return self

    def leave_out(self, share: float) -> Self:
        """These batches without a share of the rows in every epoch, of easy ones; as they are where it is 0.

        Of the rows with the lowest losses when they were last seen, twice as many as are to be left out, a random half is. So rows
        that are easy now come back in later epochs, and those that are hard are in every one, as are those that the first epoch
        has not shown: in the second, those that it has shown may be fewer than twice as many. It leaves out what teaches little
        (Qin et al. 2024, InfoBatch, arXiv 2303.04947, who draw from the rows below the mean loss and scale up the others'
        gradients, which is not done here). As many rows are left out in each epoch, so that the schedule knows its steps.

        Args:
            share: 0 to 0.5.
        """
        self.shown = self.rows - int(share * self.rows)
        if self.shown < self.rows:
            self.losses = torch.full((self.rows,), torch.inf, device=self.device)
        return self

    def learned(self, losses: Tensor) -> None:
        """Keep the losses (B,) of the rows of the batch that was given last."""
        if self.losses is not None:
            self.losses[self._told.to(self.losses.device)] = losses.to(self.losses)

    def version(self, rows: Tensor, number: int) -> Tensor:
        """Which version of each of these rows the epoch of this number shows, as vN + i: all in turn, from a random one on."""
        if self.versions == 1:
            return rows
        if self._begun is None:
            drawn = generator(self.seed, _FIRST_VERSION)
            self._begun = torch.randint(0, self.versions, (self.rows,), generator=drawn).to(self.device)
        return (self._begun[rows] + number) % self.versions * self.rows + rows

    def targets(self, rows: Tensor, versions: Tensor | None = None) -> Tensor:
        """What the batch of these rows, which is given now, is to be told: (B,) labels, or a teacher's (B, K) answers.

        Args:
            rows: (B,) numbers of rows.
            versions: (B,) what ``version`` says of them; None: there is one of each.
        """
        self._told = rows
        if self.answers is None:
            return self.labels[rows.to(self.labels.device)]
        asked = rows if versions is None else versions
        return self.answers[self._answer_of[asked.to(self.answers.device)]].to(self.device)

    @property
    def _one_is_left(self) -> bool:
        """Whether a last batch would have one row, in training: BatchNorm has no statistics of one row. It joins the one before."""
        return self.shuffle and self.shown > self.batch_size and self.shown % self.batch_size == 1

    def order(self, drawn: torch.Generator) -> Iterator[Tensor]:
        """The row numbers of each batch of an epoch, in order."""
        if not self.shuffle:
            rows = torch.arange(self.rows)
        elif self.balanced:
            labels = self.labels.cpu()
            chances = 1.0 / torch.bincount(labels).double()[labels]
            rows = torch.multinomial(chances, self.rows, replacement=True, generator=drawn)
        else:
            rows = self._without_easy(torch.randperm(self.rows, generator=drawn), drawn)
        batches = list(rows.to(self.device).split(self.batch_size))
        if self._one_is_left:
            batches[-2:] = [torch.cat(batches[-2:])]
        return iter(batches)

    def _without_easy(self, rows: Tensor, drawn: torch.Generator) -> Tensor:
        """The rows without those that this epoch leaves out, in the same order; see ``leave_out``."""
        if self.losses is None:
            return rows
        count, losses = self.rows - self.shown, self.losses.cpu()[rows]
        seen = int(losses.isfinite().sum())
        candidates = max(count, min(2 * count, seen)) if seen else 2 * count  # in the first epoch, any
        easy = losses.argsort(stable=True)[:candidates]
        left_out = easy[torch.randperm(len(easy), generator=drawn)[:count]]
        stays = torch.ones(len(rows), dtype=torch.bool)
        stays[left_out] = False
        return rows[stays]
