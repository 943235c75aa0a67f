"""The LSTM recurrence (paper eqs. 12-16) for the CPU, with its own backward pass.

PyTorch's LSTM on a ``PackedSequence`` makes a full-size gradient at every time step, so that its backward
is quadratic in length.  Here the gates are kept, the gradient of the gates is filled step by step in one
buffer, and every weight gradient is one matrix product at the end.

Both directions run in one loop: the second one sees every sequence reversed in time, which leaves
``batch_sizes`` as they are.  ``D`` is the number of directions, ``N`` the packed rows, ``B`` the sequences,
``I`` the input size and ``H`` the hidden size; gates are in PyTorch's order ``i, f, g, o``.

``tanh(x)`` is computed as ``2 sigmoid(2 x) - 1``: PyTorch's CPU sigmoid is several times as fast as its
tanh, and the doubling of the ``g`` rows is exact in binary floating point.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from asr_bn.recurrence.packing import PackedLayout

# Rows whose derivative factors are made at a time: few enough to stay in the cache, many enough that
# the calls do not count.
BLOCK_ROWS = 192


class LSTMLayer(torch.autograd.Function):
    """One LSTM layer, input projection included; see :func:`lstm_layer`."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        w_ih: Tensor,
        bias: Tensor,
        w_hh: Tensor,
        peephole: Tensor | None,
        h_0: Tensor,
        c_0: Tensor,
        layout: PackedLayout,
    ) -> tuple[Tensor, Tensor, Tensor]:
        gates = _project(x, w_ih, bias, layout)
        h, c, tanh_c = _run_forward(gates, w_hh, peephole, h_0, c_0, layout)
        ctx.layout = layout
        ctx.save_for_backward(x, w_ih, w_hh, peephole, h_0, c_0, gates, c, tanh_c, h)
        return h, h[:, layout.last_rows], c[:, layout.last_rows]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        x, w_ih, w_hh, peephole, h_0, c_0, gates, c, tanh_c, h = ctx.saved_tensors
        layout = ctx.layout
        grad_gates, *small = _run_backward(
            grad_outputs, gates, c, tanh_c, w_hh, peephole, c_0, layout
        )
        grad_x, grad_w_ih = _project_backward(grad_gates, x, w_ih, layout, ctx.needs_input_grad[0])
        grad_w_hh = _recurrent_weight_grad(grad_gates, h, h_0, layout)
        grad_h_0, grad_c_0, grad_peephole = small
        return grad_x, grad_w_ih, grad_gates.sum(1), grad_w_hh, grad_peephole, grad_h_0, grad_c_0, None


class LSTMRecurrence(torch.autograd.Function):
    """The recurrence alone, on gates whose input part is given; see :func:`lstm_recurrence`."""

    @staticmethod
    def forward(
        ctx: Any,
        z: Tensor,
        w_hh: Tensor,
        peephole: Tensor | None,
        h_0: Tensor,
        c_0: Tensor,
        layout: PackedLayout,
    ) -> tuple[Tensor, Tensor, Tensor]:
        gates = z.clone(memory_format=torch.contiguous_format)
        _candidate(gates).mul_(2.0)
        h, c, tanh_c = _run_forward(gates, w_hh, peephole, h_0, c_0, layout)
        ctx.layout = layout
        ctx.save_for_backward(w_hh, peephole, h_0, c_0, gates, c, tanh_c, h)
        return h, h[:, layout.last_rows], c[:, layout.last_rows]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        w_hh, peephole, h_0, c_0, gates, c, tanh_c, h = ctx.saved_tensors
        grad_gates, grad_h_0, grad_c_0, grad_peephole = _run_backward(
            grad_outputs, gates, c, tanh_c, w_hh, peephole, c_0, ctx.layout
        )
        grad_w_hh = _recurrent_weight_grad(grad_gates, h, h_0, ctx.layout)
        return grad_gates, grad_w_hh, grad_peephole, grad_h_0, grad_c_0, None


