"""The parts of the OpenAPI document that code cannot tell: raw bodies, keys, headers, refusals."""

import copy
from collections.abc import Callable, Collection
from typing import Any, Literal

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from serve.formats.schemas import InferenceError, InferRequest, InferResponse, Problem

Json = dict[str, object]
Responses = dict[int | str, Json]

DESCRIPTION = """Framewise posteriors of speech, from a batch-normalized recurrent acoustic model.
POST /v1/posteriors takes audio or features; so do /v1/alignments, with a text, and /v1/transcripts, where
the server was started with a lexicon or a graph.  /v2 speaks the Open Inference Protocol.

Where the server has API keys (setting ASR_BN_API_KEYS_FILE), everything but health, metrics, the pages and
this document needs one: X-API-Key: KEY, or Authorization: Bearer KEY; without it the answer is 401.
Loading and unloading models needs the admin token (ASR_BN_ADMIN_TOKEN_FILE) beside the key:
X-Admin-Token: TOKEN, or Authorization: Bearer TOKEN; without it the answer is 403.

Clients share the server fairly.  Who asks for more than there is room for is answered 429; Retry-After says
in how many seconds there should be room."""

_BINARY = {"schema": {"type": "string", "format": "binary"}}

BODY: Json = {
    "required": True,
    "description": "an audio file as it is, a form with the part 'file', or a matrix of features "
    "(float, [num_frames, 41] static or [num_frames, 123] with deltas) in NumPy's npy format",
    "content": {
        "audio/wav": _BINARY,
        "audio/flac": _BINARY,
        "application/octet-stream": _BINARY,
        "application/x-npy": _BINARY,
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {"file": {"type": "string", "format": "binary"}},
                "additionalProperties": False,
            }
        },
    },
}

_REFUSALS = {
    400: "the request is malformed",
    401: "a key is needed and was not given",
    403: "the admin token is needed and was not given",
    404: "no such model",
    406: "none of the answer's forms is acceptable",
    408: "the body did not arrive in time",
    413: "the body, or what it holds, is too large, now and ever",
    415: "not a format that this server reads",
    422: "a parameter, or what the body holds, has a bad value",
    429: "too much is asked for; Retry-After says when to try again",
    500: "an error of this server",
    501: "this server was started without what is needed: a lexicon, or a graph",
    503: "not ready, or the deadline passed",
    504: "the request's deadline passed while it waited",
}


def refusals(*statuses: int) -> Responses:
    """Document problem answers."""
    schema = {"$ref": f"#/components/schemas/{Problem.__name__}"}
    return {
        status: {
            "description": _REFUSALS[status],
            "content": {"application/problem+json": {"schema": schema}},
        }
        for status in statuses
    }


_V1_REFUSALS = refusals(*(status for status in _REFUSALS if status not in (403, 501)))


def v2_answers(answer: type | Json, *statuses: int) -> Responses:
    """Document an answer under ``/v2`` (a model or more) and its refusals, ``{"error": text}``."""
    answers: Responses = {200: answer if isinstance(answer, dict) else {"model": answer}}
    return answers | {
        status: {"description": _REFUSALS[status], "model": InferenceError}
        for status in (400, 401, *statuses, 500)
    }


def _header(description: str, kind: str = "string") -> Json:
    return {"description": description, "schema": {"type": kind}}


_TIMING = {"Server-Timing": _header("milliseconds that each stage of the request took")}
_V1_HEADERS = _TIMING | {"X-Frame-Shift-Ms": _header("milliseconds from a frame to the next", "number")}
_JSON_SIZE = "bytes of the JSON with which a binary body begins; absent: all of it is JSON"


def _with_text(body: Json) -> Json:
    """Add the part ``text`` to the form of a body."""
    whole = copy.deepcopy(body)
    content: dict[str, Any] = whole["content"]  # type: ignore[assignment]
    content["multipart/form-data"]["schema"]["properties"]["text"] = {"type": "string"}
    return whole


