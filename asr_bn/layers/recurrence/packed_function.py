"""The recurrences on packed rows, with a backward pass of their own (eqs. 7 and 12-17).

PyTorch's LSTM on a ``PackedSequence`` makes a full-size gradient at every time step, so that its backward
pass is quadratic in length.  Here the gradient of the gates is filled step by step in one buffer, and every
weight gradient is one matrix product at the end.  Shapes are those of ``steps``.
"""

from typing import Any

import torch
from torch import Tensor

from asr_bn.layers.recurrence import reference, second_order
from asr_bn.layers.recurrence.autocast import float32_backward, float32_forward
from asr_bn.layers.recurrence.packed_ops import project_backward, project_packed, recurrent_weight_grad
from asr_bn.layers.recurrence.packing import PackedLayout
from asr_bn.layers.recurrence.second_order import Grads
from asr_bn.layers.recurrence.step_norm import StepNorm, StepNormSpec
from asr_bn.layers.recurrence.steps import (
    Outputs,
    RecurrentTensors,
    RecurrentWeights,
    State,
    Statistics,
    Steps,
)


def _layer_by_autograd(
    ctx: Any, x: Tensor, w_ih: Tensor, bias: Tensor, *recurrent: Any
) -> tuple[Tensor, ...]:
    z = reference.project_autograd(x, w_ih, bias, ctx.layout)
    weights, state = _weights_and_state(*recurrent)
    h, last, _ = reference.recurrence(ctx.steps.kind, z, weights, state, ctx.layout)
    return h, *last


def _weights_and_state(
    w_hh: Tensor, peephole: Tensor | None, h_0: Tensor, c_0: Tensor | None
) -> tuple[RecurrentWeights, State]:
    return RecurrentWeights(w_hh, peephole), (h_0,) if c_0 is None else (h_0, c_0)


def _run_forward(ctx: Any, steps: Steps, tensors: RecurrentTensors, *inputs: Tensor | None) -> Grads:
    """Run the steps and save what the backward pass needs; return the hidden states and the last states."""
    h, c, tanh_c = steps.run_forward(tensors)
    ctx.steps, ctx.layout, ctx.norm = steps, tensors.layout, tensors.norm
    ctx.save_for_backward(*inputs, tensors.gates, h, c, tanh_c)
    rows = tensors.layout.last_rows
    return h, h[:, rows], None if c is None else c[:, rows]


def _run_backward(ctx: Any, saved: tuple[Any, ...], grad_outputs: tuple[Tensor, ...]) -> Grads:
    """Return the gradients of the input projections, recurrent weights, peephole and both first states."""
    *recurrent, gates, h, c, tanh_c = saved
    weights, state = _weights_and_state(*recurrent)
    tensors = RecurrentTensors(gates, weights, state, ctx.layout, ctx.norm)
    grad_gates, grad_state, grad_peephole = ctx.steps.run_backward(
        tensors, Outputs(h, c, tanh_c), grad_outputs
    )
    grad_w_hh = recurrent_weight_grad(grad_gates, h, state[0], ctx.layout)
    return grad_gates, grad_w_hh, grad_peephole, *grad_state, *[None] * (2 - len(grad_state))


class _Layer(torch.autograd.Function):
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
        c_0: Tensor | None,
        layout: PackedLayout,
        steps: Steps,
        edge: second_order.Edge,
    ) -> Grads:
        gates = project_packed(x, steps.scale_weight(w_ih), steps.scale_weight(bias), layout)
        weights, state = _weights_and_state(steps.scale_weight(w_hh), peephole, h_0, c_0)
        tensors = RecurrentTensors(gates, weights, state, layout)
        ctx.edge = edge
        return _run_forward(ctx, steps, tensors, x, w_ih, bias, w_hh, peephole, h_0, c_0)

    @staticmethod
    @float32_backward
    @second_order.with_twin(_layer_by_autograd, num_inputs=7)
    def backward(ctx: Any, *grad_outputs: Tensor) -> Grads:
        x, w_ih, _, *saved = ctx.saved_tensors
        grad_z, *grads = _run_backward(ctx, saved, grad_outputs)
        assert grad_z is not None
        grad_x, grad_w_ih = project_backward(grad_z, x, w_ih, ctx.layout, ctx.needs_input_grad[0])
        return grad_x, grad_w_ih, grad_z.sum(1), *grads, None, None, None


