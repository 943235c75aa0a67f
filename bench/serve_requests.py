"""Requests of every kind that the server takes, each with the matrix that its answer has to hold."""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import kaldiio
import numpy as np
import soundfile

from asr_bn.features.filterbank import fbank
from asr_bn.scoring.scorer import AcousticScorer
from asr_bn.system.arrays import Floats
from bench.peers.batch import npy

POSTERIORS = "/v1/posteriors"
NPY = "application/x-npy"


@dataclass(frozen=True)
class Request:
    """A request, how to read the matrix in its answer, and that matrix."""

    path: str
    body: bytes
    headers: dict[str, str]
    read: Callable[[httpx.Response], Floats]
    expected: Floats


def make_requests(scorer: AcousticScorer, count: int) -> list[Request]:
    """Make requests for ``count`` utterances of 1 to 300 frames, the kinds taking turns."""
    kinds = (_features_for_npy, _features_for_json, _features_for_ark, _wav, _flac, _open_inference)
    return [kinds[k % len(kinds)](scorer, 1 + (37 * k) % 300, k) for k in range(count)]


def _feats(scorer: AcousticScorer, num_frames: int, seed: int) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    feats = rng.standard_normal((num_frames, scorer.metadata.num_features)).astype(np.float32)
    return feats, scorer.log_posteriors([feats])[0]


def _features_for_npy(scorer: AcousticScorer, num_frames: int, seed: int) -> Request:
    feats, expected = _feats(scorer, num_frames, seed)
    return Request(POSTERIORS, npy(feats), {"content-type": NPY, "accept": NPY}, _read_npy, expected)


def _features_for_json(scorer: AcousticScorer, num_frames: int, seed: int) -> Request:
    feats, expected = _feats(scorer, num_frames, seed)

    def read(answer: httpx.Response) -> Floats:
        return np.array(answer.json()["values"], np.float32)

    return Request(POSTERIORS, npy(feats), {"content-type": NPY}, read, expected)


def _features_for_ark(scorer: AcousticScorer, num_frames: int, seed: int) -> Request:
    feats, expected = _feats(scorer, num_frames, seed)

    def read(answer: httpx.Response) -> Floats:
        ((utt_id, matrix),) = kaldiio.load_ark(io.BytesIO(answer.content))
        return np.asarray(matrix if utt_id == f"u{seed}" else matrix[:0])

    headers = {"content-type": NPY, "accept": "application/x-kaldi-ark"}
    return Request(f"{POSTERIORS}?utt_id=u{seed}", npy(feats), headers, read, expected)


def _wav(scorer: AcousticScorer, num_frames: int, seed: int) -> Request:
    return _audio(scorer, num_frames, seed, "WAV")


def _flac(scorer: AcousticScorer, num_frames: int, seed: int) -> Request:
    return _audio(scorer, num_frames, seed, "FLAC")


def _audio(scorer: AcousticScorer, num_frames: int, seed: int, kind: str) -> Request:
    options = scorer.metadata.fbank
    num_samples = options.window_size + (num_frames - 1) * options.window_shift
    samples = np.random.default_rng(seed).normal(0, 3000, num_samples).astype(np.int16)
    stream = io.BytesIO()
    soundfile.write(stream, samples, round(options.sample_frequency), format=kind, subtype="PCM_16")
    static = fbank(samples.astype(np.float32), options)
    (expected,) = scorer.log_posteriors([scorer.with_deltas(static)])
    return Request(POSTERIORS, stream.getvalue(), {"accept": NPY}, _read_npy, expected)


def _open_inference(scorer: AcousticScorer, num_frames: int, seed: int) -> Request:
    feats, expected = _feats(scorer, num_frames, seed)
    inputs: list[dict[str, Any]] = [
        {"name": "features", "datatype": "FP32", "shape": [1, *feats.shape]},
        {"name": "lengths", "datatype": "INT32", "shape": [1], "data": [num_frames]},
    ]
    inputs[0]["parameters"] = {"binary_data_size": feats.nbytes}
    outputs = [{"name": "log_posteriors", "parameters": {"binary_data": True}}]
    call = {"id": f"u{seed}", "inputs": inputs, "outputs": outputs}
    text = json.dumps(call).encode()
    headers = {"inference-header-content-length": str(len(text))}

    def read(answer: httpx.Response) -> Floats:
        size = int(answer.headers["inference-header-content-length"])
        (output,) = json.loads(answer.content[:size])["outputs"]
        return np.asarray(np.frombuffer(answer.content[size:], np.float32).reshape(output["shape"])[0])

    return Request("/v2/models/{model}/infer", text + feats.tobytes(), headers, read, expected)


def _read_npy(answer: httpx.Response) -> Floats:
    return np.asarray(np.load(io.BytesIO(answer.content)))
