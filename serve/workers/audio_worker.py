"""Decode a client's audio and compute its features, as a process: ``python -m serve.workers.audio_worker``.

It reads large JSON tensors, too, which would keep the server's interpreter from doing anything else.  It runs
apart from the server, with a limit on its memory and out of reach of files and sockets (`lockdown`), so
that a hostile body can only end it.  Requests come on standard input and answers go to standard output, each
a frame: a number, which the answer repeats, and the sizes of a JSON head and of a payload (little-endian, 8,
4 and 8 bytes), then both.
"""

import importlib
import json
import os
import pkgutil
import struct
import sys
import time
import traceback
from typing import Any, BinaryIO, Literal, Required, TypedDict

import numpy as np

from asr_bn.audio.formats import audio_format
from asr_bn.audio.reader import Recording, decode_recording, resample
from asr_bn.features.deltas import add_deltas
from asr_bn.features.filterbank import fbank
from asr_bn.features.options import FbankOptions
from asr_bn.system.arrays import Floats
from asr_bn.system.memory import give_back_freed_memory, keep_some_freed_memory
from serve.formats.tensors import PackedRequest, TensorMetadata, TensorSpec, pack_request, read_request
from serve.limits.refusal import Refusal
from serve.workers.lockdown import lock_in

# What it says when it has started: whether the system keeps it from files and sockets.
GREETINGS = {b"locked\n": True, b"limits\n": False}
HEADER = struct.Struct("<QIQ")
MAX_HEAD_BYTES = 1 << 18
_AT_ONCE = 1 << 20
GIVE_BACK_S = 15.0
_MOST_CHARACTERS = 1000


class FeaturesTask(TypedDict):
    """What `features` is asked: the fields of `FbankOptions`, and a channel from 0 (None: the only one)."""

    task: Literal["features"]
    fbank: dict[str, Any]
    delta_order: int
    max_seconds: float
    channel: int | None


class TensorsTask(TypedDict):
    """What `tensors` is asked: the arguments of `serve.formats.tensors.read_request`."""

    task: Literal["tensors"]
    json_size: str | None
    specs: list[TensorMetadata]


class Answer(TypedDict, total=False):
    """A status (of HTTP) with a sentence for the client, figures of features, or an ``infer`` request."""

    status: Required[int]
    detail: str
    traceback: str
    num_frames: int
    num_features: int
    audio_s: float
    decode_s: float
    features_s: float
    request: PackedRequest


Task = FeaturesTask | TensorsTask


def frame(number: int, head: Task | Answer, payload: bytes) -> bytes:
    """Return the bytes of a frame."""
    text = json.dumps(head).encode()
    return b"".join([HEADER.pack(number, len(text), len(payload)), text, payload])


def answer(head: Task, data: bytes) -> tuple[Answer, bytes]:
    """Run the task that ``head`` describes on ``data``."""
    return features(head, data) if head["task"] == "features" else tensors(head, data)


def tensors(head: TensorsTask, data: bytes) -> tuple[Answer, bytes]:
    """Read the ``infer`` request ``data``; return its tensors as they lie in memory.

    Returns:
        ``status`` 200 with what `serve.formats.tensors.pack_request` gives, or another status and ``detail``.
    """
    specs = [TensorSpec(spec["name"], spec["datatype"], tuple(spec["shape"])) for spec in head["specs"]]
    try:
        call = read_request(data, head["json_size"], specs)
    except Refusal as error:
        return refusal(error.status, error.detail), b""
    packed, payload = pack_request(call)
    return {"status": 200, "request": packed}, payload


def features(head: FeaturesTask, data: bytes) -> tuple[Answer, bytes]:
    """Compute features of the audio file ``data``.

    Returns:
        ``status`` 200 with all figures, and the float32 features; or another status and ``detail``.
    """
    if audio_format(data) is None:
        return refusal(415, "the body is not in an audio format that this server reads"), b""
    started = time.perf_counter()
    try:
        recording = decode(data, head)
        audio_s = len(recording.samples) / recording.sample_frequency
        if audio_s > head["max_seconds"]:
            return refusal(413, f"the audio lasts longer than {head['max_seconds']:g} s"), b""
        samples = at_rate(recording, round(head["fbank"]["sample_frequency"]))
    except ValueError as error:
        return refusal(422, str(error)), b""
    decoded = time.perf_counter()
    with np.errstate(all="ignore"):  # what overflows is refused
        feats = compute_features(samples, head)
    if len(feats) == 0:
        return refusal(422, f"{len(samples)} samples of audio, too few for one frame"), b""
    if not np.isfinite(feats).all():
        return refusal(422, "the samples are so large that the features are not finite"), b""
    figures: Answer = {
        "status": 200,
        "num_frames": feats.shape[0],
        "num_features": feats.shape[1],
        "audio_s": audio_s,
        "decode_s": decoded - started,
        "features_s": time.perf_counter() - decoded,
    }
    return figures, feats.tobytes()


