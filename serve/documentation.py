"""The parts of the OpenAPI document that code cannot tell: raw bodies, their types, every refusal."""

from typing import Any

from serve.schemas import Problem

_BINARY = {"schema": {"type": "string", "format": "binary"}}

BODY: dict[str, Any] = {
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
            }
        },
    },
}

_REFUSALS = {
    400: "the body is malformed",
    401: "a key is needed and was not given",
    403: "the admin token is needed and was not given",
    404: "no such model",
    406: "none of the answer's forms is acceptable",
    408: "the body did not arrive in time",
    413: "the body, or the audio in it, is too large",
    415: "not a format that this server reads",
    422: "a parameter, or what the body holds, has a bad value",
    429: "too many requests are waiting; Retry-After says when to try again",
    500: "an error of this server",
    503: "not ready",
    504: "the request's deadline passed while it waited",
}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The documentation of problem answers."""
    schema = {"$ref": f"#/components/schemas/{Problem.__name__}"}
    return {
        status: {
            "description": _REFUSALS[status],
            "content": {"application/problem+json": {"schema": schema}},
        }
        for status in statuses
    }


_V1_REFUSALS = refusals(*(status for status in _REFUSALS if status != 403))


def v2_answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The documentation of an answer under ``/v2`` and of its refusals, ``{"error": text}``."""
    schema = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
    return {
        status: {
            "description": _REFUSALS.get(status, "refused"),
            "content": {"application/json": {"schema": schema}},
        }
        for status in (401, *statuses, 500)
    }


POSTERIORS: dict[str, Any] = {
    "openapi_extra": {"requestBody": BODY},
    "responses": {
        200: {
            "description": "the scores of every frame",
            "content": {"application/x-npy": _BINARY, "application/x-kaldi-ark": _BINARY},
        }
    }
    | _V1_REFUSALS,
}

FEATURES: dict[str, Any] = {
    "openapi_extra": {"requestBody": BODY},
    "responses": {200: {"description": "[num_frames, 41]", "content": {"application/x-npy": _BINARY}}}
    | _V1_REFUSALS,
}
