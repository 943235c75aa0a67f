"""The application: ``uvicorn serve.app:app`` with ``ASR_BN_MODEL`` set, or `create_app`."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import Response
from uvicorn.config import STARTUP_FAILURE

import asr_bn
from asr_bn.memory import keep_some_freed_memory
from serve import open_inference, v1
from serve.errors import add_error_handlers
from serve.lifecycle import ending_with_supervisor, watch_for_shutdown, without_long_pauses
from serve.middleware import ApiKeys, RequestLog, read_secrets
from serve.pages import add_pages
from serve.refusal import Refusal
from serve.schemas import Health, Problem
from serve.semantics import Semantics
from serve.service import Service
from serve.settings import Settings, load_settings
from serve.standard_error import keep_writers_from_waiting

DESCRIPTION = """Framewise posteriors of speech, from a batch-normalized recurrent acoustic model.
POST /v1/posteriors takes audio or features; /v2 speaks the Open Inference Protocol."""


def create_app(settings: Settings, service: Service | None = None) -> FastAPI:
    """The application.

    Args:
        settings: the server's settings.
        service: its moving parts, if they were made (and their models loaded) before.

    Raises:
        ValueError, OSError: no model where the settings say, or a file of keys cannot be used.
    """
    service = service or Service(settings)
    app = FastAPI(
        title="asr-bn",
        version=asr_bn.__version__,
        description=DESCRIPTION,
        lifespan=_lifespan,
        # Swagger's page loads its script from another host; ours is in static/.
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = service
    add_error_handlers(app)
    app.include_router(v1.router)
    app.include_router(open_inference.router)
    _add_probes(app)
    add_pages(app)
    _add_middleware(app, settings, service)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service
    keep_some_freed_memory()  # an answer is megabytes, whose pages would be cleared anew for each
    if not service.models_loaded:
        await asyncio.to_thread(service.load)
    with ending_with_supervisor(service.settings):
        with without_long_pauses(), watch_for_shutdown(service):
            yield
        service.draining = True
        await service.close()


# What a page of another origin may read, beside the fields that it always may.
EXPOSED_HEADERS = (
    "allow",
    "content-range",
    "etag",
    "inference-header-content-length",
    "retry-after",
    "server-timing",
    "www-authenticate",
    "x-frame-shift-ms",
    "x-request-id",
)


def _add_middleware(app: FastAPI, settings: Settings, service: Service) -> None:
    """From the innermost to the outermost."""
    app.add_middleware(Semantics)
    if settings.api_keys_file is not None:
        app.add_middleware(ApiKeys, keys=read_secrets(settings.api_keys_file))
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "HEAD", "POST"],
            allow_headers=["*"],
            expose_headers=EXPOSED_HEADERS,
        )
    app.add_middleware(RequestLog, service=service, access_log=settings.access_log)


def _add_probes(app: FastAPI) -> None:
    @app.get("/healthz", tags=["health"])
    async def healthz() -> Health:
        """The process is alive."""
        return Health(status="alive")

    @app.get("/readyz", tags=["health"], responses={503: {"model": Problem, "description": "not now"}})
    async def readyz(request: Request) -> Health:
        """New requests are welcome: the models are loaded and no shutdown has begun."""
        if not request.app.state.service.ready:
            raise Refusal(503, "the server is starting or shutting down")
        return Health(status="ready")

    @app.get("/metrics", tags=["health"], response_class=Response)
    async def metrics(request: Request) -> Response:
        """Figures for Prometheus."""
        exposition = request.app.state.service.metrics.exposition()
        return Response(exposition, media_type="text/plain; version=0.0.4; charset=utf-8")


def __getattr__(name: str) -> Any:
    # Made when uvicorn asks for it: importing this module needs no environment.
    if name == "app":
        keep_writers_from_waiting()
        try:
            settings = load_settings()
            service = Service(settings)
            service.load()
            return create_app(settings, service)
        except (ValueError, OSError) as error:
            print(f"asr-bn serve: error: {error}", file=sys.stderr)
            sys.exit(STARTUP_FAILURE)
    raise AttributeError(f"module 'serve.app' has no attribute {name!r}")
