"""Refusals and their two shapes: ``application/problem+json`` under ``/v1``, ``{"error"}`` under ``/v2``."""

import logging
from collections.abc import Mapping
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette._utils import get_route_path
from starlette.exceptions import HTTPException
from starlette.types import Scope

from serve.limits.refusal import Refusal

logger = logging.getLogger("serve")
# What a client sent may be quoted, but not sent back whole; how a sentence ends says what was expected.
_MAX_DETAIL = 600

# What Triton answers where the protocols differ: it has no 401, 408, 415, 422 and 504 of its own.
OPEN_INFERENCE_STATUS = {406: 400, 408: 400, 415: 400, 422: 400, 504: 503}


def problem_body(status: int, detail: str) -> dict[str, str | int]:
    """Make the members of a problem (RFC 9457); the type is its default, ``about:blank``."""
    return {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}


def error_response(
    scope: Scope, status: int, detail: str, headers: Mapping[str, str] | None = None
) -> Response:
    """Return the answer to a refused request, in the shape that the interface it asked for promises."""
    if len(detail) > _MAX_DETAIL:
        detail = f"{detail[: _MAX_DETAIL // 2]} ... {detail[-_MAX_DETAIL // 2 :]}"
    # What is routed is what follows the root path, of a proxy, a mount or Ray.
    path = get_route_path(scope)
    if path == "/v2" or path.startswith("/v2/"):
        return JSONResponse({"error": detail}, OPEN_INFERENCE_STATUS.get(status, status), headers)
    return JSONResponse(problem_body(status, detail), status, headers, media_type="application/problem+json")


def add_error_handlers(app: FastAPI) -> None:
    """Answer refusals, framework errors and bugs in the two shapes; a bug's text stays in the log."""
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(HTTPException, _framework_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(MemoryError, _short_of_memory)
    app.add_exception_handler(Exception, _bug)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return error_response(request.scope, error.status, error.detail, error.headers)


async def _framework_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if headers.get("Allow") == "GET":
        headers["Allow"] = "GET, HEAD"  # see serve.protocols.semantics
    return error_response(request.scope, error.status_code, str(error.detail), headers)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    # What our own validators say, pydantic introduces as Python would.
    what = first["msg"].removeprefix("Value error, ")
    return error_response(request.scope, 422, f"{where}: {what}")


async def _short_of_memory(request: Request, error: Exception) -> Response:
    logger.warning("short of memory for a request", exc_info=error)
    detail = "the server is short of memory at the moment"
    return error_response(request.scope, 503, detail, {"retry-after": "1"})


async def _bug(request: Request, error: Exception) -> Response:
    logger.error("request failed", exc_info=error)
    return error_response(request.scope, 500, "internal error")
