"""Sums over the ranks of ``torch.distributed``."""

from typing import Any

import torch.distributed
from torch import Tensor


def is_distributed() -> bool:
    """Return whether this process is one of several ranks."""
    ready = torch.distributed.is_available() and torch.distributed.is_initialized()
    return ready and torch.distributed.get_world_size() > 1


def sum_over_ranks(values: Tensor, maximum: bool = False) -> Tensor:
    """Replace ``values`` by their sum (or maximum) over all ranks, in place, and return them."""
    operation = torch.distributed.ReduceOp.MAX if maximum else torch.distributed.ReduceOp.SUM
    torch.distributed.all_reduce(values, op=operation)
    return values


class _SumOverRanks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return sum_over_ranks(values.clone(memory_format=torch.contiguous_format))

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        return joint_sum(grad_outputs[0], True)  # the loss of every rank depends on the sum


def joint_sum(values: Tensor, sync: bool) -> Tensor:
    """Return ``values`` or, with ``sync``, their sum over all ranks; differentiable any number of times."""
    if not sync:
        return values
    result: Tensor = _SumOverRanks.apply(values)
    return result


def longest_of_ranks(num_steps: int, device: torch.device, sync: bool) -> int:
    """Return ``num_steps`` or, with ``sync``, the largest of all ranks."""
    return int(sum_over_ranks(torch.tensor([num_steps], device=device), maximum=True)) if sync else num_steps
