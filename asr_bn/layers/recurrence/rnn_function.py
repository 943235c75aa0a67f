"""The simple recurrence (paper eq. 7) with a backward pass of its own; see ``lstm_function``."""

from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from asr_bn.layers.recurrence import reference, second_order
from asr_bn.layers.recurrence.autocast import float32_backward, float32_forward
from asr_bn.layers.recurrence.packed_ops import project, project_backward, recurrent_weight_grad
from asr_bn.layers.recurrence.packing import PackedLayout
from asr_bn.layers.recurrence.step_norm import StepNorm, StepNormOptions

Nonlinearity = Literal["tanh", "relu"]


class RNNSteps(Protocol):
    """How the time steps are run, forward and backward; the modules ``rnn_cpu`` and ``rnn_triton``."""

    def run_forward(
        self,
        h: Tensor,
        w_hh: Tensor,
        h_0: Tensor,
        layout: PackedLayout,
        nonlinearity: Nonlinearity,
        norm: StepNorm | None,
    ) -> None:
        """Fill ``h`` ``[D, N, H]``: the input part in, the hidden states out."""

    def run_backward(
        self,
        grad_outputs: tuple[Tensor, ...],
        h: Tensor,
        w_hh: Tensor,
        layout: PackedLayout,
        nonlinearity: Nonlinearity,
        norm: StepNorm | None,
    ) -> tuple[Tensor, Tensor]:
        """Gradients of the input projections, ``[D, N, H]``, and of ``h_0``; those of ``norm`` left in it."""


def _layer_by_autograd(
    ctx: Any, x: Tensor, w_ih: Tensor, bias: Tensor, w_hh: Tensor, h_0: Tensor
) -> tuple[Tensor, ...]:
    z = reference.project(x, w_ih, bias, ctx.layout)
    return reference.rnn_recurrence(z, w_hh, h_0, ctx.layout, ctx.nonlinearity)[:2]


class RNNLayer(torch.autograd.Function):
    """One layer, input projection included; see :func:`rnn_layer`."""

    @staticmethod
    @float32_forward
    def forward(
        ctx: Any,
        x: Tensor,
        w_ih: Tensor,
        bias: Tensor,
        w_hh: Tensor,
        h_0: Tensor,
        layout: PackedLayout,
        nonlinearity: Nonlinearity,
        steps: RNNSteps,
        edge: second_order.Edge,
    ) -> tuple[Tensor, Tensor]:
        h = project(x, w_ih, bias, layout)
        steps.run_forward(h, w_hh, h_0, layout, nonlinearity, None)
        ctx.layout, ctx.nonlinearity, ctx.steps, ctx.edge = layout, nonlinearity, steps, edge
        ctx.save_for_backward(x, w_ih, bias, w_hh, h_0, h)
        return h, h[:, layout.last_rows]

    @staticmethod
    @float32_backward
    @second_order.with_twin(_layer_by_autograd, num_inputs=5)
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        x, w_ih, _, w_hh, h_0, h = ctx.saved_tensors
        grad_z, grad_h_0 = ctx.steps.run_backward(grad_outputs, h, w_hh, ctx.layout, ctx.nonlinearity, None)
        grad_x, grad_w_ih = project_backward(grad_z, x, w_ih, ctx.layout, ctx.needs_input_grad[0])
        grad_w_hh = recurrent_weight_grad(grad_z, h, h_0, ctx.layout)
        return grad_x, grad_w_ih, grad_z.sum(1), grad_w_hh, grad_h_0, None, None, None, None


class RNNRecurrence(torch.autograd.Function):
    """The recurrence alone, on an input projection of any making; see :func:`rnn_recurrence`."""

    @staticmethod
    @float32_forward
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
        steps: RNNSteps,
        edge: second_order.Edge,
    ) -> tuple[Tensor | None, ...]:
        norm = StepNorm.make(gamma, beta, options, layout)
        h = z.clone(memory_format=torch.contiguous_format)
        steps.run_forward(h, w_hh, h_0, layout, nonlinearity, norm)
        ctx.layout, ctx.nonlinearity, ctx.norm, ctx.steps = layout, nonlinearity, norm, steps
        ctx.edge = edge
        ctx.save_for_backward(w_hh, h_0, h)
        statistics = (None, None) if norm is None else (norm.mean, norm.variance)
        ctx.mark_non_differentiable(*(tensor for tensor in statistics if tensor is not None))
        return h, h[:, layout.last_rows], *statistics

    @staticmethod
    @float32_backward
    @second_order.once
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        w_hh, h_0, h = ctx.saved_tensors
        norm: StepNorm | None = ctx.norm
        if norm is not None:
            norm.zero_grad()
        grad_z, grad_h_0 = ctx.steps.run_backward(
            grad_outputs[:2], h, w_hh, ctx.layout, ctx.nonlinearity, norm
        )
        grad_w_hh = recurrent_weight_grad(grad_z, h, h_0, ctx.layout)
        grad_gamma, grad_beta = (None, None) if norm is None else (norm.grad_gamma, norm.grad_beta)
        return grad_z, grad_w_hh, grad_gamma, grad_beta, grad_h_0, None, None, None, None, None


def rnn_layer(
    steps: RNNSteps,
    x: Tensor,
    w_ih: Tensor,
    bias: Tensor,
    w_hh: Tensor,
    h_0: Tensor,
    layout: PackedLayout,
    nonlinearity: Nonlinearity = "tanh",
) -> tuple[Tensor, Tensor]:
    """Run one layer over a packed batch; arguments as in ``lstm_function.lstm_layer`` with ``H`` for ``4H``.

    Returns:
        The hidden states, ``[D, N, H]`` (the second direction still reversed in time), and the last ones,
        ``[D, B, H]``.
    """
    inputs = x, w_ih, bias, w_hh, h_0
    result: tuple[Tensor, Tensor] = RNNLayer.apply(
        *inputs, layout, nonlinearity, steps, second_order.Edge(*inputs)
    )
    return result


def rnn_recurrence(
    steps: RNNSteps,
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
    inputs = z, w_hh, gamma, beta, h_0
    result: tuple[Tensor, Tensor, Tensor | None, Tensor | None] = RNNRecurrence.apply(
        *inputs, layout, nonlinearity, options, steps, second_order.Edge(*inputs)
    )
    return result
