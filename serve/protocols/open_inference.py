"""The Open Inference Protocol, version 2, under ``/v2``: what ``tritonclient[http]`` speaks."""

import math
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from functools import partial
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Path, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel

import asr_bn
from asr_bn.scoring.levels import Level
from asr_bn.system.arrays import Floats
from serve.formats import schemas
from serve.formats.answers import Compression, Encoded, compressed
from serve.formats.parameters import StrictRoute
from serve.formats.tensors import InferRequest, TensorSpec, json_bytes, read_request, write_response
from serve.limits.refusal import Refusal
from serve.protocols.openapi import INFER, INFER_ANSWER, Json, v2_answers
from serve.protocols.request_flow import HeldResponse, receive, timing_of, unless_client_leaves
from serve.service.models import ServedModel
from serve.service.service import Service, Timing, before

router = APIRouter(prefix="/v2", tags=["open inference protocol"], route_class=StrictRoute)
public = APIRouter(prefix="/v2", tags=["open inference protocol"])
# Less is read on the event loop: a thread would cost more time.  More JSON goes to a process of its own.
_SMALL_BYTES = 1 << 18

Name = Annotated[str, Path(pattern=r"^[^/]{1,200}$")]
Version = Annotated[str, Path(pattern=r"^[0-9]{1,18}$")]


def inputs_of(model: ServedModel) -> list[TensorSpec]:
    """Return the tensors that a model takes."""
    features = TensorSpec("features", "FP32", (-1, -1, model.metadata.num_features))
    return [features, TensorSpec("lengths", "INT32", (-1,))]


_OUTPUTS: dict[str, Level] = {
    "log_posteriors": "pdf",
    "phone_log_posteriors": "phone",
    "phone_class_log_posteriors": "phone-class",
}


def outputs_of(model: ServedModel) -> list[TensorSpec]:
    """Return the tensors that a model gives: those of phones too where it knows them."""
    levels = {name: level for name, level in _OUTPUTS.items() if level in model.levels}
    return [
        TensorSpec(name, "FP32", (-1, -1, len(model.columns(level).log_priors)))
        for name, level in levels.items()
    ]


Handler = Callable[[Request, str, str], Awaitable[Response]]


def for_model(
    method: str, suffix: str, answer: type[BaseModel] | Json, *statuses: int, extra: Json | None = None
) -> Callable[[Handler], Handler]:
    """Route a handler for a model's newest version, and for the version that the path names.

    Args:
        method, suffix: of the request, behind the model and version.
        answer: its body's model, or its description, for the OpenAPI document.
        statuses: of its refusals.
        extra: further members of the operation in the OpenAPI document.
    """

    def register(handler: Handler) -> Handler:
        async def newest(request: Request, name: Name) -> Response:
            return await handler(request, name, "")

        async def versioned(request: Request, name: Name, version: Version) -> Response:
            return await handler(request, name, version)

        for function, path in ((newest, "/models/{name}"), (versioned, "/models/{name}/versions/{version}")):
            router.add_api_route(
                path + suffix,
                function,
                methods=[method],
                name=handler.__name__,
                description=handler.__doc__,
                responses=v2_answers(answer, 404, *statuses),
                openapi_extra=extra,
            )
        return handler

    return register


@public.get("/health/live", responses=v2_answers(schemas.ServerLive))
async def live() -> Response:
    """Say that the server answers."""
    return JSONResponse({"live": True})


@public.get("/health/ready", responses=v2_answers(schemas.ServerReady, 503))
async def ready(request: Request) -> Response:
    """Say whether new requests are accepted."""
    if not _service(request).ready:
        raise Refusal(503, "the server is starting or shutting down")
    return JSONResponse({"ready": True})


@router.get("", responses=v2_answers(schemas.ServerMetadata))
async def server_metadata(request: Request) -> Response:
    """Describe the server: its name, version and extensions."""
    extensions = ["binary_tensor_data", "model_repository", "model_configuration", "statistics"]
    return JSONResponse({"name": "asr-bn", "version": asr_bn.__version__, "extensions": extensions})


@router.get("/models/stats", responses=v2_answers(schemas.Statistics))
async def all_statistics(request: Request) -> Response:
    """Report how many utterances and calls each model has served."""
    return _statistics(_service(request).models.all())


