"""What every route that takes images does: one body, one answer, within limits, for a client that still waits."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import Response

from frostline.serve.limits import Bodies, Gone
from frostline.serve.refusals import Overloaded, Refused
from frostline.serve.service import Model

T = TypeVar("T")


def answer_json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer, in ASCII: what a client sent may have half a surrogate pair in it, which no encoding writes."""
    body = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return Response(body, status, headers, "application/json")


async def answered(
    request: Request, model: Model, bodies: Bodies, work: Callable[[bytes], Coroutine[Any, Any, Response]]
) -> Response:
    """The answer that ``work`` gives for the body, unless the queue is full, it takes too long, or the client goes away."""
    settings = bodies.settings
    if model.batcher.full:
        raise Overloaded(settings.queue_size)
    async with bodies.arrived(request) as body:
        try:
            async with asyncio.timeout(settings.timeout_s):
                found: Response = await while_there(request, work(body))
                return found
        except TimeoutError as error:
            expected = f"an answer within {settings.timeout_s:g} seconds"
            raise Refused(503, "The answer took too long.", expected, headers={"Retry-After": "1"}) from error


async def while_there(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What ``work`` gives; it is cancelled when the client closes its connection.

    Raises:
        Gone: the client did.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_closed(request))
    gone.add_done_callback(lambda done: None if done.cancelled() else task.cancel())
    try:
        return await task
    except asyncio.CancelledError:
        if gone.done() and not gone.cancelled():
            raise Gone from None
        raise
    finally:
        gone.cancel()


async def _closed(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
