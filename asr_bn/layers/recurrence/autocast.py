"""Automatic mixed precision around the recurrences: they run in float32, on any device."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.amp import custom_bwd, custom_fwd

Outputs = tuple[Tensor | None, ...]


def at_least_float32(values: Tensor) -> Tensor:
    """Half-precision values in float32, in which statistics are taken; all others as they are."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def float32_forward(forward: Callable[..., Any]) -> Callable[..., Any]:
    """``forward`` of an autograd function, its inputs cast to float32 within an autocast region."""

    def run(ctx: Any, first: Tensor, *others: Any) -> Any:
        kind = ctx.device_type = first.device.type
        ctx.autocast = torch.is_autocast_enabled(kind)
        return custom_fwd(forward, device_type=kind, cast_inputs=torch.float32)(ctx, first, *others)

    return run


def float32_backward(backward: Callable[..., Outputs]) -> Callable[..., Outputs]:
    """``backward`` of the same function, untouched by an autocast region it may be called in."""

    def run(ctx: Any, *grad_outputs: Tensor) -> Outputs:
        result: Outputs = custom_bwd(backward, device_type=ctx.device_type)(ctx, *grad_outputs)
        return result

    return run
