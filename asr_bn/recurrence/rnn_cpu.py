"""The simple recurrence (paper eq. 7) for the CPU, with its own backward pass; see ``lstm_cpu``."""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.amp import custom_bwd, custom_fwd
from torch.autograd.function import once_differentiable

from asr_bn.recurrence.packed_ops import project, project_backward, recurrent_weight_grad
from asr_bn.recurrence.packing import PackedLayout
from asr_bn.recurrence.step_norm import StepNorm, StepNormOptions

Nonlinearity = Literal["tanh", "relu"]


class RNNLayer(torch.autograd.Function):
    """One layer, input projection included; see :func:`rnn_layer`."""

    @staticmethod
    @custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(
        ctx: Any,
        x: Tensor,
        w_ih: Tensor,
        bias: Tensor,
        w_hh: Tensor,
        h_0: Tensor,
        layout: PackedLayout,
        nonlinearity: Nonlinearity,
    ) -> tuple[Tensor, Tensor]:
        h = project(x, w_ih, bias, layout)
        _run_forward(h, w_hh, h_0, layout, nonlinearity, None)
        ctx.layout, ctx.nonlinearity = layout, nonlinearity
        ctx.save_for_backward(x, w_ih, w_hh, h_0, h)
        return h, h[:, layout.last_rows]

    @staticmethod
    @custom_bwd(device_type="cpu")
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        x, w_ih, w_hh, h_0, h = ctx.saved_tensors
        grad_z, grad_h_0 = _run_backward(grad_outputs, h, w_hh, ctx.layout, ctx.nonlinearity, None)
        grad_x, grad_w_ih = project_backward(grad_z, x, w_ih, ctx.layout, ctx.needs_input_grad[0])
        grad_w_hh = recurrent_weight_grad(grad_z, h, h_0, ctx.layout)
        return grad_x, grad_w_ih, grad_z.sum(1), grad_w_hh, grad_h_0, None, None


class RNNRecurrence(torch.autograd.Function):
    """The recurrence alone, on an input projection of any making; see :func:`rnn_recurrence`."""

    @staticmethod
    @custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(
        ctx: Any,
        z: Tensor,
        w_hh: Tensor,
        gamma: Tensor | None,
        beta: Tensor | None,
        h_0: Tensor,
        layout: PackedLayout,
        nonlinearity: Nonlinearity,
        options: StepNormOptions | None,
    ) -> tuple[Tensor | None, ...]:
        norm = StepNorm.make(gamma, beta, options, layout)
        h = z.clone(memory_format=torch.contiguous_format)
        _run_forward(h, w_hh, h_0, layout, nonlinearity, norm)
        ctx.layout, ctx.nonlinearity, ctx.norm = layout, nonlinearity, norm
        ctx.save_for_backward(w_hh, h_0, h)
        statistics = (None, None) if norm is None else (norm.mean, norm.variance)
        ctx.mark_non_differentiable(*(tensor for tensor in statistics if tensor is not None))
        return h, h[:, layout.last_rows], *statistics

    @staticmethod
    @custom_bwd(device_type="cpu")
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        w_hh, h_0, h = ctx.saved_tensors
        norm: StepNorm | None = ctx.norm
        grad_z, grad_h_0 = _run_backward(grad_outputs[:2], h, w_hh, ctx.layout, ctx.nonlinearity, norm)
        grad_w_hh = recurrent_weight_grad(grad_z, h, h_0, ctx.layout)
        grad_gamma, grad_beta = (None, None) if norm is None else (norm.grad_gamma, norm.grad_beta)
        return grad_z, grad_w_hh, grad_gamma, grad_beta, grad_h_0, None, None, None


def rnn_layer(
    x: Tensor,
    w_ih: Tensor,
    bias: Tensor,
    w_hh: Tensor,
    h_0: Tensor,
    layout: PackedLayout,
    nonlinearity: Nonlinearity = "tanh",
) -> tuple[Tensor, Tensor]:
    """Run one layer over a packed batch; shapes as in ``lstm_cpu.lstm_layer`` with ``H`` for ``4H``.

    Returns:
        The hidden states, ``[D, N, H]`` (the second direction still reversed in time), and the last ones,
        ``[D, B, H]``.
    """
    result: tuple[Tensor, Tensor] = RNNLayer.apply(x, w_ih, bias, w_hh, h_0, layout, nonlinearity)
    return result


def rnn_recurrence(
    z: Tensor,
    w_hh: Tensor,
    h_0: Tensor,
    layout: PackedLayout,
    nonlinearity: Nonlinearity = "tanh",
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    options: StepNormOptions | None = None,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """As :func:`rnn_layer` for an input projection ``z`` ``[D, N, H]``; with ``options``, eq. 17.

    Returns:
        As :func:`rnn_layer`, and mean and variance of every step, ``[D, T, H]``, where eq. 17 took them.
    """
    result: tuple[Tensor, Tensor, Tensor | None, Tensor | None] = RNNRecurrence.apply(
        z, w_hh, gamma, beta, h_0, layout, nonlinearity, options
    )
    return result


def _run_forward(
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


def _run_backward(
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
