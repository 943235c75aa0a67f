"""The application: ``uvicorn serve.app:app`` with ``ASR_BN_MODEL`` set, or `create_app`."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from uvicorn.config import STARTUP_FAILURE

import asr_bn
from asr_bn.system.memory import keep_some_freed_memory
from serve.protocols import model_repository, open_inference, openapi, searches, v1
from serve.protocols.access import ApiKeys, Secrets, refuse_without_key
from serve.protocols.errors import add_error_handlers
from serve.protocols.middleware import RequestLog
from serve.protocols.public import add_public, public_paths
from serve.protocols.semantics import Semantics
from serve.service.lifecycle import (
    ending_with_supervisor,
    giving_memory_back,
    watch_for_shutdown,
    without_long_pauses,
)
from serve.service.service import Service
from serve.settings import Settings, load_settings
from serve.transport.standard_error import keep_writers_from_waiting


def create_app(settings: Settings, service: Service | None = None) -> FastAPI:
    """Make the application.

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
        description=openapi.DESCRIPTION,
        lifespan=_lifespan,
        # Swagger's page loads its script from another host; ours is in static/.
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = service
    app.state.admin_tokens = Secrets(settings.admin_token_file)
    add_error_handlers(app)
    # The routes themselves, the busiest first: an included router matches a request twice.
    routers = (v1.router, searches.router, open_inference.router, model_repository.router)
    app.router.routes += [route for router in routers for route in router.routes]
    add_public(app)
    needs_key = settings.api_keys_file is not None
    app.openapi = openapi.document(app, public_paths(), needs_key)  # type: ignore[method-assign]
    _add_middleware(app, settings, service)
    return app


def _public_app(app: FastAPI) -> FastAPI:
    """What ``app`` serves without a key."""
    public = FastAPI(openapi_url=None, redirect_slashes=False)
    public.state = app.state
    add_error_handlers(public)
    add_public(public)
    public.router.routes += [route for route in app.routes if getattr(route, "path", "") == app.openapi_url]
    public.router.default = refuse_without_key
    return public


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service
    keep_some_freed_memory()  # an answer is megabytes, whose pages would be cleared anew for each
    if not service.models_loaded:
        await asyncio.to_thread(service.load)
    with ending_with_supervisor(service.settings):
        with without_long_pauses(), giving_memory_back(), watch_for_shutdown(service):
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
    if settings.api_keys_file is not None:
        keys = Secrets(settings.api_keys_file)
        app.add_middleware(ApiKeys, keys=keys, public=_public_app(app))
    app.add_middleware(Semantics)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "HEAD", "POST"],
            allow_headers=["*"],
            expose_headers=EXPOSED_HEADERS,
        )
    app.add_middleware(RequestLog, service=service, access_log=settings.access_log)


def __getattr__(name: str) -> FastAPI:
    # Made when uvicorn asks for it: importing this module needs no environment.
    if name == "app":
        keep_some_freed_memory()
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
