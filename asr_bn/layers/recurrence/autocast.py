"""Automatic mixed precision around the recurrences: they run in float32, on any device."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.amp import custom_bwd, custom_fwd

Outputs = tuple[Tensor | None, ...]


def at_least_float32(values: Tensor) -> Tensor:
    """Return half-precision values in float32, in which statistics are taken, and all others as they are."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def float32_forward(forward: Callable[..., Outputs]) -> Callable[..., Outputs]:
    """Wrap ``forward`` of an autograd function: in an autocast region its inputs are cast to float32."""

    def run(ctx: Any, first: Tensor, *others: object) -> Outputs:
        kind = ctx.device_type = first.device.type
        ctx.autocast = torch.is_autocast_enabled(kind)
        cast = custom_fwd(forward, device_type=kind, cast_inputs=torch.float32)
        result: Outputs = cast(ctx, first, *others)
        return result

    return run


def float32_backward(backward: Callable[..., Outputs]) -> Callable[..., Outputs]:
    """Wrap ``backward`` of the same function: no autocast region around its call changes it."""

    def run(ctx: Any, *grad_outputs: Tensor) -> Outputs:
        result: Outputs = custom_bwd(backward, device_type=ctx.device_type)(ctx, *grad_outputs)
        return result

    return run
