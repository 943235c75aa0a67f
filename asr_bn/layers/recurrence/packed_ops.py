"""Operations on packed rows that all recurrences share; for the shapes see ``steps``."""

from typing import Any

import torch
from torch import Tensor

from asr_bn.layers.recurrence.packing import PackedLayout
from asr_bn.layers.recurrence.second_order import transforms_active


def by_direction(x: Tensor, layout: PackedLayout, directions: int) -> list[Tensor]:
    """Return ``x`` as each direction reads it: as it is, and with every sequence reversed in time."""
    return [x] if directions == 1 else [x, x.index_select(0, layout.reversed_rows)]


def reverse_second(z: Tensor, layout: PackedLayout) -> Tensor:
    """Reverse every sequence of the second direction of ``[D, N, G]`` in time, where there is one."""
    if len(z) == 1 or not layout.num_rows:
        return z
    return torch.stack([z[0], z[1].index_select(0, layout.reversed_rows)])


def project_packed(x: Tensor, weight: Tensor, bias: Tensor, layout: PackedLayout) -> Tensor:
    """Return ``W x + b`` of each direction, ``[D, N, G]``, from ``[N, I]``, ``[D, G, I]`` and ``[D, G]``."""
    z = x.new_empty(weight.shape[0], x.shape[0], weight.shape[1])
    for direction, rows in enumerate(by_direction(x, layout, len(weight))):
        torch.addmm(bias[direction], rows, weight[direction].t(), out=z[direction])
    return z


def project_backward(
    grad_z: Tensor, x: Tensor, weight: Tensor, layout: PackedLayout, needs_x: bool
) -> tuple[Tensor | None, Tensor]:
    """Return the gradients of ``x`` (None if not needed) and of the weights of :func:`project_packed`."""
    inputs = by_direction(x, layout, len(weight))
    grad_weight = torch.stack([grad.t() @ rows for grad, rows in zip(grad_z, inputs, strict=True)])
    if not needs_x:
        return None, grad_weight
    if len(weight) == 1:
        return grad_z[0] @ weight[0], grad_weight
    grad_x = (grad_z[1] @ weight[1]).index_select(0, layout.reversed_rows)
    return grad_x.addmm_(grad_z[0], weight[0]), grad_weight


class StepBuffer:
    """A contiguous ``[D, size, width]`` buffer for the product of one time step.

    PyTorch shares the directions of a batched product among threads without a copy only where its result is
    contiguous.  The rows of a time step within ``[D, N, G]`` are not.
    """

    def __init__(self, like: Tensor, size: int, width: int) -> None:
        self._values = like.new_empty(len(like) * size * width)
        self._width, self._view = width, self._values.view(len(like), size, width)

    def of(self, size: int) -> Tensor:
        """Return the buffer for ``size`` sequences, with the values of the last call."""
        if self._view.shape[1] != size:
            directions = len(self._view)
            self._view = self._values[: directions * size * self._width].view(directions, size, self._width)
        return self._view


class HiddenGradient:
    """Gradient of ``h_t``, from the last step to the first: the loss's own plus that of the next step.

    Args:
        of_outputs: the loss's gradient of every ``h_t``, ``[D, N, H]``.
        of_last: its gradient of the last states, ``[D, B, H]``.
        w_hh: ``[D, G, H]``.
        layout: of the rows.
    """

    def __init__(self, of_outputs: Tensor, of_last: Tensor, w_hh: Tensor, layout: PackedLayout) -> None:
        self._steps = [torch.zeros_like(of_last), *of_outputs.split(layout.batch_sizes, dim=1)]
        self._of_last, self._w_hh = of_last, w_hh
        self._buffer = StepBuffer(of_last, layout.batch_size, of_last.shape[2])
        last = self._steps.pop()
        self.value = last + of_last[:, : last.shape[1]]

    def pass_back(self, grad_gates: Tensor) -> None:
        """Go to the step before, given the gradient ``[D, B_t, G]`` of this step's gates."""
        before, size = self._steps.pop(), grad_gates.shape[1]
        self.value = self._buffer.of(before.shape[1])
        if before.shape[1] == size:
            torch.baddbmm(before, grad_gates, self._w_hh, out=self.value)
            return
        self.value.copy_(before)
        self.value[:, :size].baddbmm_(grad_gates, self._w_hh)
        self.value[:, size:].add_(self._of_last[:, size : before.shape[1]])


def _join(h: Tensor, layout: PackedLayout) -> Tensor:
    return torch.cat([h[0], h[1].index_select(0, layout.reversed_rows)], dim=1)


class _JoinDirections(torch.autograd.Function):
    """Copies in the backward pass, where autograd's own reversal would add."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, layout: PackedLayout) -> Tensor:
        ctx.layout = layout
        return _join(h, layout)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        forward, backward = grad_outputs[0].chunk(2, dim=1)
        return torch.stack([forward, backward.index_select(0, ctx.layout.reversed_rows)]), None


def join_directions(h: Tensor, layout: PackedLayout) -> Tensor:
    """Turn ``[D, N, H]`` into ``[N, D H]``, the second direction in the order of time again."""
    if len(h) == 1:
        return h[0]
    result: Tensor = _join(h, layout) if transforms_active() else _JoinDirections.apply(h, layout)
    return result


def shifted(values: Tensor, first: Tensor, rows: slice, layout: PackedLayout) -> Tensor:
    """Return the value one frame earlier for each of ``rows`` of ``values`` ``[D, N, H]``.

    Before the first frame it is ``first``, ``[D, B, H]``.
    """
    batch = layout.batch_size
    if rows.start >= batch:
        return values.index_select(1, layout.previous_rows[rows.start - batch : rows.stop - batch])
    later = values.index_select(1, layout.previous_rows[: max(rows.stop - batch, 0)])
    return torch.cat([first, later], dim=1)[:, rows.start : rows.stop]


def recurrent_weight_grad(grad_gates: Tensor, h: Tensor, h_0: Tensor, layout: PackedLayout) -> Tensor:
    """Return the gradient of the recurrent weights, ``[D, G, H]``: one product over all frames."""
    h_before = shifted(h, h_0, slice(0, layout.num_rows), layout)
    return torch.bmm(grad_gates.transpose(1, 2), h_before)
