"""The Open Inference Protocol v2, as Triton's and KServe's clients speak it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from fastapi import FastAPI, Request
from fastapi.responses import Response

from frostline import __version__
from frostline.serve import described, tensors
from frostline.serve.answering import answer_json, answered
from frostline.serve.limits import Bodies
from frostline.serve.refusals import Refused
from frostline.serve.service import Model, Service

#: A model directory has no versions: each is its own.
VERSION = "1"
_LENGTH = "Inference-Header-Content-Length"


def add_protocol(app: FastAPI, service: Service) -> None:
    """Add the protocol's routes."""
    _add_states(app, service)
    _add_metadata(app, service)
    _add_infer(app, service)


def protocol_error(refused: Refused) -> Response:
    """An error as the protocol has them: one text."""
    return Response(json.dumps(refused.as_json_at("/v2")), refused.status, refused.headers, "application/json")


def _versioned(service: Service, name: str, version: str) -> Model:
    if version != VERSION:
        raise Refused(404, "There is no such version.", VERSION, version[:40])
    return service.find(name)


def _add_states(app: FastAPI, service: Service) -> None:
    @app.get("/v2/health/live", tags=["v2"], responses=described.V2_LIVE)
    async def live() -> Response:
        """Whether the process lives."""
        return answer_json({"live": True})

    @app.get("/v2/health/ready", tags=["v2"], responses=described.V2_READY)
    async def ready() -> Response:
        """Whether it takes requests."""
        is_ready = bool(app.state.ready)
        return answer_json({"ready": is_ready}, 200 if is_ready else 503)

    @app.get("/v2/models/{name}/versions/{version}/ready", tags=["v2"], responses=described.V2_MODEL_READY)
    @app.get("/v2/models/{name}/ready", tags=["v2"], responses=described.V2_MODEL_READY)
    async def model_ready(name: str, version: str = VERSION) -> Response:
        """Whether a model takes requests."""
        model = _versioned(service, name, version)
        return answer_json({"name": model.name, "ready": bool(app.state.ready)}, 200 if app.state.ready else 503)


def _add_metadata(app: FastAPI, service: Service) -> None:
    @app.get("/v2", tags=["v2"], responses=described.V2_SERVER)
    async def server() -> Response:
        """What the server is."""
        return answer_json({"name": "frostline", "version": __version__, "extensions": ["binary_tensor_data", "classification"]})

    @app.get("/v2/models/{name}/versions/{version}", tags=["v2"], responses=described.V2_MODEL)
    @app.get("/v2/models/{name}", tags=["v2"], responses=described.V2_MODEL)
    async def metadata(name: str, version: str = VERSION) -> Response:
        """A model's inputs, of which a request has one, and its output."""
        return answer_json(_metadata(_versioned(service, name, version)))


def _metadata(model: Model) -> dict[str, Any]:
    K = len(model.predictor.classes)
    return {
        "name": model.name,
        "versions": [VERSION],
        "platform": "frostline_openvino",
        "inputs": list(tensors.INPUTS),
        "outputs": [{"name": tensors.OUTPUT, "datatype": "FP32", "shape": [-1, K]}],
    }


def _add_infer(app: FastAPI, service: Service) -> None:
    bodies: Bodies = app.state.bodies

    told: dict[str, Any] = {"tags": ["v2"], "responses": described.V2_INFER, "openapi_extra": described.V2_INFER_BODY}

    @app.post("/v2/models/{name}/versions/{version}/infer", **told)
    @app.post("/v2/models/{name}/infer", **told)
    async def infer(request: Request, name: str, version: str = VERSION) -> Response:
        """Probabilities of images, as JSON or with the binary extension. An image that cannot be used refuses the whole request."""
        model = _versioned(service, name, version)
        return await answered(request, model, bodies, lambda body: _infer(request, service, model, body))


async def _infer(request: Request, service: Service, model: Model, body: bytes) -> Response:
    with model.batcher.claim(1) as claim:
        length = request.headers.get(_LENGTH)
        asked = await service.readers.parsed(tensors.parse, body, length, service.settings.max_images)
        claim.grow(len(asked.images) - 1)
        request.state.about = {"model": model.name, "images": len(asked.images), "bytes": len(body)}
        rows = await service.rows(model, asked.images, claim)
    for number, row in enumerate(rows):
        if isinstance(row, Refused):
            raise Refused(row.status, f"Image {number}: {row.reason}", row.expected, row.received, row.hint)
    found = np.stack([row for row in rows if not isinstance(row, Refused)])
    said, json_length = tensors.answer(model.name, VERSION, asked, found, model.predictor.classes)
    if json_length is None:
        return Response(said, media_type="application/json")
    return Response(said, headers={_LENGTH: str(json_length)}, media_type="application/octet-stream")
