"""What the service says of itself: the OpenAPI description with its examples, and a model's card for clients."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from frostline.serve import bodies, tensors
from frostline.serve.refusals import FORMATS
from frostline.serve.service import Model, Service

ABOUT = (
    "Classifies images. Send raw images as they are: resizing and normalising are the model's. Every error of ours is "
    '`{"error": {"reason", "expected", "received", "hint"}}`; routes under /v2 speak the Open Inference Protocol and say '
    '`{"error": "…"}`. 503 comes with Retry-After: nothing was computed, send it again.'
)
Schema = dict[str, Any]
_TEXT: Schema = {"type": "string"}
_NUMBER: Schema = {"type": "number", "minimum": 0, "maximum": 1}
_BYTES: Schema = {"type": "string", "format": "binary"}


def _object(required: dict[str, Schema], optional: dict[str, Schema] | None = None) -> Schema:
    return {"type": "object", "required": list(required), "properties": {**required, **(optional or {})}}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _json(description: str, schema: Schema, example: Any = None) -> dict[str, Any]:
    said = {"schema": schema} if example is None else {"schema": schema, "example": example}
    return {"description": description, "content": {"application/json": said}}


_REASON = _object(dict.fromkeys(("reason", "expected", "received", "hint"), _TEXT))
_ERROR = _object({"error": _REASON})
_ERROR_EXAMPLE = {
    "error": {
        "reason": "This is not an image of a format that is read.",
        "expected": FORMATS,
        "received": "not an image: text",
        "hint": "",
    }
}
_MEANING = {
    400: "The body is empty or cannot be parsed.",
    401: "The key is missing or wrong.",
    404: "There is no such model.",
    408: "The body came too slowly.",
    413: "The request, an image or the number of images is too large.",
    415: "The body or the image is of a kind that is not read.",
    422: "A parameter is not valid, or the image is broken.",
    503: "Too many images are waiting. Retry-After says when to send it again.",
}
Responses = dict[int | str, dict[str, Any]]


def _errors(*statuses: int, schema: Schema = _ERROR, example: Any = _ERROR_EXAMPLE) -> Responses:
    found: Responses = {status: _json(_MEANING[status], schema, example) for status in statuses}
    if 503 in found:
        found[503]["headers"] = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "string"}}}
    return found


# states and the model

HEALTH: Responses = {200: _json("It lives.", _object({"status": _TEXT}), {"status": "ok"})}
READY: Responses = {
    200: _json("It takes requests.", _object({"status": _TEXT}), {"status": "ready"}),
    503: _json("It is starting or stopping.", _object({"status": _TEXT}), {"status": "not ready"}),
}
METRICS: Responses = {
    200: {"description": "Prometheus' text format.", "content": {"text/plain": {"schema": _TEXT}}},
    **_errors(401),
}
_CARD = _object(
    {
        "name": _TEXT,
        "models": _list(_TEXT),
        "classes": _list(_TEXT),
        "preprocess": {"type": "object"},
        "digest": _TEXT,
        "limits": {"type": "object"},
    },
    {"coverages": _list(_NUMBER)},
)
MODEL: Responses = {200: _json("Its card.", _CARD), **_errors(401, 404, 422)}


def card(service: Service, model: Model) -> dict[str, Any]:
    """What ``GET /model`` says: the card as the model directory has it, without what only training needed, and the limits."""
    known = model.predictor.card
    kept = ("architecture", "scores", "training", "for", "not_for", "licence", "licences")
    return {
        "name": model.name,
        "models": list(service.models),
        "classes": list(known.classes),
        "preprocess": known.preprocess.as_dict(),
        "views": known.views,
        "temperature": known.temperature,
        "precision": model.predictor.precision,
        "sure_from": service.sure_from(model),
        "coverages": list(model.predictor.coverages),
        "digest": known.digest,
        **{key: known.values[key] for key in kept if key in known.values},
        "limits": service.settings.limits(),
    }


# predict

_CLASS = _object({"class": _TEXT, "probability": _NUMBER})
_SURE: Schema = {"type": ["boolean", "null"]}
_SET = _object({"coverage": _NUMBER, "classes": {**_list(_TEXT), "minItems": 1}})
_ANSWER = _object(
    {"top": _list(_CLASS), "sure": _SURE},
    {"name": _TEXT, "set": _SET, "probabilities": {"type": "object", "additionalProperties": _NUMBER}},
)
_REFUSED_ANSWER = _object({"error": _REASON}, {"name": _TEXT})
_ANSWERS = _object({"model": _TEXT, "predictions": _list({"anyOf": [_ANSWER, _REFUSED_ANSWER]})})
_ANSWERS_EXAMPLE = {
    "model": "inside",
    "predictions": [
        {
            "name": "one.jpg",
            "top": [{"class": "cat", "probability": 0.97}, {"class": "dog", "probability": 0.02}],
            "sure": True,
            "set": {"coverage": 0.95, "classes": ["cat"]},
        },
        {"name": "two.jpg", **_ERROR_EXAMPLE},
    ],
}
PREDICT: Responses = {
    200: _json("An answer for each image, in order.", _ANSWERS, _ANSWERS_EXAMPLE),
    **_errors(400, 401, 404, 408, 413, 415, 422, 503),
}
#: A transparent PNG of one pixel.
_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGBgAAAABQABpfZFQAAAAABJRU5ErkJggg=="
_FILES = {"type": "object", "properties": {field: _list(_BYTES) for field in sorted(bodies.FIELDS)}, "additionalProperties": False}
_BASE64 = {
    "oneOf": [
        {**_object({"images": {**_list(_TEXT), "minItems": 1}}), "additionalProperties": False},
        {**_object({"image": _TEXT}), "additionalProperties": False},
    ]
}
_RAW = {"schema": _BYTES}
PREDICT_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": _FILES},
            "application/json": {"schema": _BASE64, "example": {"images": [_PIXEL]}},
            **{f"image/{kind}": _RAW for kind in ("jpeg", "png", "webp", "gif", "bmp", "tiff")},
            "application/octet-stream": _RAW,
        },
    }
}

# v2

_V2_ERROR = _object({"error": _TEXT})


def _v2_errors(*statuses: int) -> Responses:
    return _errors(*statuses, schema=_V2_ERROR, example={"error": "There is no such model here."})


_BOOL: Schema = {"type": "boolean"}
V2_LIVE: Responses = {200: _json("It lives.", _object({"live": _BOOL}))}
V2_READY: Responses = {status: _json("Whether it takes requests.", _object({"ready": _BOOL})) for status in (200, 503)}
_READY_SCHEMA = {"anyOf": [_object({"name": _TEXT, "ready": _BOOL}), _V2_ERROR]}
V2_MODEL_READY: Responses = {
    **{status: _json("Whether it takes requests.", _READY_SCHEMA) for status in (200, 503)},
    **_v2_errors(401, 404, 422),
}
V2_SERVER: Responses = {
    200: _json("The server.", _object({"name": _TEXT, "version": _TEXT, "extensions": _list(_TEXT)})),
    **_v2_errors(401),
}
_TENSOR = _object({"name": _TEXT, "datatype": _TEXT, "shape": _list({"type": "integer"})})
V2_MODEL: Responses = {
    200: _json(
        "The model.", _object({"name": _TEXT, "versions": _list(_TEXT), "inputs": _list(_TENSOR), "outputs": _list(_TENSOR)})
    ),
    **_v2_errors(401, 404, 422),
}
_V2_ANSWER = _object({"model_name": _TEXT, "outputs": _list(_TENSOR)})
V2_INFER: Responses = {
    200: {
        "description": "Probabilities; JSON, or JSON with bytes behind it.",
        "content": {"application/json": {"schema": _V2_ANSWER}, "application/octet-stream": {"schema": _BYTES}},
    },
    **_v2_errors(400, 401, 404, 408, 413, 415, 422, 503),
}
_INPUT = _object(
    {
        "name": {"enum": [tensors.PIXELS, tensors.ENCODED]},
        "datatype": {"enum": ["UINT8", "BYTES"]},
        "shape": _list({"type": "integer", "minimum": 1}),
    },
    {"data": {"type": "array"}, "parameters": {"type": "object"}},
)
_OUTPUT = _object(
    {"name": {"enum": [tensors.OUTPUT]}},
    {"parameters": _object({}, {"binary_data": _BOOL, "classification": {"type": "integer", "minimum": 0}})},
)
_V2_REQUEST = _object(
    {"inputs": {**_list(_INPUT), "minItems": 1, "maxItems": 1}},
    {
        "id": _TEXT,
        "outputs": {**_list(_OUTPUT), "minItems": 1, "maxItems": 1},
        "parameters": _object({}, {"binary_data_output": _BOOL}),
    },
)
_V2_EXAMPLE = {"inputs": [{"name": tensors.ENCODED, "datatype": "BYTES", "shape": [1], "data": [_PIXEL]}]}
_V2_HEADER = {
    "name": "Inference-Header-Content-Length",
    "in": "header",
    "required": False,
    "description": "How many of the body's first bytes are the JSON; the tensor's bytes follow it, binary_data_size of them.",
    "schema": {"type": "integer", "minimum": 0},
}
V2_INFER_BODY = {
    "parameters": [_V2_HEADER],
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": _V2_REQUEST, "example": _V2_EXAMPLE}, "application/octet-stream": _RAW},
    },
}

# the key

_KEYS: dict[str, Schema] = {
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "bearer": {"type": "http", "scheme": "bearer"},
    "password": {"type": "http", "scheme": "basic", "description": "The key is the password; any name will do."},
}


def with_key(schema: dict[str, Any], opened: Collection[str]) -> dict[str, Any]:
    """An OpenAPI description that says how the key is shown, on all paths but those that are open."""
    schema.setdefault("components", {})["securitySchemes"] = _KEYS
    schema["security"] = [{name: []} for name in _KEYS]
    for path in opened:
        for operation in schema["paths"].get(path, {}).values():
            operation["security"] = []
    return schema
