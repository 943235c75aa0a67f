"""The processes that read audio and large JSON, seen from the server."""

from dataclasses import dataclass

import numpy as np

from asr_bn.features.options import FbankOptions
from asr_bn.system.arrays import Floats
from serve.formats.tensors import InferRequest, TensorSpec, unpack_request
from serve.workers.audio_worker import FeaturesTask, TensorsTask
from serve.workers.pool import WorkerPool
from serve.workers.worker_process import Program


@dataclass(frozen=True)
class AudioLimits:
    """What one audio file may cost."""

    max_seconds: float = 120.0
    timeout_s: float = 10.0
    memory_bytes: int = 1 << 30


@dataclass(frozen=True)
class AudioFeatures:
    """Features ``[num_frames, num_features]`` of an audio file, its length and what they cost."""

    feats: Floats
    audio_s: float
    decode_s: float
    features_s: float


class AudioWorkers(WorkerPool):
    """A pool of audio processes.

    Args:
        size: how many.
        limits: of each.
    """

    def __init__(self, size: int, limits: AudioLimits) -> None:
        super().__init__(size, Program("serve.workers.audio_worker", limits.memory_bytes), limits.timeout_s)
        self.limits = limits

    async def features(
        self,
        data: bytes,
        options: FbankOptions,
        delta_order: int,
        channel: int | None = None,
        client: str = "",
    ) -> AudioFeatures:
        """Decode ``data`` of ``client`` and compute its features.

        Raises:
            Refusal: 415 not audio, 422 broken, 413 too long or in need of too much time or memory,
                503 no process could decode it, through no fault of its own.
        """
        head: FeaturesTask = {
            "task": "features",
            "fbank": vars(options),
            "delta_order": delta_order,
            "max_seconds": self.limits.max_seconds,
            "channel": channel,
        }
        answer, payload = await self._ask(head, data, client)
        feats = np.frombuffer(payload, np.float32).reshape(answer["num_frames"], answer["num_features"])
        return AudioFeatures(feats, answer["audio_s"], answer["decode_s"], answer["features_s"])

    async def tensors(
        self, body: bytes, json_size: str | None, specs: list[TensorSpec], client: str = ""
    ) -> InferRequest:
        """Call `serve.formats.tensors.read_request` in one of the processes.

        Raises:
            Refusal: as there, 413 it needs too much time or memory, or 503 as in :meth:`features`.
        """
        described = [spec.describe() for spec in specs]
        head: TensorsTask = {"task": "tensors", "json_size": json_size, "specs": described}
        answer, payload = await self._ask(head, body, client)
        return unpack_request(answer["request"], payload)
