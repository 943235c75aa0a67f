"""A stand-in for a model in the batcher's tests, and what runs them."""

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from asr_bn.system.arrays import Floats
from serve.batching.batch_policy import BatchLimits
from serve.batching.batcher import Batcher

FAR = 1e9


class Recorder:
    """A scorer whose answer is its input doubled; it notes its batches and can be held."""

    max_batch_size = 8
    num_threads = 1
    is_padded = True

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go = threading.Event()
        self.go.set()

    def log_posteriors(self, feats: Sequence[Floats]) -> list[Floats]:
        self.batches.append([len(matrix) for matrix in feats])
        assert self.go.wait(10)
        return [2 * matrix for matrix in feats]


def matrix(num_frames: int) -> Floats:
    return np.full((num_frames, 2), num_frames, np.float32)


async def until(condition: Any) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def run(limits: BatchLimits, scenario: Any, scorer: Recorder | None = None) -> Recorder:
    """``scenario(batcher, scorer)`` on a fresh batcher, closed at the end."""
    scorer = scorer or Recorder()

    async def main() -> None:
        batcher = Batcher(limits)
        await scenario(batcher, scorer)
        await asyncio.wait_for(batcher.close(), 10)

    asyncio.run(main())
    return scorer
