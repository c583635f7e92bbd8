"""The service as a web application: a factory over predictors. Routes only parse, call the service and answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import HTMLResponse, Response
from starlette.exceptions import HTTPException

from frostline import __version__
from frostline.serve import described, reference
from frostline.serve.answering import answer_json, answered
from frostline.serve.bodies import images_of
from frostline.serve.gate import OPEN, Gate
from frostline.serve.limits import Bodies
from frostline.serve.metrics import Metrics
from frostline.serve.predictor import Predictor
from frostline.serve.protocol import add_protocol, protocol_error
from frostline.serve.refusals import Refused
from frostline.serve.service import Model, Service, Wish
from frostline.serve.settings import ServeSettings

ModelName = Annotated[str | None, Query(description="Its name; without: the first. GET /model names all.")]
Top = Annotated[int | None, Query(ge=1, description="Classes named for each image.")]
Sure = Annotated[
    float | None, Query(ge=0, le=1, allow_inf_nan=False, description="The probability from which on an answer is sure.")
]
Sets = Annotated[
    float | None,
    Query(gt=0, lt=1, description="A set of classes that holds the truth this often: one of the coverages in GET /model."),
]
Every = Annotated[bool, Query(description="The probabilities of all classes too.")]


#: What pages of other origins may send and read, where they may do anything.
_ACROSS_ORIGINS: dict[str, Any] = {
    "allow_methods": ["GET", "POST"],
    "allow_headers": ["Authorization", "Content-Type", "X-API-Key", "Inference-Header-Content-Length"],
    "expose_headers": ["Inference-Header-Content-Length", "Retry-After", "X-Request-Id"],
}


def create_app(predictors: Mapping[str, Predictor], settings: ServeSettings | None = None) -> FastAPI:
    """The service over these models, to be run by any ASGI server.

    Args:
        predictors: by name; the first is the default. Each belongs to this service from now on: nobody else may call it.
        settings: limits, key, page and the rest; host, port and workers are the server's business.

    ``app.state.service`` is the ``Service`` behind it.
    """
    settings = settings or ServeSettings()
    metrics = Metrics()
    service = Service(predictors, settings, metrics)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.open()
        app.state.ready = True
        yield
        app.state.ready = False
        await asyncio.to_thread(service.close)

    app = FastAPI(
        title="Frostline", version=__version__, description=described.ABOUT, lifespan=lifespan, docs_url=None, redoc_url=None
    )
    app.state.service, app.state.ready, app.state.bodies = service, False, Bodies(settings)
    _add_errors(app)
    _add_states(app, metrics)
    _add_model(app, service)
    _add_predict(app, service)
    add_protocol(app, service)
    if settings.api_key:
        plain = app.openapi
        app.openapi = lambda: described.with_key(plain(), OPEN)  # type: ignore[method-assign]
    app.add_middleware(Gate, api_key=settings.api_key, metrics=metrics)
    if settings.cors_origins:  # before the gate: browsers ask without the key whether they may send it
        app.add_middleware(CORSMiddleware, allow_origins=list(settings.cors_origins), **_ACROSS_ORIGINS)
    if settings.page:
        from frostline.serve.page import mount_page

        app = mount_page(app, predictors, settings)
    return app


# errors


def _add_errors(app: FastAPI) -> None:
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(RequestValidationError, _not_valid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _failed)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    if request.scope["path"].startswith("/v2"):
        return protocol_error(error)
    return answer_json(error.as_json(), error.status, error.headers)


async def _not_valid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    return await _refused(request, Refused(422, f"{where} is not valid.", first["msg"], str(first.get("input"))[:100]))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    hint = "GET /docs describes every route" if error.status_code in (404, 405) else ""
    return await _refused(request, Refused(error.status_code, str(error.detail), hint=hint, headers=dict(error.headers or {})))


async def _failed(request: Request, error: Exception) -> Response:
    """Our own fault: logged by the server with its traceback, told without."""
    return await _refused(request, Refused(500, "The service failed; its log says how."))


# routes


def _add_states(app: FastAPI, metrics: Metrics) -> None:
    @app.get("/healthz", tags=["state"], responses=described.HEALTH)
    async def healthz() -> Response:
        """Whether the process lives."""
        return answer_json({"status": "ok"})

    @app.get("/readyz", tags=["state"], responses=described.READY)
    async def readyz() -> Response:
        """Whether it takes requests."""
        ready = bool(app.state.ready)
        return answer_json({"status": "ready" if ready else "not ready"}, 200 if ready else 503)

    for path, route in (("/healthz", healthz), ("/readyz", readyz)):
        app.head(path, include_in_schema=False)(route)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        """All routes, for people."""
        return HTMLResponse(reference.page(app.openapi()))

    @app.get("/metrics", tags=["state"], responses=described.METRICS)
    async def prometheus() -> Response:
        """Counts for Prometheus."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_model(app: FastAPI, service: Service) -> None:
    @app.get("/model", tags=["model"], responses=described.MODEL)
    async def model(model: ModelName = None) -> Response:
        """What a model is: classes, preprocessing, scores, limits."""
        return answer_json(described.card(service, service.find(model)))


def _add_predict(app: FastAPI, service: Service) -> None:
    bodies: Bodies = app.state.bodies

    @app.post("/predict", tags=["model"], responses=described.PREDICT, openapi_extra=described.PREDICT_BODY)
    async def predict(
        request: Request,
        model: ModelName = None,
        top: Top = None,
        sure: Sure = None,
        sets: Sets = None,
        probabilities: Every = False,
    ) -> Response:
        """Classify images: files as multipart/form-data, base64 in JSON, or one image as the body itself.

        One image that cannot be used is an error. Among several, it is a row with its reason.
        """
        asked = service.find(model)
        wish = Wish(top or service.settings.top, sure, probabilities, service.promise(asked, sets))
        return await answered(request, asked, bodies, lambda body: _predict(request, service, asked, wish, body))


async def _predict(request: Request, service: Service, model: Model, wish: Wish, body: bytes) -> Response:
    with model.batcher.claim(1) as claim:
        kind = request.headers.get("content-type", "")
        named = await service.readers.parsed(images_of, body, kind, service.settings.max_images)
        claim.grow(len(named) - 1)
        names, images = zip(*named, strict=True)
        request.state.about = {"model": model.name, "images": len(images), "bytes": len(body)}
        answers = await service.answers(model, images, names, wish, claim)
    return answer_json({"model": model.name, "predictions": [each.as_json() for each in answers]})
