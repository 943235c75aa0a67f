"""The time steps of the LSTM (paper eqs. 12-17) on a GPU, as Triton kernels; see ``lstm_function``.

For what cuDNN's LSTM does not have: the peephole, and normalization inside the recurrence.
"""

import torch
from torch import Tensor

from asr_bn.layers.recurrence import triton_kernels
from asr_bn.layers.recurrence.packing import PackedLayout
from asr_bn.layers.recurrence.step_norm import StepNorm
from asr_bn.layers.recurrence.triton_steps import StepLauncher, TritonStepNorm


def scaled(weight: Tensor) -> Tensor:
    """``weight`` as it is."""
    return weight


def scale_gates(gates: Tensor) -> None:
    """Leave ``gates`` as they are."""


def run_forward(
    gates: Tensor,
    w_hh: Tensor,
    peephole: Tensor | None,
    h_0: Tensor,
    c_0: Tensor,
    layout: PackedLayout,
    norm: StepNorm | None,
) -> tuple[Tensor, Tensor, None]:
    """Fill ``gates`` (input part in, activations out) and return ``h, c``, each ``[D, N, H]``."""
    directions, rows, hidden = *gates.shape[:2], gates.shape[2] // 4
    h, c = (gates.new_empty(directions, rows, hidden) for _ in range(2))
    launcher = StepLauncher(directions, hidden, gates.dtype, layout)
    step_norm = None if norm is None else TritonStepNorm(norm, launcher)
    h_before, c_before, w_hh = h_0.contiguous(), c_0.contiguous(), w_hh.contiguous()
    with torch.cuda.device_of(gates):
        for step in range(layout.num_steps):
            if step_norm is not None:
                step_norm.forward(gates, h_before, w_hh, step)
            triton_kernels.lstm_forward[launcher.grid(step)](
                gates,
                h,
                c,
                h_before,
                c_before,
                w_hh,
                peephole,
                PRODUCT=norm is None,
                HIDDEN=hidden,
                **launcher.own(step),
                **launcher.before(step),
                **launcher.arithmetic,
            )
            h_before, c_before = h, c
    return h, c, None


def run_backward(
    grad_outputs: tuple[Tensor, ...],
    gates: Tensor,
    c: Tensor,
    tanh_c: Tensor | None,
    w_hh: Tensor,
    peephole: Tensor | None,
    c_0: Tensor,
    layout: PackedLayout,
    norm: StepNorm | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Gradients of the input projections ``[D, N, 4H]``, of ``h_0``, of ``c_0`` and of the peephole."""
    grad_h, grad_h_n, grad_c_n = grad_outputs
    grad_h = grad_h.clone(memory_format=torch.contiguous_format)
    grad_h.index_add_(1, layout.last_rows, grad_h_n)
    grad_c = grad_c_n.clone(memory_format=torch.contiguous_format)
    launcher = StepLauncher(len(c), c.shape[2], gates.dtype, layout)
    step_norm = None if norm is None else TritonStepNorm(norm, launcher)
    grad_gates = torch.empty_like(gates)
    # What the kernel of the cell leaves is, with normalization, not yet the gradient of the product.
    grad_normalized = grad_gates if norm is None else torch.empty_like(gates)
    c_0, w_hh = c_0.contiguous(), w_hh.contiguous()
    with torch.cuda.device_of(gates):
        for step in reversed(range(layout.num_steps)):
            triton_kernels.lstm_backward[launcher.grid(step)](
                grad_normalized,
                grad_gates,
                grad_h,
                grad_c,
                gates,
                c,
                c if step else c_0,
                w_hh,
                peephole,
                batch=layout.batch_size,
                HIDDEN=launcher.hidden,
                **launcher.own(step),
                **launcher.before(step),
                **launcher.later(step),
                **launcher.arithmetic,
            )
            if step_norm is not None:
                step_norm.backward(grad_gates, grad_normalized, step)
    if step_norm is not None:
        step_norm.finish(grad_normalized)
    grad_peephole = None if peephole is None else (grad_normalized[..., -launcher.hidden :] * c).sum(1)
    return grad_gates, torch.bmm(grad_gates[:, : layout.batch_size], w_hh), grad_c, grad_peephole