def lstm_layer(
    x: Tensor,
    w_ih: Tensor,
    bias: Tensor,
    w_hh: Tensor,
    peephole: Tensor | None,
    h_0: Tensor,
    c_0: Tensor,
    layout: PackedLayout,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run one LSTM layer over a packed batch.

    Args:
        x: input rows, shape ``[N, I]``.
        w_ih: input-to-hidden weights, shape ``[D, 4H, I]``.
        bias: shape ``[D, 4H]``.
        w_hh: hidden-to-hidden weights, shape ``[D, 4H, H]``.
        peephole: diagonal of eq. 15's ``W_co``, shape ``[D, H]``, or None.
        h_0: first hidden states, shape ``[D, B, H]``.
        c_0: first cells, shape ``[D, B, H]``.
        layout: the rows of ``x``.

    Returns:
        The hidden states, shape ``[D, N, H]`` (the second direction still reversed in time), and the last
        hidden states and cells, shape ``[D, B, H]``.
    """
    result: tuple[Tensor, Tensor, Tensor] = LSTMLayer.apply(
        x, w_ih, bias, w_hh, peephole, h_0, c_0, layout
    )
    return result


def lstm_recurrence(
    z: Tensor, w_hh: Tensor, peephole: Tensor | None, h_0: Tensor, c_0: Tensor, layout: PackedLayout
) -> tuple[Tensor, Tensor, Tensor]:
    """As :func:`lstm_layer`, for an input projection ``z`` of any making, shape ``[D, N, 4H]``."""
    result: tuple[Tensor, Tensor, Tensor] = LSTMRecurrence.apply(z, w_hh, peephole, h_0, c_0, layout)
    return result


def _candidate(gates: Tensor) -> Tensor:
    hidden = gates.shape[-1] // 4
    return gates[..., 2 * hidden : 3 * hidden]


def _double_candidate_rows(weight: Tensor) -> Tensor:
    """A copy of ``[D, 4H, ...]`` whose ``g`` rows are doubled, for tanh by way of the sigmoid."""
    hidden = weight.shape[1] // 4
    doubled = weight.clone(memory_format=torch.contiguous_format)
    doubled[:, 2 * hidden : 3 * hidden].mul_(2.0)
    return doubled


def _project(x: Tensor, w_ih: Tensor, bias: Tensor, layout: PackedLayout) -> Tensor:
    """``W x + b`` for each direction, shape ``[D, N, 4H]``, the ``g`` part doubled."""
    weight, offset = _double_candidate_rows(w_ih), _double_candidate_rows(bias)
    gates = x.new_empty(weight.shape[0], x.shape[0], weight.shape[1])
    for direction, rows in enumerate(_directions(x, layout, len(weight))):
        torch.addmm(offset[direction], rows, weight[direction].t(), out=gates[direction])
    return gates


def _directions(x: Tensor, layout: PackedLayout, count: int) -> list[Tensor]:
    return [x] if count == 1 else [x, x.index_select(0, layout.reversed_rows)]


def _run_forward(
    gates: Tensor, w_hh: Tensor, peephole: Tensor | None, h_0: Tensor, c_0: Tensor, layout: PackedLayout
) -> tuple[Tensor, Tensor, Tensor]:
    """Fill ``gates`` (input part in, activations out) and return ``h, c, tanh(c)``, each ``[D, N, H]``."""
    directions, rows, hidden = *gates.shape[:2], gates.shape[2] // 4
    recurrent = _double_candidate_rows(w_hh).transpose(1, 2)
    h, c, tanh_c = (gates.new_empty(directions, rows, hidden) for _ in range(3))
    steps = zip(*(buffer.split(layout.batch_sizes, dim=1) for buffer in (gates, h, c, tanh_c)), strict=True)
    h_before, c_before = h_0, c_0
    for gates_t, h_t, c_t, tanh_c_t in steps:
        size = gates_t.shape[1]
        for direction in range(directions):
            gates_t[direction].addmm_(h_before[direction, :size], recurrent[direction])
        i, f, g, o = gates_t.split(hidden, dim=2)
        (gates_t if peephole is None else gates_t[..., : 3 * hidden]).sigmoid_()
        torch.mul(f, c_before[:, :size], out=c_t)
        c_t.addcmul_(i, g, value=2.0).sub_(i)  # i * tanh, with tanh = 2 g - 1
        if peephole is not None:
            o.addcmul_(peephole[:, None], c_t).sigmoid_()
        torch.add(c_t, c_t, out=tanh_c_t)
        tanh_c_t.sigmoid_().mul_(2.0).sub_(1.0)
        torch.mul(o, tanh_c_t, out=h_t)
        h_before, c_before = h_t, c_t
    return h, c, tanh_c


def _run_backward(
    grad_outputs: tuple[Tensor, ...],
    gates: Tensor,
    c: Tensor,
    tanh_c: Tensor,
    w_hh: Tensor,
    peephole: Tensor | None,
    c_0: Tensor,
    layout: PackedLayout,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Gradients of the gates before activation ``[D, N, 4H]``, of ``h_0``, of ``c_0`` and of the peephole."""
    grad_h, grad_h_n, grad_c_n = grad_outputs
    grad_h = grad_h.clone(memory_format=torch.contiguous_format)
    grad_h.index_add_(1, layout.last_rows, grad_h_n)
    grad_c = grad_c_n.clone(memory_format=torch.contiguous_format)
    grad_gates = torch.empty_like(gates)
    grad_h_0 = torch.zeros_like(grad_c)
    steps = _BackwardSteps(gates, grad_gates, w_hh, peephole, grad_h, grad_h_0, grad_c, layout)
    for block in reversed(layout.blocks(BLOCK_ROWS)):
        first = layout.offsets[block.start]
        rows = slice(first, layout.offsets[block[-1]] + layout.batch_sizes[block[-1]])
        c_before = _shifted(c, c_0, rows, layout)
        through_c = _fill_local_derivatives(grad_gates[:, rows], gates[:, rows], tanh_c[:, rows], c_before)
        for step in reversed(block):
            steps.run(step, through_c, first)
    grad_peephole = None if peephole is None else _output_gate(grad_gates).mul(c).sum(1)
    return grad_gates, grad_h_0, grad_c, grad_peephole


class _BackwardSteps:
    """The part of the backward pass that must go one time step after the other."""

    def __init__(
        self,
        gates: Tensor,
        grad_gates: Tensor,
        w_hh: Tensor,
        peephole: Tensor | None,
        grad_h: Tensor,
        grad_h_0: Tensor,
        grad_c: Tensor,
        layout: PackedLayout,
    ) -> None:
        directions, _, width = gates.shape
        hidden = width // 4
        self.w_hh, self.grad_c, self.grad_h_0 = w_hh, grad_c, grad_h_0
        self.peephole = None if peephole is None else peephole[:, None]
        self.directions, self.layout = directions, layout
        sizes = layout.batch_sizes
        self.grad_gates = grad_gates.split(sizes, dim=1)
        self.forget = gates[..., hidden : 2 * hidden].split(sizes, dim=1)
        by_gate = grad_gates.view(directions, -1, 4, hidden)
        self.grad_ifg = by_gate[:, :, :3].split(sizes, dim=1)
        self.grad_o = by_gate[:, :, 3].split(sizes, dim=1)
        self.grad_h = grad_h.split(sizes, dim=1)

    def run(self, step: int, through_c: Tensor, first_row: int) -> None:
        """Turn the local derivatives of ``step`` into gradients and pass them to the step before."""
        size = self.layout.batch_sizes[step]
        start = self.layout.offsets[step] - first_row
        grad_h, grad_c = self.grad_h[step], self.grad_c[:, :size]
        grad_o = self.grad_o[step].mul_(grad_h)
        grad_c.addcmul_(through_c[:, start : start + size], grad_h)
        if self.peephole is not None:
            grad_c.addcmul_(grad_o, self.peephole)
        self.grad_ifg[step].mul_(grad_c.unsqueeze(2))
        grad_c.mul_(self.forget[step])
        grad_before = self.grad_h[step - 1] if step else self.grad_h_0
        for direction in range(self.directions):
            grad_before[direction, :size].addmm_(self.grad_gates[step][direction], self.w_hh[direction])


def _fill_local_derivatives(grad_gates: Tensor, gates: Tensor, tanh_c: Tensor, c_before: Tensor) -> Tensor:
    """Fill ``grad_gates`` with d(c or h)/d(gate before activation); return ``dh/dc``, each gate as it is."""
    hidden = tanh_c.shape[-1]
    torch.addcmul(gates, gates, gates, value=-1.0, out=grad_gates)  # sigmoid' = s - s^2
    i, _, g, o = gates.split(hidden, dim=2)
    to_i, to_f, to_g, to_o = grad_gates.split(hidden, dim=2)
    to_i.mul_(g.mul(2.0).sub_(1.0))
    to_f.mul_(c_before)
    to_g.mul_(i).mul_(4.0)  # 1 - tanh^2 = 4 (s - s^2)
    to_o.mul_(tanh_c)
    return torch.addcmul(o, o, tanh_c.square(), value=-1.0)


def _shifted(values: Tensor, first: Tensor, rows: slice, layout: PackedLayout) -> Tensor:
    """The value one frame earlier for each of ``rows``; ``first`` before the first frame."""
    batch = layout.batch_size
    if rows.start >= batch:
        return values.index_select(1, layout.previous_rows[rows.start - batch : rows.stop - batch])
    later = values.index_select(1, layout.previous_rows[: max(rows.stop - batch, 0)])
    return torch.cat([first, later], dim=1)[:, rows.start : rows.stop]


def _output_gate(gates: Tensor) -> Tensor:
    return gates[..., 3 * (gates.shape[-1] // 4) :]


def _recurrent_weight_grad(grad_gates: Tensor, h: Tensor, h_0: Tensor, layout: PackedLayout) -> Tensor:
    h_before = _shifted(h, h_0, slice(0, layout.num_rows), layout)
    return torch.bmm(grad_gates.transpose(1, 2), h_before)


def _project_backward(
    grad_gates: Tensor, x: Tensor, w_ih: Tensor, layout: PackedLayout, needs_x: bool
) -> tuple[Tensor | None, Tensor]:
    inputs = _directions(x, layout, len(w_ih))
    grad_w_ih = torch.stack([grad.t() @ rows for grad, rows in zip(grad_gates, inputs, strict=True)])
    if not needs_x:
        return None, grad_w_ih
    grad_x = grad_gates[0] @ w_ih[0]
    if len(w_ih) == 2:
        grad_x += (grad_gates[1] @ w_ih[1]).index_select(0, layout.reversed_rows)
    return grad_x, grad_w_ih