@for_model("GET", "", schemas.ModelMetadata)
async def model_metadata(request: Request, name: str, version: str) -> Response:
    """Describe a model's tensors and versions."""
    model = _service(request).models.get(name, version)
    return JSONResponse(
        {
            "name": name,
            "versions": _service(request).models.versions(name),
            "platform": "onnxruntime_onnx",
            "inputs": [spec.describe() for spec in inputs_of(model)],
            "outputs": [spec.describe() for spec in outputs_of(model)],
        }
    )


@for_model("GET", "/ready", schemas.ModelReady, 503)
async def model_ready(request: Request, name: str, version: str) -> Response:
    """Say whether a model can be used."""
    _service(request).models.get(name, version)
    if not _service(request).ready:
        raise Refusal(503, "the server is shutting down")
    return JSONResponse({"name": name, "ready": True})


@for_model("GET", "/config", schemas.ModelConfig)
async def model_config(request: Request, name: str, version: str) -> Response:
    """Describe a model's configuration in Triton's words."""
    model = _service(request).models.get(name, version)

    def describe(spec: TensorSpec) -> Json:
        return {"name": spec.name, "data_type": f"TYPE_{spec.datatype}", "dims": list(spec.shape)}

    return JSONResponse(
        {
            "name": name,
            "platform": "onnxruntime_onnx",
            "backend": "onnxruntime",
            "max_batch_size": 0,
            "input": [describe(spec) for spec in inputs_of(model)],
            "output": [describe(spec) for spec in outputs_of(model)],
        }
    )


@for_model("GET", "/stats", schemas.Statistics)
async def statistics(request: Request, name: str, version: str) -> Response:
    """Report how many utterances and calls a model has served."""
    return _statistics([_service(request).models.get(name, version)])


def _statistics(chosen: list[ServedModel]) -> Response:
    stats = [
        {
            "name": model.name,
            "version": model.version,
            "inference_count": model.num_utterances,
            "execution_count": model.num_calls,
        }
        for model in chosen
    ]
    return JSONResponse({"model_stats": stats})


@for_model("POST", "/infer", INFER_ANSWER, 413, 429, 503, extra=INFER)
async def infer(request: Request, name: str, version: str) -> Response:
    """Compute log posteriors of a batch of utterances, padded to the longest; zero in the padding.

    A model that knows its phones gives theirs as outputs of their own.  All outputs are answered unless some
    are named."""
    service = _service(request)
    service.models.get(name, version)
    timing = timing_of(request)
    body = await receive(request, service, timing, service.deadline(timing, None))
    return await unless_client_leaves(request, _infer(request, service, name, version, body, timing))


async def _infer(
    request: Request, service: Service, name: str, version: str, body: bytes, timing: Timing
) -> Response:
    with ExitStack() as held:
        deadline = service.deadline(timing, None)
        admission = held.enter_context(service.admit(timing.client, deadline, len(body)))
        model = service.models.get(name, version)
        json_size = request.headers.get("inference-header-content-length")
        reading = _read(service, model, body, json_size, timing.client)
        call, feats = await before(deadline, reading, "its tensors were read")
        admission.take_batch(model, len(feats), math.prod(call.inputs["features"].shape[:2]))
        deadline = _deadline(service, timing, call)
        encoding = _encoding(request.headers.get("accept-encoding", ""))
        wanted = _wanted_outputs(model, call)
        as_binary = call.wants_binary(wanted[0].name)
        form = f"{'binary' if as_binary else 'JSON'} {encoding} {sorted(spec.name for spec in wanted)}"
        scored = await service.score(model, feats, deadline, timing, form=form)
        rows = [result.log_posteriors for result in scored]
        num_values = sum(scores.size for scores in rows)
        encode = partial(_encode, model, call, rows, encoding)
        encoded, headers = await service.write(timing, deadline, form, num_values, encode)
        headers["server-timing"] = timing.server_timing()
        return HeldResponse(service, admission, held.pop_all(), encoded, headers=headers)


