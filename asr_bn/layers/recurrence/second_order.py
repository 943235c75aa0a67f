"""Second derivatives of autograd functions whose backward pass is their own.

Such a backward pass is out of autograd's sight.  PyTorch's ``once_differentiable`` says so only where the
incoming gradient itself has a graph, and leaves a term out in silence everywhere else.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

Grads = tuple[Tensor | None, ...]
Backward = Callable[..., Grads]

REFUSAL = (
    "there are no second derivatives of norm='frame' and norm='recurrent', nor of any norm under autocast: "
    "use backend='reference'"
)


def transforms_active() -> bool:
    """Return whether ``torch.func``'s transforms or forward-mode derivatives are at work.

    Both take PyTorch's own operations only, and not all of them.
    """
    active: bool = torch._C._are_functorch_transforms_active()
    return active or forward_ad._current_level >= 0


class Edge:
    """Ties a gradient to the inputs that it depends on, of which it keeps no values."""

    def __init__(self, *inputs: Tensor | None) -> None:
        self.inputs = torch.stack([values[:0].sum() for values in inputs if values is not None])


class _Refuse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, of_inputs: Tensor, of_outputs: Tensor, *grads: Tensor) -> tuple[Tensor, ...]:
        return tuple(grad.detach() for grad in grads)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Grads:
        raise RuntimeError(REFUSAL)


def once(backward: Backward) -> Backward:
    """Wrap ``backward`` of a function without second derivatives: asking for them is an error, always.

    Its ``ctx.edge`` is an :class:`Edge` of the function's inputs.
    """

    @wraps(backward)
    def run(ctx: Any, *grad_outputs: Tensor) -> Grads:
        with torch.no_grad():
            grads = backward(ctx, *grad_outputs)
        if not torch.is_grad_enabled():
            return grads
        edges = ctx.edge.inputs, Edge(*grad_outputs).inputs
        refusing = iter(_Refuse.apply(*edges, *(grad for grad in grads if grad is not None)))
        return tuple(None if grad is None else next(refusing) for grad in grads)

    return run


def with_twin(twin: Callable[..., tuple[Tensor, ...]], num_inputs: int) -> Callable[[Backward], Backward]:
    """Wrap ``backward`` of a function that has a differentiable twin, for ``create_graph=True``.

    Args:
        twin: from ``ctx`` and the first inputs to the first outputs of the function, by autograd.
        num_inputs: how many inputs, which are all of the function's tensors and the first that it saves.
    """

    def decorate(backward: Backward) -> Backward:
        @wraps(backward)
        def run(ctx: Any, *grad_outputs: Tensor) -> Grads:
            if not torch.is_grad_enabled():
                return backward(ctx, *grad_outputs)
            if getattr(ctx, "autocast", False):  # what was saved are casts, without the graph of the inputs
                return once(backward)(ctx, *grad_outputs)
            # One tensor may be two inputs: each gets a view of its own.
            inputs = [t if t is None else t.view_as(t) for t in ctx.saved_tensors[:num_inputs]]
            outputs = zip(twin(ctx, *inputs), grad_outputs, strict=False)
            values, grads = zip(*(pair for pair in outputs if pair[0].requires_grad), strict=True)
            wanted = [t for t in inputs if t is not None and t.requires_grad]
            found = iter(torch.autograd.grad(values, wanted, grads, create_graph=True, allow_unused=True))
            results = [next(found) if t is not None and t.requires_grad else None for t in inputs]
            return *results, *[None] * (len(ctx.needs_input_grad) - num_inputs)

        return run

    return decorate
