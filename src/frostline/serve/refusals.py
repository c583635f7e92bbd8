"""Why a request is not answered: a status and four sentences. One place turns every reason into them; no web framework."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from frostline.decode import BadImage

#: Formats that are read, as they are told to a client.
FORMATS = "a JPEG, PNG, WebP, GIF, BMP or TIFF image"


@dataclass(eq=False)
class Refused(Exception):  # noqa: N818 - it is an answer, not a failure of the program
    """A request that is answered with an error.

    Attributes:
        status: of HTTP, 4xx or 503.
        reason: what is wrong, in one sentence.
        expected, received, hint: what would have been right, what came instead, what to do next; or empty.
        headers: to send with it.
    """

    status: int
    reason: str
    expected: str = ""
    received: str = ""
    hint: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__(self.reason)

    def told(self) -> dict[str, str]:
        """The four sentences."""
        return {"reason": self.reason, "expected": self.expected, "received": self.received, "hint": self.hint}

    def as_json(self) -> dict[str, Any]:
        """As every route of ours answers it."""
        return {"error": self.told()}

    def as_json_at(self, path: str) -> dict[str, Any]:
        """As the route of this path answers it: one text where the Open Inference Protocol is spoken."""
        return {"error": self.sentence()} if path == "/v2" or path.startswith("/v2/") else self.as_json()

    def sentence(self) -> str:
        """All in one line, for protocols that have one."""
        parts = (("expected", self.expected), ("received", self.received), ("try", self.hint))
        return "; ".join([self.reason, *(f"{name}: {text}" for name, text in parts if text)])


class Overloaded(Refused):
    """More images than the service keeps waiting. Nothing of the request was computed: it can be sent again."""

    def __init__(self, limit: int, what: str = "images") -> None:
        expected = f"at most {limit:,} {what} waiting"
        super().__init__(503, "The service is busy.", expected, hint="send it again later", headers={"Retry-After": "1"})


def of_image(error: BadImage) -> Refused:
    """The refusal of one image: 413 too large, 415 another format, 422 broken."""
    reason = str(error)
    if reason.startswith("over-large"):
        return Refused(413, f"The image is too large: {reason.removeprefix('over-large: ')}.", hint="reduce the image")
    if reason.startswith(("unsupported format", "not an image")):
        return Refused(415, "This is not an image of a format that is read.", FORMATS, reason.removeprefix("unsupported format: "))
    if reason.startswith("empty"):
        return Refused(400, "The image is empty.", FORMATS, "zero bytes")
    return Refused(422, "The image is broken.", f"{FORMATS}, whole", reason)
