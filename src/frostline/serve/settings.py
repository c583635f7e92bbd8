"""What a service is told: where it listens, what it says, what it refuses. One frozen value; no web framework."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from frostline.errors import UserError

#: Where nobody but this machine can reach the service.
LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True)
class ServeSettings:
    """Settings of ``frostline serve``.

    Attributes:
        host, port: where to listen. Port 0: any that is free.
        top: classes named for each image where a request does not say.
        sure_from: the probability from which on an answer is sure; None: what the model's card says.
        max_request_bytes: larger bodies are refused, unread where their length is announced.
        max_images: of one request; never more than ``queue_size``, for which no such request would ever have room.
        max_pixels: of one image; more are refused from its header, before decoding.
        queue_size: images that have arrived and are not answered yet; beyond it requests are refused with 503.
        batch: images per inference. Fewer are padded to it, so large batches make a single image slow.
        wait_ms: how long a batch that is not full waits for images that are being decoded, in milliseconds.
        timeout_s: seconds in which a request's headers, then its body, must arrive, and then its answer must be there.
        api_key: what clients must show; empty: nothing.
        workers: processes.
        page: whether the web page is served too (extra "page"); what people have sent to it and wait for is known to one process
            only, so it goes with a single worker.
        cors_origins: origins whose pages may call the service from a browser; none: off.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    top: int = 3
    sure_from: float | None = None
    max_request_bytes: int = 32 * 2**20
    max_images: int = 64
    max_pixels: int = 50_000_000
    queue_size: int = 256
    batch: int = 4
    wait_ms: float = 2.0
    timeout_s: float = 30.0
    api_key: str = ""
    workers: int = 1
    page: bool = False
    cors_origins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if not value >= least:
                raise UserError(f"The setting {name} is too small.", expected=f"at least {least}", received=str(value))
        object.__setattr__(self, "max_images", min(self.max_images, self.queue_size))
        if self.sure_from is not None and not 0 <= self.sure_from <= 1:
            raise UserError("The setting sure_from is no probability.", expected="0 to 1", received=str(self.sure_from))

        if self.page and self.workers > 1:
            hint = "--no-page, or --workers 1"
            raise UserError("The page needs a single process.", expected="1 worker", received=str(self.workers), hint=hint)

    @property
    def local(self) -> bool:
        """Whether only this machine can reach the service."""
        return self.host in LOCAL

    def limits(self) -> dict[str, Any]:
        """What a client should know before it sends something."""
        return {
            "request_bytes": self.max_request_bytes,
            "images": self.max_images,
            "pixels": self.max_pixels,
            "seconds": self.timeout_s,
        }


_LEAST = {
    "port": 0,
    "top": 1,
    "max_request_bytes": 1,
    "max_images": 1,
    "max_pixels": 1,
    "queue_size": 1,
    "batch": 1,
    "wait_ms": 0,
    "timeout_s": 0.001,
    "workers": 1,
}
