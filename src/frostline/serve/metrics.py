"""What a service counts, for Prometheus: requests, seconds, batches, the queue. Names and labels are few and bounded."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 16, 32, 64)
#: Set where several processes serve: the folder in which they keep their counts, which the client library joins.
SHARED = "PROMETHEUS_MULTIPROC_DIR"


#: What such a folder of ours is called.
OWN = "frostline-metrics-"


class Metrics:
    """The counts of one service (or of all its processes, see ``SHARED``)."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._requests = Counter("frostline_requests", "Answered requests.", ("route", "status"), registry=registry)
        self._seconds = Histogram(
            "frostline_request_seconds", "From a request's headers to its answer.", ("route",), buckets=_SECONDS, registry=registry
        )
        self._images = Counter("frostline_images", "Images that arrived.", ("outcome",), registry=registry)
        self._batches = Histogram("frostline_batch_images", "Images computed together.", buckets=_SIZES, registry=registry)
        self._computing = Histogram(
            "frostline_batch_seconds", "From a batch's start to its end.", buckets=_SECONDS, registry=registry
        )
        self._queue = Gauge("frostline_queue_images", "Images not answered yet.", registry=registry, multiprocess_mode="livesum")
        self._queued: Callable[[], int] = lambda: 0
        self._joined = SHARED in os.environ

    def request(self, route: str, status: int, seconds: float) -> None:
        """A request was answered; ``route`` is its template, never what a client typed."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def images(self, read: int, refused: int) -> None:
        """Images were read, or could not be."""
        self._images.labels("read").inc(read)
        self._images.labels("refused").inc(refused)

    def computed(self, images: int, seconds: float) -> None:
        """A batch was computed."""
        self._batches.observe(images)
        self._computing.observe(seconds)

    def watch_queue(self, queued: Callable[[], int]) -> None:
        """Where the length of the queue is read."""
        self._queued = queued

    def claimed(self) -> None:
        """The queue has become longer or shorter. Another process may be asked for the counts, and does not see it."""
        if self._joined:
            self._queue.set(self._queued())

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        self._queue.set(self._queued())
        if not self._joined:
            return generate_latest(self.registry)
        _forget_the_dead(Path(os.environ[SHARED]))
        joined = CollectorRegistry()
        MultiProcessCollector(joined)
        return generate_latest(joined)


def _forget_the_dead(folder: Path) -> None:
    """Drop what processes that are gone last said of their queues; what they have counted stays."""
    if os.name != "posix" or not folder.name.startswith(OWN):
        return  # elsewhere signal 0 is a signal; and in an operator's folder processes of other machines may count
    for path in folder.glob("gauge_live*_*.db"):
        number = path.stem.rpartition("_")[2]
        if not number.isdecimal():
            continue
        try:
            os.kill(int(number), 0)
        except ProcessLookupError:
            with suppress(FileNotFoundError):  # another process has done it
                mark_process_dead(int(number), str(folder))
        except OSError:
            continue  # another user's, and alive