def refusal(status: int, detail: str) -> Answer:
    """Return the head of an answer without features."""
    return {"status": status, "detail": detail[:_MOST_CHARACTERS]}


def decode(data: bytes, head: FeaturesTask) -> Recording:
    """Decode one channel, ``[num_samples, 1]``, in Kaldi's scale at the rate that the features need.

    Raises:
        ValueError: the file is broken, has other channels, or too low a rate.
    """
    recording = decode_recording(data)
    num_channels = recording.samples.shape[1]
    channel = head["channel"]
    if channel is None and num_channels > 1:
        raise ValueError(f"{num_channels} channels; choose one with the parameter channel, from 0")
    if (channel or 0) >= num_channels:
        raise ValueError(f"channel {channel} of {num_channels} (they count from 0)")
    samples = recording.samples[:, channel or 0].astype(np.float32)
    if recording.samples.dtype.kind == "f" and not np.isfinite(samples).all():
        raise ValueError("a sample of the audio is not finite")
    return Recording(samples[:, None], recording.sample_frequency)


def at_rate(recording: Recording, wanted: int) -> Floats:
    """Resample ``[num_samples]`` to ``wanted`` Hz.

    Raises:
        ValueError: the audio has a lower rate: its upper bands would be empty, unlike those of any speech
            that the model has heard.
    """
    samples = recording.samples[:, 0].astype(np.float32, copy=False)
    frequency = recording.sample_frequency
    if frequency < wanted:
        raise ValueError(f"sampled at {frequency} Hz, the model needs {wanted} Hz or more")
    return samples if frequency == wanted else resample(samples, frequency, wanted)


def compute_features(samples: Floats, head: FeaturesTask) -> Floats:
    """Compute the filter bank, ``[num_frames, num_static]``, with deltas if ``delta_order`` is above 0."""
    feats = fbank(samples, FbankOptions(**head["fbank"]))
    if len(feats) and head["delta_order"]:
        feats = add_deltas(feats, head["delta_order"])
    return np.ascontiguousarray(feats, dtype=np.float32)


def limit_memory(max_bytes: int) -> None:
    """Bound the address space, where the system can."""
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_AS, (max_bytes, max_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def serve_frames(source: BinaryIO, sink: BinaryIO) -> None:
    """Answer frames until the server closes its end; give back what they needed now and then."""
    given_back = time.monotonic()
    while header := source.read(HEADER.size):
        number, head_size, payload_size = HEADER.unpack(header)
        head = json.loads(source.read(head_size))
        sink.write(framed_answer(number, head, source, payload_size))
        sink.flush()
        if time.monotonic() - given_back > GIVE_BACK_S:
            give_back_freed_memory()
            given_back = time.monotonic()


def framed_answer(number: int, head: Task, source: BinaryIO, payload_size: int) -> bytes:
    """Answer question ``number`` with a frame; an error of ours has status 500."""
    try:
        data = read_payload(source, payload_size)
        return frame(number, *answer(head, data))
    except MemoryError:
        return frame(number, refusal(413, "the body needs more memory than this server allows"), b"")
    except Exception:
        told = refusal(500, "internal error")
        told["traceback"] = traceback.format_exc()[-4000:]
        return frame(number, told, b"")


def read_payload(source: BinaryIO, size: int) -> bytes:
    """Read a frame's payload to its end, even where it does not fit in memory.

    Raises:
        MemoryError: it cannot.
    """
    try:
        return source.read(size)
    except MemoryError:
        while size and (part := source.read(min(size, _AT_ONCE))):
            size -= len(part)
        raise


def main() -> None:
    """Read frames from standard input; the first argument is the limit on memory, in bytes."""
    # Answers go where standard output went; what a library prints goes to standard error.
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    import_what_is_needed()
    limit_memory(int(sys.argv[1]))
    keep_some_freed_memory()  # the arrays of one utterance are those of the next
    # From here on nobody reads what a decoder prints about a client's body: a full pipe would stop it.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    is_locked_in = lock_in()
    sink.write(next(greeting for greeting, locked in GREETINGS.items() if locked == is_locked_in))
    sink.flush()
    serve_frames(sys.stdin.buffer, sink)


def import_what_is_needed() -> None:
    """Import what libraries import when they are used: memory is limited then, and files are out of reach."""
    import av
    import soundfile  # noqa: F401
    import soxr  # noqa: F401

    for module in pkgutil.walk_packages(av.__path__, "av."):
        if not module.name.endswith(".__main__"):
            importlib.import_module(module.name)  # a container may hold anything
    add_deltas(fbank(np.zeros(1600, np.float32), FbankOptions()), 2)


if __name__ == "__main__":
    main()
