"""Triton's model repository under ``/v2/repository``: list, load and unload the models of the folder.

Source: Triton's ``extension_model_repository.md``.
"""

import asyncio
import logging

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from serve.formats import schemas
from serve.formats.bodies import read_body
from serve.formats.json_objects import json_object, known_fields, parse_json
from serve.formats.parameters import StrictRoute
from serve.limits.refusal import Refusal, shown
from serve.protocols.access import ADMIN_HEADER, Secrets
from serve.protocols.open_inference import Name
from serve.protocols.openapi import ADMIN, v2_answers
from serve.service.models import ModelStore
from serve.service.service import Service

logger = logging.getLogger("serve")
router = APIRouter(prefix="/v2/repository", tags=["open inference protocol"], route_class=StrictRoute)
# Options take no more; they are parsed on the event loop.
_MAX_BYTES = 1 << 16


@router.post("/index", responses=v2_answers(list[schemas.IndexEntry], 413))
async def index(request: Request) -> Response:
    """List every model of the folder, loaded or not; with ``{"ready": true}`` those that are loaded."""
    models: ModelStore = request.app.state.service.models
    only_ready = (await _options(request, "ready")).get("ready", False)
    if not isinstance(only_ready, bool):
        raise Refusal(400, f"ready is {shown(only_ready)}, expected true or false")
    return JSONResponse(
        [
            {"name": name, "version": version, "state": "READY" if models.is_loaded(name) else "UNAVAILABLE"}
            for name, versions in models.files.items()
            for version in versions
            if models.is_loaded(name) or not only_ready
        ]
    )


@router.post("/models/{name}/load", responses=v2_answers(schemas.Done, 403, 404, 413), openapi_extra=ADMIN)
async def load_model(request: Request, name: Name) -> Response:
    """Load a model as its folder has it, or load it again; for holders of the admin token."""
    models = _models_for_admin(request)
    given = (await _options(request, "parameters")).get("parameters", {})
    for parameter in json_object(given, "parameters"):
        why = "is not supported: a model is loaded as its folder has it"
        raise Refusal(400, f"load parameter {shown(parameter)} {why}")
    try:
        await asyncio.to_thread(models.load, name)
    except (ValueError, OSError) as error:
        logger.exception("model %s could not be loaded", name)
        raise Refusal(400, f"model {name!r} could not be loaded") from error
    return JSONResponse({})


@router.post("/models/{name}/unload", responses=v2_answers(schemas.Done, 403, 404), openapi_extra=ADMIN)
async def unload_model(request: Request, name: Name) -> Response:
    """Unload a model, on which no other one depends; for holders of the admin token."""
    models = _models_for_admin(request)
    given = (await _options(request, "parameters")).get("parameters", {})
    dependents = known_fields(given, "parameters", "unload_dependents").get("unload_dependents", False)
    if not isinstance(dependents, bool):
        raise Refusal(400, f"unload_dependents is {shown(dependents)}, expected true or false")
    models.unload(name)
    return JSONResponse({})


async def _options(request: Request, *known: str) -> dict[str, object]:
    service: Service = request.app.state.service
    body = await read_body(request, _MAX_BYTES, service.settings.body_timeout_s)
    return known_fields(parse_json(body) if body else {}, "the request", *known)


def _models_for_admin(request: Request) -> ModelStore:
    service: Service = request.app.state.service
    if service.settings.processes > 1:
        raise Refusal(400, "one of several processes cannot load or unload the models of all")
    tokens: Secrets = request.app.state.admin_tokens
    if tokens.find(request.scope["headers"], ADMIN_HEADER) is None:
        raise Refusal(403, "loading and unloading need the admin token")
    return service.models
