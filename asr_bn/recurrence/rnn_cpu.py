"""The time steps of the simple recurrence (paper eq. 7) for the CPU; see ``rnn_function``."""

import torch
from torch import Tensor

from asr_bn.recurrence.packing import PackedLayout
from asr_bn.recurrence.rnn_function import Nonlinearity
from asr_bn.recurrence.step_norm import StepNorm


def run_forward(
    h: Tensor,
    w_hh: Tensor,
    h_0: Tensor,
    layout: PackedLayout,
    nonlinearity: Nonlinearity,
    norm: StepNorm | None,
) -> None:
    """Fill ``h`` ``[D, N, H]``: the input part in, the hidden states out."""
    recurrent = w_hh.transpose(1, 2)
    h_before = h_0
    for step, h_t in enumerate(h.split(layout.batch_sizes, dim=1)):
        size = h_t.shape[1]
        for direction in range(len(h)):
            h_t[direction].addmm_(h_before[direction, :size], recurrent[direction])
        if norm is not None:
            norm.forward(h_t, step)
        h_t.tanh_() if nonlinearity == "tanh" else h_t.relu_()
        h_before = h_t


def run_backward(
    grad_outputs: tuple[Tensor, ...],
    h: Tensor,
    w_hh: Tensor,
    layout: PackedLayout,
    nonlinearity: Nonlinearity,
    norm: StepNorm | None,
) -> tuple[Tensor, Tensor]:
    """Gradients of the input projections, ``[D, N, H]``, and of ``h_0``."""
    grad_h, grad_h_n = grad_outputs
    grad = grad_h.clone(memory_format=torch.contiguous_format)
    grad.index_add_(1, layout.last_rows, grad_h_n)
    derivative = h.square().neg_().add_(1.0) if nonlinearity == "tanh" else (h > 0).to(h.dtype)
    grad_h_0 = torch.zeros_like(grad_h_n)
    grads, derivatives = (values.split(layout.batch_sizes, dim=1) for values in (grad, derivative))
    for step in range(len(layout.batch_sizes) - 1, -1, -1):
        grad_t = grads[step].mul_(derivatives[step])
        if norm is not None:
            norm.backward(grad_t, step)
        grad_before = grads[step - 1] if step else grad_h_0
        for direction in range(len(h)):
            grad_before[direction, : grad_t.shape[1]].addmm_(grad_t[direction], w_hh[direction])
    return grad, grad_h_0
