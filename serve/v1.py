"""``/v1``: audio or features in, framewise posteriors or features out."""

import asyncio
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import Response
from numpy.typing import NDArray

from asr_bn.posteriors import convert
from serve import answers, documentation
from serve.bodies import read_multipart, read_npy
from serve.errors import Refusal
from serve.models import ServedModel
from serve.requests import HeldResponse, receive, unless_client_leaves
from serve.schemas import Output, Posteriors
from serve.service import Service, Timing

router = APIRouter(prefix="/v1", tags=["posteriors"])
Matrix = NDArray[np.float32]

UttId = Annotated[str, Query(pattern=r"^[!-~]{0,200}$", description="the utterance's name in the answer")]
ModelName = Annotated[str, Query(description="which model; default: the only or first one")]
TimeoutMs = Annotated[
    int | None,
    Header(ge=1, le=3_600_000, description="milliseconds after which the request is dropped unserved"),
]


@dataclass(frozen=True)
class Asked:
    """What a request for posteriors asks for."""

    output: Output
    top_k: int | None
    utt_id: str
    media_type: str


@dataclass(frozen=True)
class Utterance:
    """What a body held: features as sent or computed, ``[num_frames, num_features]``, and a label."""

    feats: Matrix
    label: str


@router.post("/posteriors", response_model=Posteriors, **documentation.POSTERIORS)
async def posteriors(
    request: Request,
    output: Annotated[Output, Query(description="what to answer")] = "log_posterior",
    top_k: Annotated[int | None, Query(ge=1, description="only the k best pdfs of each frame")] = None,
    utt_id: UttId = "",
    model: ModelName = "",
    x_timeout_ms: TimeoutMs = None,
) -> Response:
    """Framewise posteriors of one utterance, sent as audio, as a form's file, or as features."""
    service: Service = request.app.state.service
    asked = Asked(output, top_k, utt_id, answers.negotiate(request.headers.get("accept", "")))
    timing = Timing()
    body = await receive(request, service, timing)
    deadline = service.deadline(timing, x_timeout_ms / 1000 if x_timeout_ms else None)
    work = _posteriors(request, service, service.models.get(model), body, asked, deadline, timing)
    return await unless_client_leaves(request, work)


async def _posteriors(
    request: Request,
    service: Service,
    model: ServedModel,
    body: bytes,
    asked: Asked,
    deadline: float,
    timing: Timing,
) -> Response:
    with ExitStack() as held:
        place = held.enter_context(service.admit())
        with service.batcher.announce():
            utterance = await _prepare(request, service, model, body, deadline, timing)
            place.take_frames(model, len(utterance.feats))
        (scored,) = await service.score(model, [utterance.feats], deadline, timing)
        started = time.monotonic()
        label = asked.utt_id or utterance.label or "utterance"
        encoded = await service.in_encoders(_encode, model, scored.log_posteriors, asked, label)
        service.note(timing, "serialize", time.monotonic() - started)
        spanned_s = len(utterance.feats) * model.metadata.fbank.frame_shift_ms / 1000
        service.metrics.real_time_factor.observe((time.monotonic() - timing.started) / spanned_s)
        return _held_response(service, model, held, timing, encoded, asked.media_type)


@router.post("/features", response_class=Response, **documentation.FEATURES)
async def features(request: Request, model: ModelName = "", x_timeout_ms: TimeoutMs = None) -> Response:
    """The static features (energy, log-mel bands) that the model computes from audio, as npy."""
    service: Service = request.app.state.service
    timing = Timing()
    body = await receive(request, service, timing)
    deadline = service.deadline(timing, x_timeout_ms / 1000 if x_timeout_ms else None)
    work = _features(request, service, service.models.get(model), body, deadline, timing)
    return await unless_client_leaves(request, work)


async def _features(
    request: Request, service: Service, model: ServedModel, body: bytes, deadline: float, timing: Timing
) -> Response:
    with ExitStack() as held:
        place = held.enter_context(service.admit())
        utterance = await _prepare(request, service, model, body, deadline, timing)
        place.take_frames(model, len(utterance.feats))
        static = utterance.feats[:, : model.metadata.num_static]
        encoded = await service.in_encoders(answers.npy_bytes, static, None)
        return _held_response(service, model, held, timing, encoded, answers.NPY)


def _held_response(
    service: Service, model: ServedModel, held: ExitStack, timing: Timing, encoded: bytes, media_type: str
) -> Response:
    headers = {
        "server-timing": timing.server_timing(),
        "x-frame-shift-ms": f"{model.metadata.fbank.frame_shift_ms:g}",
    }
    timeout_s = service.settings.send_timeout_s
    return HeldResponse(held.pop_all(), timeout_s, encoded, media_type=media_type, headers=headers)


async def _prepare(
    request: Request, service: Service, model: ServedModel, body: bytes, deadline: float, timing: Timing
) -> Utterance:
    """The utterance of a body.

    Raises:
        Refusal: 400, 413, 415 or 422 for the body, 504 when ``deadline`` comes first.
    """
    content_type = request.headers.get("content-type", "")
    loop_deadline = asyncio.get_running_loop().time() + deadline - time.monotonic()
    try:
        async with asyncio.timeout_at(loop_deadline):
            return await service.in_front_end(_read_utterance, service, model, body, content_type, timing)
    except TimeoutError as error:
        raise Refusal(504, "the request's deadline passed before its features were computed") from error


def _read_utterance(
    service: Service, model: ServedModel, body: bytes, content_type: str, timing: Timing
) -> Utterance:
    kind, label, data = content_type.partition(";")[0].strip().lower(), "", body
    if kind == "multipart/form-data":
        part = read_multipart(body, content_type)
        kind = part.headers.get("content-type", "").partition(";")[0].strip().lower()
        label, data = _as_utt_id(part.stem), bytes(part.data)
    if not data:
        raise Refusal(400, "the body is empty, expected audio or features")
    if kind == answers.NPY or data.startswith(b"\x93NUMPY"):
        return Utterance(_given_features(model, data), label)
    return Utterance(_audio_features(service, model, data, timing), label)


def _as_utt_id(stem: str) -> str:
    """A file name as an utterance id, which may hold no white space."""
    return "".join(letter if "!" <= letter <= "~" else "_" for letter in stem)[:200]


def _given_features(model: ServedModel, data: bytes) -> Matrix:
    try:
        return model.scorer.with_deltas(read_npy(data))
    except ValueError as error:
        raise Refusal(422, str(error)) from error


def _audio_features(service: Service, model: ServedModel, data: bytes, timing: Timing) -> Matrix:
    audio = service.front_end.features(data, model.metadata.fbank, model.metadata.delta_order)
    service.note(timing, "decode", audio.decode_s)
    service.note(timing, "features", audio.features_s)
    service.metrics.audio_seconds.inc(audio.audio_s)
    return audio.feats


def _encode(model: ServedModel, log_posteriors: Matrix, asked: Asked, utt_id: str) -> bytes:
    fields: dict[str, Any] = {
        "utt_id": utt_id,
        "model": model.name,
        "version": model.version,
        "output": asked.output,
        "num_frames": log_posteriors.shape[0],
        "num_pdfs": log_posteriors.shape[1],
        "frame_shift_ms": model.metadata.fbank.frame_shift_ms,
    }
    values = convert(log_posteriors, model.log_priors, asked.output)
    return answers.encode(asked.media_type, fields, values, asked.top_k)
