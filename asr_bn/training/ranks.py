"""The processes that train one model together, as ``torchrun`` starts them."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from asr_bn.layers.recurrence.synchronization import sum_over_ranks

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """Which process this is (``rank`` of ``size``), also among those on this machine (``local_``)."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @classmethod
    def from_environment(cls) -> "Ranks":
        """Read what ``torchrun`` puts into the environment; without it there is one process."""
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        if not all(name in os.environ for name in names):
            return cls()
        return cls(*(int(os.environ[name]) for name in names))

    @property
    def is_first(self) -> bool:
        """Whether this rank writes files and prints."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """Return this rank's part: every ``size``-th item, so that parts of a sorted sequence are alike."""
        return items[self.rank :: self.size]

    def sum(self, values: Tensor) -> Tensor:
        """Sum ``values`` over all ranks, in place."""
        return sum_over_ranks(values) if self.size > 1 else values

    def gather(self, value: T) -> list[T]:
        """Return the ``value`` of every rank."""
        values = [value] * self.size
        if self.size > 1:
            torch.distributed.all_gather_object(values, value)
        return values


@contextmanager
def process_group(ranks: Ranks, device: torch.device) -> Iterator[None]:
    """Join the other ranks (gloo on a CPU, NCCL on GPUs) while the block runs."""
    if ranks.size == 1:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    torch.distributed.init_process_group(backend, rank=ranks.rank, world_size=ranks.size)
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()
