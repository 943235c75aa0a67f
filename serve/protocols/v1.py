"""``/v1``: audio or features in, framewise posteriors or features out."""

import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import Response
from pydantic import Field

from asr_bn.scoring.levels import Level
from asr_bn.scoring.scorer import to_output
from asr_bn.system.arrays import Floats
from serve.formats import answers
from serve.formats.parameters import Digits, StrictRoute
from serve.formats.schemas import Names, Output, Posteriors
from serve.limits.refusal import Refusal
from serve.protocols import openapi
from serve.protocols.request_flow import HeldResponse, receive, timing_of, unless_client_leaves
from serve.protocols.utterances import V1Request, utterance_of
from serve.service.admission import Admission
from serve.service.models import ServedModel
from serve.service.service import Service, before

router = APIRouter(prefix="/v1", tags=["posteriors"], route_class=StrictRoute)

UttId = Annotated[str, Query(pattern=r"^[!-~]{0,200}$", description="the utterance's name in the answer")]
ModelName = Annotated[str, Query(description="which model; default: the only or first one")]
LevelName = Annotated[
    Level, Query(description="of what: pdfs, phones (AH_B), or phones of all word positions (AH)")
]
TopK = Annotated[
    Annotated[int, Field(ge=1), Digits] | None,
    Query(description="only the k best pdfs, or phones, of each frame"),
]
Channel = Annotated[
    Annotated[int, Field(ge=0, le=255), Digits] | None,
    Query(description="of audio with several, which one, from 0"),
]
TimeoutMs = Annotated[
    Annotated[int, Field(ge=1, le=3_600_000), Digits] | None,
    Header(description="milliseconds after which the request is dropped unserved"),
]


@dataclass(frozen=True)
class AnswerFormat:
    """The form of answer that a request for posteriors asks for."""

    output: Output
    top_k: int | None
    utt_id: str
    media_type: str
    level: Level = "pdf"

    @property
    def form(self) -> str:
        """Name what decides how long a value takes to write; empty: the scores' own bytes are sent."""
        is_plain = self.level == "pdf" and self.output == "log_posterior" and self.top_k is None
        if is_plain and self.media_type != answers.JSON:
            return ""
        best = "all" if self.top_k is None else f"top {self.top_k.bit_length()}"
        return f"{self.level} {self.output} {self.media_type} {best}"


@router.post("/posteriors", response_model=Posteriors, **openapi.POSTERIORS)
async def posteriors(
    request: Request,
    output: Annotated[Output, Query(description="what to answer")] = "log_posterior",
    top_k: TopK = None,
    utt_id: UttId = "",
    channel: Channel = None,
    model: ModelName = "",
    level: LevelName = "pdf",
    x_timeout_ms: TimeoutMs = None,
) -> Response:
    """Compute framewise posteriors of one utterance, sent as audio, as a form's file, or as features."""
    media_type = answers.negotiate(request.headers.get("accept", ""))
    wanted = AnswerFormat(output, top_k, utt_id, media_type, level)
    _service(request).models.get(model).columns(level)  # refused before the body is read
    asked = await v1_request(request, channel, model, x_timeout_ms)
    return await unless_client_leaves(request, _posteriors(asked, wanted))


@router.get("/names", response_model=Names, responses=openapi.refusals(401, 404, 422, 500))
async def names(request: Request, level: LevelName = "pdf", model: ModelName = "") -> Response:
    """Name the columns of a model's scores; a pdf by the phone that it is most often of."""
    asked = _service(request).models.get(model)
    of_columns = asked.columns(level).names
    if of_columns is None:
        raise Refusal(422, f"model {asked.name!r} does not know its phones")
    answer = Names(model=asked.name, version=asked.version, level=level, names=list(of_columns))
    return Response(answer.model_dump_json(), media_type=answers.JSON)


@router.post("/features", response_class=Response, **openapi.FEATURES)
async def features(
    request: Request, channel: Channel = None, model: ModelName = "", x_timeout_ms: TimeoutMs = None
) -> Response:
    """Compute the model's static features (energy, log-mel bands) from audio, as npy."""
    asked = await v1_request(request, channel, model, x_timeout_ms)
    return await unless_client_leaves(request, _features(asked))


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


