"""The time steps of the simple recurrence (paper eq. 7) for the CPU; see ``rnn_function``."""

from functools import partial

import torch
from torch import Tensor

from asr_bn.layers.recurrence.packed_ops import HiddenGradient, StepBuffer
from asr_bn.layers.recurrence.packing import PackedLayout
from asr_bn.layers.recurrence.rnn_function import Nonlinearity
from asr_bn.layers.recurrence.step_norm import StepNorm


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
    activation = torch.tanh if nonlinearity == "tanh" else partial(torch.clamp_min, min=0.0)
    scratch = StepBuffer(h, layout.batch_size, h.shape[2])
    h_before = h_0
    for step, h_t in enumerate(h.split(layout.batch_sizes, dim=1)):
        size = h_t.shape[1]
        sums = torch.baddbmm(h_t, h_before[:, :size], recurrent, out=scratch.of(size))
        if norm is not None:
            norm.forward(sums, step)
        h_before = activation(sums, out=h_t)


def run_backward(
    grad_outputs: tuple[Tensor, ...],
    h: Tensor,
    w_hh: Tensor,
    layout: PackedLayout,
    nonlinearity: Nonlinearity,
    norm: StepNorm | None,
) -> tuple[Tensor, Tensor]:
    """Gradients of the input projections, ``[D, N, H]``, and of ``h_0``."""
    grad_of_outputs, grad_h_n = grad_outputs
    grad_h = HiddenGradient(grad_of_outputs, grad_h_n, w_hh, layout)
    # Becomes the gradient step by step.
    grad_z = h.square().neg_().add_(1.0) if nonlinearity == "tanh" else (h > 0).to(h.dtype)
    grad_steps = grad_z.split(layout.batch_sizes, dim=1)
    for step in range(layout.num_steps - 1, -1, -1):
        grad_t = grad_steps[step].mul_(grad_h.value)
        if norm is not None:
            norm.backward(grad_t, step)
        grad_h.pass_back(grad_t)
    return grad_z, grad_h.value
