"""From a request's body to the features that a model takes."""

from dataclasses import dataclass

from asr_bn.scoring.scorer import with_deltas
from asr_bn.system.arrays import Floats
from serve.formats.answers import NPY
from serve.formats.bodies import read_form, read_npy
from serve.limits.refusal import Refusal
from serve.service.models import ServedModel
from serve.service.service import Service, Timing, before

_FORM = "multipart/form-data"
# Features of that size are read in less time than it takes to hand them over to a thread.
_SMALL_BYTES = 1 << 18


@dataclass(frozen=True)
class V1Request:
    """A request under ``/v1``: its body and what it asks of the audio, its model, its deadline.

    ``other_parts`` are those that a form may have beside the file.
    """

    service: Service
    model: ServedModel
    body: bytes
    content_type: str
    channel: int | None
    deadline: float
    timing: Timing
    other_parts: tuple[str, ...] = ()

    @property
    def client(self) -> str:
        """The client that asks."""
        return self.timing.client


@dataclass(frozen=True)
class Utterance:
    """What a body held: features as sent or computed, ``[num_frames, num_features]``, and a label."""

    feats: Floats
    label: str


@dataclass(frozen=True)
class Sent:
    """What a body or the form in it holds: media type, the name it came with, the bytes, perhaps a text."""

    kind: str
    label: str
    data: bytes
    text: str | None = None


async def utterance_of(asked: V1Request) -> Utterance:
    """Read the utterance of a request's body; raises as `sent_of` and `features_of`."""
    return await features_of(asked, await sent_of(asked))


async def sent_of(asked: V1Request) -> Sent:
    """Find what a request's body holds.

    Raises:
        Refusal: 400 for the body, 504 when the deadline comes first.
    """
    if _media_type(asked.content_type) != _FORM:
        return _sent(asked)
    reading = asked.service.readers.run(asked.client, _sent, asked)
    return await before(asked.deadline, reading, "its form was read")


async def features_of(asked: V1Request, sent: Sent) -> Utterance:
    """Read or compute features.

    Raises:
        Refusal: 400, 413, 415 or 422 for the body, 504 when the deadline comes first.
    """
    if sent.kind == NPY and len(sent.data) <= _SMALL_BYTES:
        return _given_features(asked.model, sent)
    return await before(asked.deadline, _large_or_audio(asked, sent), "its features were computed")


async def _large_or_audio(asked: V1Request, sent: Sent) -> Utterance:
    if sent.kind == NPY or sent.data.startswith(b"\x93NUMPY"):
        return await asked.service.readers.run(asked.client, _given_features, asked.model, sent)
    return await _audio_features(asked, sent)


def _sent(asked: V1Request) -> Sent:
    kind, label, data, text = _media_type(asked.content_type), "", asked.body, None
    if kind == _FORM:
        parts = read_form(asked.body, asked.content_type, *asked.other_parts)
        file = parts["file"]
        kind, label = _media_type(file.headers.get("content-type", "")), _as_utt_id(file.stem)
        data = bytes(file.data)
        text = parts["text"].text() if "text" in parts else None
    if not data:
        raise Refusal(400, "the body is empty, expected audio or features")
    return Sent(kind, label, data, text)


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _as_utt_id(stem: str) -> str:
    """Make a file name an utterance id, which may hold no white space."""
    return "".join(letter if "!" <= letter <= "~" else "_" for letter in stem)[:200]


def _given_features(model: ServedModel, sent: Sent) -> Utterance:
    try:
        return Utterance(with_deltas(read_npy(sent.data), model.metadata), sent.label)
    except ValueError as error:
        raise Refusal(422, str(error)) from error


async def _audio_features(asked: V1Request, sent: Sent) -> Utterance:
    metadata, service = asked.model.metadata, asked.service
    audio = await service.audio_workers.features(
        sent.data, metadata.fbank, metadata.delta_order, asked.channel, asked.client
    )
    service.note(asked.timing, "decode", audio.decode_s, before_s=audio.features_s)
    service.note(asked.timing, "features", audio.features_s)
    service.metrics.audio_seconds.inc(audio.audio_s)
    return Utterance(audio.feats, sent.label)