async def v1_request(
    request: Request,
    channel: int | None,
    name: str,
    timeout_ms: int | None,
    other_parts: tuple[str, ...] = (),
) -> V1Request:
    """Receive a request's body, once there is room for it; raises as `receive`.

    ``other_parts`` are those that a form may have beside the file.
    """
    service = _service(request)
    timing = timing_of(request)
    model = service.models.get(name)
    deadline = service.deadline(timing, timeout_ms / 1000 if timeout_ms else None)
    body = await receive(request, service, timing, deadline)
    content_type = request.headers.get("content-type", "")
    return V1Request(service, model, body, content_type, channel, deadline, timing, other_parts)


async def _posteriors(asked: V1Request, wanted: AnswerFormat) -> Response:
    service = asked.service
    with ExitStack() as held:
        admission = held.enter_context(service.admit(asked.client, asked.deadline, len(asked.body)))
        with service.batcher.announce(asked.client) as announced:
            utterance = await utterance_of(asked)
            admission.take_batch(asked.model, 1, len(utterance.feats))
            (scored,) = await service.score(
                asked.model, [utterance.feats], asked.deadline, asked.timing, announced, wanted.form
            )
        label, scores = wanted.utt_id or utterance.label or "utterance", scored.log_posteriors
        encode = partial(_encode, asked.model, scores, wanted, label)
        if wanted.form:
            encoded = await service.write(asked.timing, asked.deadline, wanted.form, scores.size, encode)
        else:
            started = time.monotonic()
            encoded = encode()
            service.note(asked.timing, "serialize", time.monotonic() - started)
        note_real_time_factor(asked, len(utterance.feats))
        return held_response(asked, admission, held, encoded, wanted.media_type)


async def _features(asked: V1Request) -> Response:
    with ExitStack() as held:
        admission = held.enter_context(asked.service.admit(asked.client, asked.deadline, len(asked.body)))
        utterance = await utterance_of(asked)
        admission.take_batch(asked.model, 1, len(utterance.feats))
        static = utterance.feats[:, : asked.model.metadata.num_static]
        writing = asked.service.encoders.run(asked.client, answers.npy_chunks, static, None)
        chunks = await before(asked.deadline, writing, "its answer was written")
        return held_response(asked, admission, held, answers.Encoded(chunks), answers.NPY)


def held_response(
    asked: V1Request, admission: Admission, held: ExitStack, encoded: answers.Encoded, media_type: str
) -> Response:
    """Return an answer that holds what its request does until it has been sent."""
    headers = {
        "server-timing": asked.timing.server_timing(),
        "x-frame-shift-ms": f"{asked.model.metadata.fbank.frame_shift_ms:g}",
    }
    return HeldResponse(
        asked.service, admission, held.pop_all(), encoded, media_type=media_type, headers=headers
    )


def note_real_time_factor(asked: V1Request, num_frames: int) -> None:
    """Record how long an utterance of ``num_frames`` took."""
    spanned_s = num_frames * asked.model.metadata.fbank.frame_shift_ms / 1000
    asked.service.metrics.real_time_factor.observe((time.monotonic() - asked.timing.started) / spanned_s)


def _encode(model: ServedModel, log_posteriors: Floats, wanted: AnswerFormat, utt_id: str) -> answers.Encoded:
    columns, has_phones = model.columns(wanted.level), wanted.level != "pdf"
    values = to_output(columns.log_posteriors(log_posteriors), columns.log_priors, wanted.output)
    fields: dict[str, object] = {
        "utt_id": utt_id,
        "model": model.name,
        "version": model.version,
        "output": wanted.output,
        "num_frames": values.shape[0],
        "num_phones" if has_phones else "num_pdfs": values.shape[1],
        "frame_shift_ms": model.metadata.fbank.frame_shift_ms,
    }
    if has_phones:
        fields |= {"level": wanted.level, "names": columns.names}
    names = columns.names if has_phones else None
    return answers.encode(wanted.media_type, fields, values, wanted.top_k, names)