def _wanted_outputs(model: ServedModel, call: InferRequest) -> list[TensorSpec]:
    """Return the outputs that a call asks for, all where it names none.

    Raises:
        Refusal: 400 the model has no such output, or some are wanted as binary data and others are not: the
            size of the JSON would have to be known before it is written.
    """
    specs = {spec.name: spec for spec in outputs_of(model)}
    for asked in call.outputs or []:
        if asked["name"] not in specs:
            given = ", ".join(repr(name) for name in specs)
            raise Refusal(400, f"unexpected inference output {asked['name']!r}, the model gives {given}")
        unsupported = asked["parameters"].keys() & {"classification", "shared_memory_region"}
        if unsupported:
            raise Refusal(400, f"output parameter {min(unsupported)!r} is not supported")
    wanted = [specs[asked["name"]] for asked in call.outputs or []] or list(specs.values())
    if len({call.wants_binary(spec.name) for spec in wanted}) > 1:
        raise Refusal(400, "outputs: expected binary data for all of them or for none")
    return wanted


async def _read(
    service: Service, model: ServedModel, body: bytes, json_size: str | None, client: str
) -> tuple[InferRequest, list[Floats]]:
    """Read a call and its utterances; large ones in a thread or process, so that others need not wait."""
    specs = inputs_of(model)
    if len(body) <= _SMALL_BYTES:
        call = read_request(body, json_size, specs)
        return call, _utterances(model, call)
    if json_bytes(body, json_size) > _SMALL_BYTES:
        call = await service.audio_workers.tensors(body, json_size, specs, client)
    else:
        call = await service.readers.run(client, read_request, body, json_size, specs)
    return call, await service.readers.run(client, _utterances, model, call)


def _utterances(model: ServedModel, call: InferRequest) -> list[Floats]:
    """Cut the rows of ``features`` to their ``lengths``; check the outputs asked for."""
    _wanted_outputs(model, call)
    features, lengths = call.inputs["features"], call.inputs["lengths"]
    if len(features) != len(lengths):
        raise Refusal(400, f"{len(features)} utterances in features, {len(lengths)} in lengths")
    utterances = []
    for row, (matrix, length) in enumerate(zip(features, lengths, strict=True)):
        if not 1 <= length <= len(matrix):
            raise Refusal(400, f"lengths[{row}] is {length}, expected 1 to {len(matrix)}")
        if not np.isfinite(matrix[:length]).all():
            raise Refusal(400, f"features[{row}] hold a value that is not finite")
        utterances.append(matrix[:length])
    return utterances


def _deadline(service: Service, timing: Timing, call: InferRequest) -> float:
    timeout = int(call.parameters.get("timeout", 0))  # microseconds
    return service.deadline(timing, timeout / 1e6 if timeout else None)


def _encode(
    model: ServedModel, call: InferRequest, rows: list[Floats], encoding: Compression | None
) -> tuple[Encoded, dict[str, str]]:
    specs = _wanted_outputs(model, call)
    outputs = [(spec, _padded_output(model, call, rows, spec)) for spec in specs]
    head = {"model_name": model.name, "model_version": model.version}
    if call.id is not None:
        head["id"] = call.id
    encoded, json_size = write_response(head, outputs, call.wants_binary(specs[0].name))
    headers = {"content-type": "application/json"}
    if json_size is not None:
        headers["content-type"] = "application/octet-stream"
        headers["inference-header-content-length"] = str(json_size)
    if encoding is not None:
        headers["content-encoding"] = encoding
        encoded = compressed(encoded, encoding)
    return encoded, headers


def _padded_output(model: ServedModel, call: InferRequest, rows: list[Floats], spec: TensorSpec) -> Floats:
    columns = model.columns(_OUTPUTS[spec.name])
    scores = [columns.log_posteriors(utterance) for utterance in rows]
    return _pad(scores, (*call.inputs["features"].shape[:2], spec.shape[-1]))


def _pad(rows: list[Floats], shape: tuple[int, int, int]) -> Floats:
    """Stack rows to ``[batch, num_frames, columns]``, zero in the padding; one whole row is not copied."""
    if len(rows) == 1 and len(rows[0]) == shape[1]:
        return rows[0][None]
    padded = np.zeros(shape, dtype=np.float32)
    for row, scores in enumerate(rows):
        padded[row, : len(scores)] = scores
    return padded


def _encoding(accept_encoding: str) -> Compression | None:
    """Return the compression to answer with.

    Only a header that names a single encoding asks for it: HTTP libraries name all they know in every
    request, and compressing floats costs more time than it saves.
    """
    offered: dict[str, Compression] = {"gzip": "gzip", "deflate": "deflate"}
    return offered.get(accept_encoding.strip().lower())


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service
