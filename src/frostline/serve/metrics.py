"""What a service counts, for Prometheus: requests, seconds, batches, the queue. Names and labels are few and bounded."""

from __future__ import annotations

import os
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 16, 32, 64)
#: Set where several processes serve: the folder in which they keep their counts, which the client library joins.
SHARED = "PROMETHEUS_MULTIPROC_DIR"


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
        self._queue.set(self._queued())

    def watch_queue(self, queued: Callable[[], int]) -> None:
        """Where the length of the queue is read."""
        self._queued = queued

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        self._queue.set(self._queued())
        if SHARED not in os.environ:
            return generate_latest(self.registry)
        joined = CollectorRegistry()
        MultiProcessCollector(joined)
        return generate_latest(joined)
