"""What needs no key, and nothing else: probes, metrics, the pages, and their files.

A route is public because it is defined on `router`, or on `open_inference`'s for health.
"""

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import Response

from serve.formats.schemas import Health, Problem
from serve.limits.refusal import Refusal
from serve.protocols import open_inference
from serve.protocols.pages import STATIC, Pages

_pages = Pages(directory=STATIC)
router = APIRouter()


def add_public(app: FastAPI) -> None:
    """Add the public routes to an application."""
    app.router.routes += [*router.routes, *open_inference.public.routes]
    app.mount("/static", _pages, name="static")


def public_paths() -> set[str]:
    """Return the paths of the public routes."""
    return {getattr(route, "path", "") for route in (*router.routes, *open_inference.public.routes)}


@router.get("/healthz", tags=["health"])
async def healthz() -> Health:
    """Say that the process is alive."""
    return Health(status="alive")


@router.get("/readyz", tags=["health"], responses={503: {"model": Problem, "description": "not now"}})
async def readyz(request: Request) -> Health:
    """Say whether new requests are accepted: models are loaded, no shutdown has begun."""
    if not request.app.state.service.ready:
        raise Refusal(503, "the server is starting or shutting down")
    return Health(status="ready")


@router.get("/metrics", tags=["health"], response_class=Response)
async def metrics(request: Request) -> Response:
    """Return figures for Prometheus."""
    exposition = request.app.state.service.metrics.exposition()
    return Response(exposition, media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/", include_in_schema=False)
async def page(request: Request) -> Response:
    """Return a page to try the server."""
    return await _pages.get_response("index.html", request.scope)


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> Response:
    """Return the interface's documentation, made from the OpenAPI document."""
    return await _pages.get_response("docs.html", request.scope)
