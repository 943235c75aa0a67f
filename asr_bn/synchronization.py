"""Sums over the ranks of ``torch.distributed``."""

import torch.distributed
from torch import Tensor


def is_distributed() -> bool:
    """True if this process is one of several ranks."""
    ready = torch.distributed.is_available() and torch.distributed.is_initialized()
    return ready and torch.distributed.get_world_size() > 1


def sum_over_ranks(values: Tensor, maximum: bool = False) -> Tensor:
    """Replace ``values`` by their sum (or maximum) over all ranks, in place, and return them."""
    operation = torch.distributed.ReduceOp.MAX if maximum else torch.distributed.ReduceOp.SUM
    torch.distributed.all_reduce(values, op=operation)
    return values
