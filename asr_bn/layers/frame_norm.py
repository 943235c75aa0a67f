"""Frame-wise batch normalization of ``z = W x``: each time step by its own statistics (eqs. 18, 19)."""

from typing import Any

import torch
from torch import Tensor

from asr_bn.layers.layer import Layer
from asr_bn.layers.norm import Norm, refuse_folding
from asr_bn.layers.recurrence import reference, second_order
from asr_bn.layers.recurrence.packed_ops import reverse_second
from asr_bn.layers.recurrence.packing import PackedLayout
from asr_bn.layers.recurrence.steps import State
from asr_bn.layers.recurrence.synchronization import longest_of_ranks, sum_over_ranks


class FrameNorm(Norm):
    """``W x`` of each time step normalized over the sequences that reach it."""

    def num_steps(self, max_steps: int) -> int:
        return max_steps

    def run(self, layer: Layer, x: Tensor, state: State, layout: PackedLayout) -> tuple[Tensor, State]:
        return layer.run_on_projection(self._projection(layer, x, layout), state, layout)

    def take_statistics(self, layer: Layer, x: Tensor, layout: PackedLayout) -> Tensor:
        return self._projection(layer, x, layout).sum()

    def fold(self, layer: Layer) -> tuple[Tensor, Tensor]:
        raise refuse_folding("frame")

    def _projection(self, layer: Layer, x: Tensor, layout: PackedLayout) -> Tensor:
        """Return ``BN(W x)`` of each direction, ``[D, N, G]``."""
        (gamma, beta), z = layer.scale_and_shift(), layer.project(x)
        normalize = _train if layer.training else _evaluate
        with torch.autocast(x.device.type, enabled=False):
            return reverse_second(normalize(layer, z, gamma, beta, layout), layout)


def _train(layer: Layer, z: Tensor, gamma: Tensor, beta: Tensor, layout: PackedLayout) -> Tensor:
    normalize = reference.normalize_frames if layer.backend == "reference" else normalize_frames
    outputs = []
    for d, stats in enumerate(layer.stats):
        result, *statistics = normalize(z[d], gamma[d], beta[d], layout, layer.eps, layer.sync)
        stats.update(*statistics)
        outputs.append(result)
    return torch.stack(outputs)


def _evaluate(layer: Layer, z: Tensor, gamma: Tensor, beta: Tensor, layout: PackedLayout) -> Tensor:
    by_direction = zip(z, gamma, beta, *layer.population(layout.num_steps, z.dtype), strict=True)
    return torch.stack([apply_frames(*values, layout, layer.eps) for values in by_direction])


class _NormalizeFrames(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        z: Tensor,
        gamma: Tensor,
        beta: Tensor,
        layout: PackedLayout,
        eps: float,
        sync: bool,
        edge: second_order.Edge,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        count, mean, variance = _step_statistics(z, layout, sync)
        inverse = torch.rsqrt(variance + eps)
        normalized, result = torch.empty_like(z), torch.empty_like(z)
        for rows, steps, block in layout.dense_runs(z):
            target = layout.as_run(normalized, rows, steps)
            torch.mul(block - mean[steps, None], inverse[steps, None], out=target)
            torch.addcmul(beta, target, gamma, out=layout.as_run(result, rows, steps))
        ctx.layout, ctx.sync, ctx.edge = layout, sync, edge
        ctx.save_for_backward(normalized, inverse, gamma, count)
        ctx.mark_non_differentiable(mean, variance, count)
        return result, mean, variance, count

    @staticmethod
    @second_order.once
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        normalized, inverse, gamma, count = ctx.saved_tensors
        layout: PackedLayout = ctx.layout
        grad = grad_outputs[0]
        # Sums over the sequences of every step: of the gradient, and of its product with what it scales.
        sums = grad.new_zeros(2, len(count), grad.shape[1])
        for rows, steps, block in layout.dense_runs(grad):
            sums[0, steps] = block.sum(1)
            sums[1, steps] = (block * layout.as_run(normalized, rows, steps)).sum(1)
        grad_gamma, grad_beta = sums[1].sum(0), sums[0].sum(0)
        if ctx.sync:
            sum_over_ranks(sums)
        means = sums / count[:, None]
        grad_z = torch.empty_like(grad)
        for rows, steps, block in layout.dense_runs(grad):
            target = layout.as_run(grad_z, rows, steps)
            torch.sub(block, means[0, steps, None], out=target)
            target.addcmul_(layout.as_run(normalized, rows, steps), means[1, steps, None], value=-1.0)
            target.mul_((gamma * inverse[steps])[:, None])
        return grad_z, grad_gamma, grad_beta, None, None, None, None


def normalize_frames(
    z: Tensor, gamma: Tensor, beta: Tensor, layout: PackedLayout, eps: float, sync: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Normalize each time step by the statistics of its sequences (eq. 19).

    A time step that only one sequence reaches becomes ``beta``: it has no variance.

    Args:
        z: packed rows, ``[N, G]``.
        gamma, beta: scale and shift, the same for every step, ``[G]``.
        layout: of the rows.
        eps: added to the variance.
        sync: over the sequences of all ranks of ``torch.distributed``.

    Returns:
        The normalized rows, mean and biased variance of every step, each ``[T, G]``, and the sequences that
        they are of, ``[T]``.  The statistics carry no gradient; ``z``, ``gamma`` and ``beta`` do.
    """
    edge = second_order.Edge(z, gamma, beta)
    result: tuple[Tensor, Tensor, Tensor, Tensor] = _NormalizeFrames.apply(
        z, gamma, beta, layout, eps, sync, edge
    )
    return result


def apply_frames(
    z: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor, variance: Tensor, layout: PackedLayout, eps: float
) -> Tensor:
    """Normalize each time step by given statistics, each ``[T, G]`` (evaluation)."""
    scale = gamma * torch.rsqrt(variance + eps)
    steps = layout.steps_of_rows
    return z * scale[steps] + (beta - scale * mean)[steps]


def _step_statistics(z: Tensor, layout: PackedLayout, sync: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return sequences ``[T]``, mean and variance ``[T, G]`` of every step; T is the longest of all ranks."""
    num_steps = longest_of_ranks(layout.num_steps, z.device, sync)
    count, total = z.new_zeros(num_steps), z.new_zeros(num_steps, z.shape[1])
    for _, steps, block in layout.dense_runs(z):
        count[steps], total[steps] = block.shape[1], block.sum(1)
    if sync:
        sum_over_ranks(count), sum_over_ranks(total)
    mean = total / count[:, None]
    squares = torch.zeros_like(total)
    for _, steps, block in layout.dense_runs(z):
        squares[steps] = (block - mean[steps, None]).square_().sum(1)
    if sync:
        sum_over_ranks(squares)
    return count, mean, squares / count[:, None]