def _v1_route(description: str, *media_types: str, body: Json = BODY, status: int = 404) -> dict[str, Any]:
    content = dict.fromkeys(media_types, _BINARY)
    answer = {"description": description, "content": content, "headers": _V1_HEADERS}
    answers = {200: answer} | _V1_REFUSALS | refusals(status)
    return {"openapi_extra": {"requestBody": body}, "responses": answers}


POSTERIORS = _v1_route("the scores of every frame", "application/x-npy", "application/x-kaldi-ark")
FEATURES = _v1_route("[num_frames, 41]", "application/x-npy")
TRANSCRIPTS = _v1_route("words and phones", status=501)
ALIGNMENTS = _v1_route("words and phones", body=_with_text(BODY), status=501)

INFER_ANSWER: Json = {
    "description": "log posteriors, of phones too where the model knows them, zero where an utterance has "
    "ended: as JSON, or, where the request asks for binary data, JSON and the float32 behind it",
    "model": InferResponse,
    "content": {"application/octet-stream": _BINARY},
    "headers": _TIMING | {"Inference-Header-Content-Length": _header(_JSON_SIZE, "integer")},
}

INFER: Json = {
    "requestBody": {
        "required": True,
        "description": "a batch of utterances, padded to the longest: JSON, or JSON and binary tensors "
        "behind it, in the order of the inputs; may be compressed (Content-Encoding: gzip or deflate).  Of a "
        "JSON key that is given twice the last one counts",
        "content": {
            "application/json": {"schema": {"$ref": f"#/components/schemas/{InferRequest.__name__}"}},
            "application/octet-stream": _BINARY,
        },
    },
    "parameters": [
        {
            "name": "Inference-Header-Content-Length",
            "in": "header",
            "description": _JSON_SIZE,
            "schema": {"type": "integer", "minimum": 0},
        }
    ],
}

_SCHEMES = {
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "bearerKey": {"type": "http", "scheme": "bearer", "description": "the API key as a bearer token"},
    "adminToken": {"type": "apiKey", "in": "header", "name": "X-Admin-Token"},
}
_KEYS: list[dict[str, list[str]]] = [{"apiKey": []}, {"bearerKey": []}]
ADMIN: Json = {"security": [key | {"adminToken": []} for key in _KEYS]}

_EVERY_ANSWER = {"X-Request-Id": _header("the request's own, or one that the server made")}
_ANSWERS_WITH = {
    "401": {"WWW-Authenticate": _header("Bearer")},
    "429": {"Retry-After": _header("seconds after which there should be room", "integer")},
    "503": {"Retry-After": _header("seconds, where the server knows", "integer")},
}


def document(app: FastAPI, public: Collection[str], needs_key: bool) -> Callable[[], Json]:
    """Return a replacement for ``app.openapi`` that completes the document.

    Args:
        app: the application.
        public: the paths that need no key.
        needs_key: whether the others do.
    """
    generate = app.openapi

    def openapi() -> Json:
        if app.openapi_schema is None:
            _complete(generate(), public, _KEYS if needs_key else [{}, *_KEYS])
        return generate()

    return openapi


def _complete(schema: dict[str, Any], public: Collection[str], keys: list[dict[str, list[str]]]) -> None:
    schema["security"] = keys
    schemas = schema["components"]["schemas"]
    for generated in ("HTTPValidationError", "ValidationError"):  # FastAPI's errors, which are not ours
        schemas.pop(generated, None)
    models: list[tuple[type[BaseModel], Literal["validation"]]] = [(InferRequest, "validation")]
    schemas |= models_json_schema(models, ref_template="#/components/schemas/{model}")[1]["$defs"]
    schema["components"]["securitySchemes"] = _SCHEMES
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            if path in public:
                operation["security"] = []
            if path.startswith("/v2"):
                operation["responses"].pop("422", None)
            for status, answer in operation["responses"].items():
                answer["headers"] = answer.get("headers", {}) | _EVERY_ANSWER | _ANSWERS_WITH.get(status, {})
