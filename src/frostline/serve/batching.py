"""Images of several requests are computed together: a bounded queue, and one thread that feeds the predictor."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.serve.predictor import Predictor
from frostline.serve.refusals import Overloaded, Refused

Images = NDArray[np.uint8]
Probabilities = NDArray[np.float32]


@dataclass(eq=False)
class _Job:
    """The images (n, h, w, 3) of one request and, row by row, their probabilities; ``next`` is the first that was not taken yet."""

    images: Images
    found: Probabilities
    future: Future[Any] = field(default_factory=Future)
    next: int = 0
    answered: int = 0


#: Rows of a job that are in one block: (job, first row, one past the last).
_Part = tuple[_Job, int, int]


class Claim:
    """Places in the queue, held from a request's arrival to its answer; a context manager that gives them back."""

    def __init__(self, batcher: MicroBatcher, images: int) -> None:
        self._batcher, self.images = batcher, 0
        self.grow(images)

    def grow(self, images: int) -> None:
        """Claim so many more places.

        Raises:
            Overloaded: there are not so many; what was claimed before is still held.
        """
        self._batcher.take(images)
        self.images += images

    def __enter__(self) -> Claim:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._batcher.give_back(self.images)
        self.images = 0


class MicroBatcher:
    """Gathers images of all requests into the predictor's batches. Safe in threads and on any event loop.

    Args:
        predictor: whose ``batch`` is the size of a block; only the batcher's own thread calls it.
        queue_size: images that are claimed at most, from their arrival to their answer.
        wait_s: how long a block that is not full waits, while images are on their way, in seconds.
        computed: told after each block how many images it had and how many seconds it took.
        changed: called after places were claimed or given back.
    """

    def __init__(
        self,
        predictor: Predictor,
        queue_size: int = 256,
        wait_s: float = 0.002,
        computed: Callable[[int, float], None] = lambda images, seconds: None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.predictor, self.queue_size, self.wait_s, self._computed = predictor, queue_size, wait_s, computed
        self._claims_changed = changed
        self._changed = threading.Condition()
        self._jobs: deque[_Job] = deque()
        self._flying: deque[tuple[list[_Part], float]] = deque()
        self.claimed = self.waiting = self.computing = 0
        self._closed = False
        self._thread: threading.Thread | None = None

    # places in the queue

    @property
    def full(self) -> bool:
        """Whether not a single image more is taken."""
        return self.claimed >= self.queue_size

    def claim(self, images: int) -> Claim:
        """Places for so many images; ``Overloaded`` where there are not so many."""
        return Claim(self, images)

    def take(self, images: int) -> None:
        with self._changed:
            if self.claimed + images > self.queue_size:
                raise Overloaded(self.queue_size)
            self.claimed += images
        self._claims_changed()

    def give_back(self, images: int) -> None:
        with self._changed:
            self.claimed -= images
            if self._coming() <= 0:
                self._changed.notify()
        self._claims_changed()

    def _coming(self) -> int:
        """Images that have arrived but are not decoded yet: worth a short wait."""
        return self.claimed - self.waiting - self.computing

    # in

    async def submit(self, stored: Images, claim: Claim | None = None) -> Probabilities:
        """Probabilities (n, K) of n images (n, h, w, 3) of the stored size; cancelling it drops what was not computed yet.

        Raises:
            Overloaded: without a ``claim`` (places held by the caller), where the queue has not so many.
        """
        if claim is None:
            with self.claim(len(stored)):
                return await self._answered(stored)
        return await self._answered(stored)

    async def _answered(self, stored: Images) -> Probabilities:
        job = _Job(stored, self._room(len(stored)))
        if not len(stored):
            return job.found
        self._enqueue(job)
        try:
            return await asyncio.wrap_future(job.future)
        except asyncio.CancelledError:
            self._drop(job)
            raise

    async def read_and_submit(self, pool: Executor, read: Callable[[], Images | Refused]) -> Probabilities | Refused:
        """As ``submit``, of one image (h, w, 3) that a thread of ``pool`` reads: from there it joins the queue by itself.

        The event loop, which all requests share, hears of it when it is answered, and not before. Whoever calls holds the claim;
        cancelling leaves out the reading where no thread has begun it.
        """
        answered: Future[Probabilities | Refused] = Future()
        jobs: list[_Job] = []

        def work() -> None:
            try:
                image = None if answered.cancelled() else read()
                if isinstance(image, Refused) and answered.set_running_or_notify_cancel():
                    answered.set_result(image)
                elif image is not None and not isinstance(image, Refused) and not answered.cancelled():
                    jobs.append(_Job(image[None], self._room(1), answered))
                    self._enqueue(jobs[0])
            except BaseException as error:
                if not answered.done() and answered.set_running_or_notify_cancel():
                    answered.set_exception(error)

        pool.submit(work)
        try:
            return await asyncio.wrap_future(answered)
        except asyncio.CancelledError:
            for job in jobs:
                self._drop(job)
            raise

    def _room(self, images: int) -> Probabilities:
        return np.empty((images, len(self.predictor.classes)), np.float32)

    def _enqueue(self, job: _Job) -> None:
        with self._changed:
            if self._closed:
                raise Overloaded(0)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="inference", daemon=True)
                self._thread.start()
            self._jobs.append(job)
            self.waiting += len(job.images)
            if self.waiting >= self.predictor.batch or self._coming() <= 0 or self.waiting == len(job.images):
                self._changed.notify()

    def _drop(self, job: _Job) -> None:
        """Nobody waits for it any more: what was not taken yet is not computed."""
        with self._changed:
            if job in self._jobs:
                self._jobs.remove(job)
                self.waiting -= len(job.images) - job.next

    def open(self) -> None:
        """Take images again after ``close``."""
        self._closed = False

    def close(self) -> None:
        """Compute what is queued, then end the thread; later images are refused."""
        with self._changed:
            self._closed = True
            self._changed.notify()
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()

    # through

    def _work(self) -> None:
        while (first := self._first()) is not None:
            try:
                self._flying.append((first, time.perf_counter()))
                for probabilities in self.predictor.stored(self._blocks(first)):
                    self._deliver(probabilities)
            except Exception as error:
                self._fail(error)

    def _first(self) -> list[_Part] | None:
        """The next block, waited for; None when the batcher is closed and everything is computed."""
        with self._changed:
            while True:
                while not self._jobs and not self._closed:
                    self._changed.wait()
                if not self._jobs:
                    return None
                deadline = time.monotonic() + self.wait_s
                while self.waiting < self.predictor.batch and self._coming() > 0 and not self._closed:
                    if (left := deadline - time.monotonic()) <= 0 or not self._changed.wait(left):
                        break
                if parts := self._cut():
                    return parts

    def _more(self) -> list[_Part] | None:
        """Another block while the first is at work: a full one, or what there is when nothing else is on its way."""
        with self._changed:
            if self.waiting >= self.predictor.batch or (self.waiting and self._coming() <= 0):
                return self._cut() or None
            return None

    def _cut(self) -> list[_Part]:
        """Take at most a block from the queue."""
        parts: list[_Part] = []
        room = self.predictor.batch
        while room and self._jobs:
            job = self._jobs[0]
            last = min(job.next + room, len(job.images))
            parts.append((job, job.next, last))
            taken = last - job.next
            job.next, room = last, room - taken
            self.waiting -= taken
            self.computing += taken
            if last == len(job.images):
                self._jobs.popleft()
        return parts

    def _blocks(self, parts: list[_Part]) -> Iterator[Images]:
        yield _joined(parts)
        while (more := self._more()) is not None:
            self._flying.append((more, time.perf_counter()))
            yield _joined(more)

    # out

    def _deliver(self, probabilities: Probabilities) -> None:
        parts, started = self._flying.popleft()
        self._landed(parts)
        row = 0
        for job, first, last in parts:
            job.found[first:last] = probabilities[row : row + last - first]
            row += last - first
            job.answered += last - first
            if job.answered == len(job.images) and job.future.set_running_or_notify_cancel():
                job.future.set_result(job.found)
        self._computed(row, time.perf_counter() - started)

    def _landed(self, parts: list[_Part]) -> None:
        with self._changed:
            self.computing -= sum(last - first for _, first, last in parts)

    def _fail(self, error: Exception) -> None:
        """Whoever waits for a block that could not be computed is told; the rest of its job is dropped."""
        while self._flying:
            parts, _ = self._flying.popleft()
            self._landed(parts)
            for job, _, _ in parts:
                self._drop(job)
                if not job.future.done() and job.future.set_running_or_notify_cancel():
                    job.future.set_exception(error)


def _joined(parts: list[_Part]) -> Images:
    return np.concatenate([job.images[first:last] for job, first, last in parts])