class _Recurrence(torch.autograd.Function):
    @staticmethod
    @float32_forward
    def forward(
        ctx: Any,
        z: Tensor,
        w_hh: Tensor,
        peephole: Tensor | None,
        h_0: Tensor,
        c_0: Tensor | None,
        gamma: Tensor | None,
        beta: Tensor | None,
        layout: PackedLayout,
        spec: StepNormSpec | None,
        steps: Steps,
        edge: second_order.Edge,
    ) -> Grads:
        gates, scaled, norm = z.clone(memory_format=torch.contiguous_format), w_hh, None
        if spec is None or gamma is None or beta is None:
            steps.scale_gates(gates)
            scaled = steps.scale_weight(w_hh)
        else:
            norm = StepNorm(gamma, beta, spec.eps, spec.population, layout)
        tensors = RecurrentTensors(gates, *_weights_and_state(scaled, peephole, h_0, c_0), layout, norm)
        ctx.edge = edge
        outputs = _run_forward(ctx, steps, tensors, w_hh, peephole, h_0, c_0)
        if norm is None:
            return *outputs, None, None
        ctx.mark_non_differentiable(norm.mean, norm.variance)
        return *outputs, norm.mean, norm.variance

    @staticmethod
    @float32_backward
    @second_order.once
    def backward(ctx: Any, *grad_outputs: Tensor) -> Grads:
        norm: StepNorm | None = ctx.norm
        if norm is not None:
            norm.zero_grad()
        grads = _run_backward(ctx, ctx.saved_tensors, grad_outputs[:3])
        of_norm = (None, None) if norm is None else (norm.grad_gamma, norm.grad_beta)
        return *grads, *of_norm, None, None, None, None


def run_layer(
    steps: Steps,
    x: Tensor,
    w_ih: Tensor,
    bias: Tensor,
    weights: RecurrentWeights,
    state: State,
    layout: PackedLayout,
) -> tuple[Tensor, State]:
    """Run one layer over a packed batch.

    Args:
        steps: what runs the time steps.
        x: input rows, ``[N, I]``.
        w_ih: input-to-hidden weights, ``[D, G, I]``.
        bias: ``[D, G]``.
        weights: recurrent weights.
        state: first hidden states, and first cells of an LSTM, each ``[D, B, H]``.
        layout: the order of the rows.

    Returns:
        The hidden states, ``[D, N, H]`` (the second direction still reversed in time), and the last states.
    """
    inputs = x, w_ih, bias, *_tensors_of(weights, state)
    h, *last = _Layer.apply(*inputs, layout, steps, second_order.Edge(*inputs))
    return h, tuple(last[: len(state)])


def run_recurrence(
    steps: Steps,
    z: Tensor,
    weights: RecurrentWeights,
    state: State,
    layout: PackedLayout,
    norm: StepNormSpec | None = None,
) -> tuple[Tensor, State, Statistics | None]:
    """Do as :func:`run_layer` from input projections ``z`` ``[D, N, G]``; with ``norm``, eq. 17.

    Returns:
        As :func:`run_layer`, and with ``norm`` mean and variance of every step, each ``[D, T, G]``.
    """
    of_norm = (None, None) if norm is None else (norm.gamma, norm.beta)
    inputs = z, *_tensors_of(weights, state), *of_norm
    h, *last, mean, variance = _Recurrence.apply(*inputs, layout, norm, steps, second_order.Edge(*inputs))
    return h, tuple(last[: len(state)]), None if norm is None else (mean, variance)


def _tensors_of(weights: RecurrentWeights, state: State) -> tuple[Tensor | None, ...]:
    return weights.w_hh, weights.peephole, state[0], state[1] if len(state) == 2 else None
