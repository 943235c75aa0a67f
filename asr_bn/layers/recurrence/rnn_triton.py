"""The time steps of the simple recurrence (paper eqs. 7 and 17) on a GPU; see ``rnn_function``."""

import torch
from torch import Tensor

from asr_bn.layers.recurrence import triton_kernels
from asr_bn.layers.recurrence.packing import PackedLayout
from asr_bn.layers.recurrence.rnn_function import Nonlinearity
from asr_bn.layers.recurrence.step_norm import StepNorm
from asr_bn.layers.recurrence.triton_steps import StepLauncher, TritonStepNorm


def run_forward(
    h: Tensor,
    w_hh: Tensor,
    h_0: Tensor,
    layout: PackedLayout,
    nonlinearity: Nonlinearity,
    norm: StepNorm | None,
) -> None:
    """Fill ``h`` ``[D, N, H]``: the input part in, the hidden states out."""
    launcher = StepLauncher(len(h), h.shape[2], h.dtype, layout)
    step_norm = None if norm is None else TritonStepNorm(norm, launcher)
    h_before, w_hh = h_0.contiguous(), w_hh.contiguous()
    with torch.cuda.device_of(h):
        for step in range(layout.num_steps):
            if step_norm is not None:
                step_norm.forward(h, h_before, w_hh, step, nonlinearity)
            else:
                triton_kernels.rnn_forward[launcher.grid(step)](
                    h,
                    h_before,
                    w_hh,
                    NONLINEARITY=nonlinearity,
                    HIDDEN=launcher.hidden,
                    **launcher.own(step),
                    **launcher.before(step),
                    **launcher.arithmetic,
                )
            h_before = h


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
    grad_h = grad_h.clone(memory_format=torch.contiguous_format)
    grad_h.index_add_(1, layout.last_rows, grad_h_n)
    launcher = StepLauncher(len(h), h.shape[2], h.dtype, layout)
    step_norm = None if norm is None else TritonStepNorm(norm, launcher)
    grad_z = torch.empty_like(h)
    grad_normalized = grad_z if norm is None else torch.empty_like(h)
    w_hh = w_hh.contiguous()
    with torch.cuda.device_of(h):
        for step in reversed(range(layout.num_steps)):
            triton_kernels.rnn_backward[launcher.grid(step)](
                grad_normalized,
                grad_z,
                grad_h,
                h,
                w_hh,
                NONLINEARITY=nonlinearity,
                HIDDEN=launcher.hidden,
                **launcher.own(step),
                **launcher.later(step),
                **launcher.arithmetic,
            )
            if step_norm is not None:
                step_norm.backward(grad_z, grad_normalized, step)
    if step_norm is not None:
        step_norm.finish(grad_normalized)
    return grad_z, torch.bmm(grad_z[:, : layout.batch_size], w_hh)
