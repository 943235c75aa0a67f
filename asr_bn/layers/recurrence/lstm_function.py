"""The LSTM recurrence (paper eqs. 12-16) with a backward pass of its own.

PyTorch's LSTM on a ``PackedSequence`` makes a full-size gradient at every time step, so that its backward
is quadratic in length.  Here the gates are kept, the gradient of the gates is filled step by step in one
buffer, and every weight gradient is one matrix product at the end.  How the steps are run is the business of
``lstm_cpu`` and ``lstm_triton``.

Both directions run in one loop: the second one sees every sequence reversed in time, which leaves
``batch_sizes`` as they are.  ``D`` is the number of directions, ``N`` the packed rows, ``B`` the sequences,
``I`` the input size and ``H`` the hidden size; gates are in PyTorch's order ``i, f, g, o``.
"""

from typing import Any, Protocol

import torch
from torch import Tensor

from asr_bn.layers.recurrence import reference, second_order
from asr_bn.layers.recurrence.autocast import float32_backward, float32_forward
from asr_bn.layers.recurrence.packed_ops import project, project_backward, recurrent_weight_grad
from asr_bn.layers.recurrence.packing import PackedLayout
from asr_bn.layers.recurrence.step_norm import StepNorm, StepNormOptions


class LSTMSteps(Protocol):
    """How the time steps are run, forward and backward; the modules ``lstm_cpu`` and ``lstm_triton``."""

    def scaled(self, weight: Tensor) -> Tensor:
        """Weights or biases ``[D, 4H, ...]`` as the steps want them; of normalized gates, as they are."""

    def scale_gates(self, gates: Tensor) -> None:
        """The same for input projections ``[D, N, 4H]``, in place."""

    def run_forward(
        self,
        gates: Tensor,
        w_hh: Tensor,
        peephole: Tensor | None,
        h_0: Tensor,
        c_0: Tensor,
        layout: PackedLayout,
        norm: StepNorm | None,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Fill ``gates`` (scaled input part in, activations out) and return ``h, c`` ``[D, N, H]``.

        ``w_hh`` is scaled, too.  The third value is what :meth:`run_backward` gets as ``tanh_c``.
        """

    def run_backward(
        self,
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
        """Gradients of the input projections ``[D, N, 4H]``, of ``h_0``, of ``c_0`` and of the peephole.

        Those of ``norm`` are left in it.
        """


def _layer_by_autograd(
    ctx: Any,
    x: Tensor,
    w_ih: Tensor,
    bias: Tensor,
    w_hh: Tensor,
    peephole: Tensor | None,
    h_0: Tensor,
    c_0: Tensor,
) -> tuple[Tensor, ...]:
    z = reference.project(x, w_ih, bias, ctx.layout)
    return reference.lstm_recurrence(z, w_hh, peephole, h_0, c_0, ctx.layout)[:3]


class LSTMLayer(torch.autograd.Function):
    """One LSTM layer, input projection included; see :func:`lstm_layer`."""

    @staticmethod
    @float32_forward
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
        steps: LSTMSteps,
        edge: second_order.Edge,
    ) -> tuple[Tensor, Tensor, Tensor]:
        gates = project(x, steps.scaled(w_ih), steps.scaled(bias), layout)
        h, c, tanh_c = steps.run_forward(gates, steps.scaled(w_hh), peephole, h_0, c_0, layout, None)
        ctx.layout, ctx.steps, ctx.edge = layout, steps, edge
        ctx.save_for_backward(x, w_ih, bias, w_hh, peephole, h_0, c_0, gates, c, tanh_c, h)
        return h, h[:, layout.last_rows], c[:, layout.last_rows]

    @staticmethod
    @float32_backward
    @second_order.with_twin(_layer_by_autograd, num_inputs=7)
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        x, w_ih, _, w_hh, peephole, h_0, c_0, gates, c, tanh_c, h = ctx.saved_tensors
        layout = ctx.layout
        grad_gates, grad_h_0, grad_c_0, grad_peephole = ctx.steps.run_backward(
            grad_outputs, gates, c, tanh_c, w_hh, peephole, c_0, layout, None
        )
        grad_x, grad_w_ih = project_backward(grad_gates, x, w_ih, layout, ctx.needs_input_grad[0])
        grad_w_hh = recurrent_weight_grad(grad_gates, h, h_0, layout)
        grads = (grad_x, grad_w_ih, grad_gates.sum(1), grad_w_hh, grad_peephole, grad_h_0, grad_c_0)
        return *grads, None, None, None


class LSTMRecurrence(torch.autograd.Function):
    """The recurrence alone, on gates whose input part is given; see :func:`lstm_recurrence`."""

    @staticmethod
    @float32_forward
    def forward(
        ctx: Any,
        z: Tensor,
        w_hh: Tensor,
        peephole: Tensor | None,
        gamma: Tensor | None,
        beta: Tensor | None,
        h_0: Tensor,
        c_0: Tensor,
        layout: PackedLayout,
        options: StepNormOptions | None,
        steps: LSTMSteps,
        edge: second_order.Edge,
    ) -> tuple[Tensor | None, ...]:
        norm = StepNorm.make(gamma, beta, options, layout)
        gates = z.clone(memory_format=torch.contiguous_format)
        recurrent = w_hh
        if norm is None:
            steps.scale_gates(gates)
            recurrent = steps.scaled(w_hh)
        h, c, tanh_c = steps.run_forward(gates, recurrent, peephole, h_0, c_0, layout, norm)
        ctx.layout, ctx.norm, ctx.steps, ctx.edge = layout, norm, steps, edge
        ctx.save_for_backward(w_hh, peephole, h_0, c_0, gates, c, tanh_c, h)
        statistics = (None, None) if norm is None else (norm.mean, norm.variance)
        ctx.mark_non_differentiable(*(tensor for tensor in statistics if tensor is not None))
        return h, h[:, layout.last_rows], c[:, layout.last_rows], *statistics

    @staticmethod
    @float32_backward
    @second_order.once
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        w_hh, peephole, h_0, c_0, gates, c, tanh_c, h = ctx.saved_tensors
        norm: StepNorm | None = ctx.norm
        if norm is not None:
            norm.zero_grad()
        grad_gates, grad_h_0, grad_c_0, grad_peephole = ctx.steps.run_backward(
            grad_outputs[:3], gates, c, tanh_c, w_hh, peephole, c_0, ctx.layout, norm
        )
        grad_w_hh = recurrent_weight_grad(grad_gates, h, h_0, ctx.layout)
        grad_gamma, grad_beta = (None, None) if norm is None else (norm.grad_gamma, norm.grad_beta)
        grads = (grad_gates, grad_w_hh, grad_peephole, grad_gamma, grad_beta, grad_h_0, grad_c_0)
        return *grads, None, None, None, None


def lstm_layer(
    steps: LSTMSteps,
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
        steps: what runs the time steps.
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
    inputs = x, w_ih, bias, w_hh, peephole, h_0, c_0
    result: tuple[Tensor, Tensor, Tensor] = LSTMLayer.apply(
        *inputs, layout, steps, second_order.Edge(*inputs)
    )
    return result


def lstm_recurrence(
    steps: LSTMSteps,
    z: Tensor,
    w_hh: Tensor,
    peephole: Tensor | None,
    h_0: Tensor,
    c_0: Tensor,
    layout: PackedLayout,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    options: StepNormOptions | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
    """As :func:`lstm_layer` for an input projection ``z`` ``[D, N, 4H]``; with ``options``, eq. 17.

    Returns:
        As :func:`lstm_layer`, and mean and variance of every step, ``[D, T, 4H]``, where eq. 17 took them.
    """
    inputs = z, w_hh, peephole, gamma, beta, h_0, c_0
    result: tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None] = LSTMRecurrence.apply(
        *inputs, layout, options, steps, second_order.Edge(*inputs)
    )
    return result
