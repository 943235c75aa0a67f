"""``/v1/alignments`` and ``/v1/transcripts``: when words and phones are spoken, and which."""

from contextlib import ExitStack
from typing import Annotated

import orjson
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from asr_bn.kaldi_io.plain_text import split_words
from serve.formats import answers
from serve.formats.parameters import StrictRoute
from serve.formats.schemas import Alignment, Transcript
from serve.limits.refusal import Refusal
from serve.protocols import openapi
from serve.protocols.request_flow import unless_client_leaves
from serve.protocols.utterances import V1Request, features_of, sent_of
from serve.protocols.v1 import (
    Channel,
    ModelName,
    TimeoutMs,
    UttId,
    held_response,
    note_real_time_factor,
    v1_request,
)
from serve.service.service import Service, search_form
from serve.settings import Settings

router = APIRouter(prefix="/v1", tags=["words"], route_class=StrictRoute)

Text = Annotated[
    str | None, Query(description="the words that are spoken; of a form the part 'text' may have them")
]
_WITHOUT = {
    "lang": "a lexicon; asr-bn serve MODEL --lang DIR_OR_DICT (or ASR_BN_LANG) gives it one",
    "graph": "a graph; asr-bn serve MODEL --graph GRAPH_DIR (or ASR_BN_GRAPH) gives it what make-graph left",
}


@router.post("/alignments", response_model=Alignment, **openapi.ALIGNMENTS)
async def alignments(
    request: Request,
    text: Text = None,
    utt_id: UttId = "",
    channel: Channel = None,
    model: ModelName = "",
    x_timeout_ms: TimeoutMs = None,
) -> Response:
    """Find when the words and phones of a text are spoken, in audio or features, and how well they fit."""
    service = _check(request, "lang", model)
    if text is not None:
        _words(text, service.settings)  # refused before the body is read
    asked = await v1_request(request, channel, model, x_timeout_ms, ("text",))
    return await unless_client_leaves(request, _search(asked, utt_id, text or ""))


@router.post("/transcripts", response_model=Transcript, **openapi.TRANSCRIPTS)
async def transcripts(
    request: Request,
    utt_id: UttId = "",
    channel: Channel = None,
    model: ModelName = "",
    x_timeout_ms: TimeoutMs = None,
) -> Response:
    """Find the words that are spoken, in audio or features, with times and confidences."""
    _check(request, "graph", model)
    asked = await v1_request(request, channel, model, x_timeout_ms)
    return await unless_client_leaves(request, _search(asked, utt_id, None))


def _check(request: Request, needed: str, model: str) -> Service:
    """Refuse before the body is read what the server was not started for.

    Raises:
        Refusal: 501 it has no lexicon or graph, 422 the model is of another system, 404 there is none, 406
            the answer has no such form.
    """
    service: Service = request.app.state.service
    if getattr(service.settings, needed) is None:
        raise Refusal(501, f"this server was started without {_WITHOUT[needed]}")
    answers.negotiate(request.headers.get("accept", ""), (answers.JSON,))
    if service.search_workers is not None:
        service.search_workers.check(service.models.get(model).metadata)
    return service


def _words(text: str, settings: Settings) -> list[str]:
    """Split a text into words.

    Raises:
        Refusal: 413 it is too long, or has too many; 422 it has none.
    """
    most = settings.max_text_bytes
    if len(text) > most or len(text.encode()) > most:  # looked at first: it may be as long as a body
        raise Refusal(413, f"text: {len(text)} characters, this server takes up to {most} bytes")
    words = split_words(text)
    if len(words) > settings.max_text_words:
        most = settings.max_text_words
        raise Refusal(413, f"text: {len(words)} words, this server takes up to {most}")
    if not words:
        raise Refusal(422, "text: no words in it, expected those that are spoken")
    return words


async def _search(asked: V1Request, utt_id: str, text: str | None) -> Response:
    """Answer with an alignment of ``text``, which is empty where the form has it; None: with a transcript."""
    service = asked.service
    with ExitStack() as held:
        admission = held.enter_context(service.admit(asked.client, asked.deadline, len(asked.body)))
        with service.batcher.announce(asked.client) as announced:
            sent = await sent_of(asked)
            words = None if text is None else _words(_only_text(text, sent.text), service.settings)
            utterance = await features_of(asked, sent)
            admission.take_batch(asked.model, 1, len(utterance.feats))
            (scored,) = await service.score(
                asked.model, [utterance.feats], asked.deadline, asked.timing, announced, search_form(words)
            )
        found = await service.search(asked.timing, asked.deadline, words, scored.log_posteriors)
        head = {
            "utt_id": utt_id or utterance.label or "utterance",
            "model": asked.model.name,
            "version": asked.model.version,
            "frame_shift_ms": asked.model.metadata.fbank.frame_shift_ms,
        }
        encoded = answers.Encoded([orjson.dumps(head)[:-1], b",", found[1:]])
        note_real_time_factor(asked, len(utterance.feats))
        return held_response(asked, admission, held, encoded, answers.JSON)


def _only_text(in_query: str, in_form: str | None) -> str:
    if in_form is None:
        if not in_query:
            raise Refusal(422, "text: missing, expected as the form's part 'text' or in the query, ?text=...")
        return in_query
    if in_query:
        raise Refusal(422, "text: given in the query and in the form, expected once")
    return in_form
