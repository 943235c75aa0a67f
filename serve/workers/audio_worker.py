"""Decode a client's audio and compute its features, as a process: ``python -m serve.workers.audio_worker``.

It reads large JSON tensors, too, which would keep the server's interpreter from doing anything else.  Its
first argument is the limit on its memory, in bytes; `frames` says how it is asked.
"""

import importlib
import pkgutil
import sys
import time
from typing import Any, Literal, TypedDict

import numpy as np

from asr_bn.audio.formats import audio_format
from asr_bn.audio.reader import Recording, decode_recording, resample
from asr_bn.features.deltas import add_deltas
from asr_bn.features.filterbank import fbank
from asr_bn.features.options import FbankOptions
from asr_bn.system.arrays import Floats
from serve.formats.tensors import TensorMetadata, TensorSpec, pack_request, read_request
from serve.limits.refusal import Refusal
from serve.workers.frames import Answer, Work, refusal, run


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


Task = FeaturesTask | TensorsTask


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


def import_what_is_needed() -> None:
    """Import what libraries import when they are used: memory is limited then, and files are out of reach."""
    import av
    import soundfile  # noqa: F401
    import soxr  # noqa: F401

    for module in pkgutil.walk_packages(av.__path__, "av."):
        if not module.name.endswith(".__main__"):
            importlib.import_module(module.name)  # a container may hold anything
    add_deltas(fbank(np.zeros(1600, np.float32), FbankOptions()), 2)


def prepare() -> tuple[Work[Task], int]:
    """Import everything; return the work, and the limit on memory that the command line names."""
    import_what_is_needed()
    return answer, int(sys.argv[1])


if __name__ == "__main__":
    run(prepare)
