"""Batch normalization of an input-to-hidden transition ``z = W x`` (paper, section 4).

Sequence-wise (eqs. 18, 20, 21).  ``z`` is linear in ``x``, so that its statistics follow from those of ``x``:
with ``mu = mean(x)`` and ``C = cov(x)`` over the unpadded frames, ``mean(z) = W mu`` and
``var(z) = diag(W C W^T)``.  Scaling the rows of ``W`` and replacing the bias is then the normalization to the
letter, gradients included, while the recurrence stays the ordinary one.  ``C`` is shared by both directions.

Where the terms of ``w C w^T`` nearly cancel, as with features that nearly depend on each other, the variance
is that of ``z`` itself, of the rows of ``W`` concerned.

Frame-wise (eq. 19).  ``z`` is normalized itself, each time step by its own statistics.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from asr_bn.layers.recurrence import reference, second_order
from asr_bn.layers.recurrence.autocast import at_least_float32
from asr_bn.layers.recurrence.packing import PackedLayout
from asr_bn.layers.recurrence.synchronization import longest_of_ranks, sum_over_ranks

# Columns of a block of a symmetric product: on a CPU narrower ones cost more than the blocks saved.
BLOCK_COLUMNS = 128
# The variance of a row is taken from z itself where (sum of |w_j| sigma_j)^2 is more than so many times, and
# than (D / 2)^2 times, as large: there the loss in w C w^T nears ten times that of z (tried for D of 12 to
# 500).  Of independent features it is D times as large at most.
CANCELLING = 100.0


@contextmanager
def float32_products() -> Iterator[None]:
    """Float32 matrix products as IEEE says, not in TF32 or bfloat16, which may be allowed elsewhere."""
    places = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]
    before = [place.fp32_precision for place in places]
    for place in places:
        place.fp32_precision = "ieee"
    try:
        yield
    finally:
        for place, precision in zip(places, before, strict=True):
            place.fp32_precision = precision


@float32_products()
def symmetric_product(a: Tensor, b: Tensor) -> Tensor:
    """``a^T b`` of ``[N, I]`` and ``[N, I]`` where it is known to be symmetric, ``[I, I]``.

    On a CPU only the blocks on and below the diagonal are computed.
    """
    if a.is_cuda:
        return a.t() @ b
    result = a.new_empty(a.shape[1], a.shape[1])
    for start in range(0, a.shape[1], BLOCK_COLUMNS):
        stop = start + BLOCK_COLUMNS
        block = torch.mm(a[:, start:stop].t(), b[:, :stop])
        result[start:stop, :stop] = block
        result[:start, start:stop] = block[:, :start].t()
    return result


def _moments_by_autograd(ctx: Any, x: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
    return reference.row_moments(torch.matmul(x, weight.transpose(-1, -2)), ctx.sync)


class _ProjectedMoments(torch.autograd.Function):
    @staticmethod
    @float32_products()
    def forward(ctx: Any, x: Tensor, weight: Tensor, sync: bool) -> tuple[Tensor, Tensor, Tensor]:
        count = x.new_full((1,), len(x))
        total = torch.cat([count, x.sum(0)])
        if sync:
            sum_over_ranks(total)
        count, mean = total[:1], total[1:] / total[0]
        # Centred first: where a unit is nearly constant, mean(x x^T) - mu mu^T would be rounding noise.
        centred = x - mean
        scatter = symmetric_product(centred, centred)
        if sync:
            sum_over_ranks(scatter)
        covariance = scatter.div_(count)
        product = weight @ covariance
        variance = (product * weight).sum(-1).clamp_min_(0.0)
        rows = _cancelling_rows(weight, covariance, variance, sync)
        if len(rows):
            refined = _moments_of_rows(centred, weight.flatten(0, -2)[rows], count, sync)
            variance.view(-1)[rows], product.view(-1, product.shape[-1])[rows] = refined
        ctx.sync = sync
        ctx.save_for_backward(x, weight, mean, product, count)
        ctx.mark_non_differentiable(count)
        return weight @ mean, variance, count

    @staticmethod
    @second_order.with_twin(_moments_by_autograd, num_inputs=2)
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, product, count = ctx.saved_tensors
        grad_mean, grad_variance = (grad.unsqueeze(-1) for grad in grad_outputs[:2])
        grad_weight = torch.addcmul(grad_mean * mean, grad_variance, product, value=2.0)
        if not ctx.needs_input_grad[0]:
            return None, grad_weight, None
        rows = weight.flatten(0, -2)
        grad_cov = symmetric_product((weight * grad_variance).flatten(0, -2), rows)
        grads = torch.cat([grad_mean.flatten() @ rows, grad_cov.flatten()]).div_(count)
        if ctx.sync:  # the loss of every rank depends on these statistics
            sum_over_ranks(grads)
        along, symmetric = grads[: len(mean)], grads[len(mean) :].view_as(grad_cov).mul_(2.0)
        return torch.addmm(along - mean @ symmetric, x, symmetric), grad_weight, None


def _cancelling_rows(weight: Tensor, covariance: Tensor, variance: Tensor, sync: bool) -> Tensor:
    """Which rows of ``weight`` ``[..., G, I]``, counted through, lose their ``variance`` (``CANCELLING``)."""
    most = (weight.abs() @ covariance.diagonal().clamp_min(0.0).sqrt()).square_()
    cancelling = variance * max(CANCELLING, weight.shape[-1] ** 2 / 4) < most
    if sync:  # every rank has to take part in the sums of the same rows
        cancelling = sum_over_ranks(cancelling.to(torch.int32), maximum=True)
    return cancelling.flatten().nonzero().squeeze(-1)


def _moments_of_rows(x: Tensor, rows: Tensor, count: Tensor, sync: bool) -> tuple[Tensor, Tensor]:
    """Variance ``[K]`` and covariance with ``x`` ``[K, I]`` of ``rows x``, for centred ``x`` ``[N, I]``."""
    z = x @ rows.t()
    sums = torch.cat([z.t() @ x, z.sum(0)[:, None], z.square().sum(0)[:, None]], dim=1)
    if sync:
        sum_over_ranks(sums)
    sums = sums / count
    # The mean of x is rounded, so that of z is not quite zero.
    return (sums[:, -1] - sums[:, -2].square()).clamp_min_(0.0), sums[:, :-2]


def projected_moments(x: Tensor, weight: Tensor, sync: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and biased variance of ``W x`` over rows, each ``[..., G]``, and the count of rows, ``[1]``.

    Half-precision rows are taken in float32.

    Args:
        x: at least one row, ``[N, I]``; with ``sync``, at least one on some rank.
        weight: ``[..., G, I]``.
        sync: over the rows of all ranks of ``torch.distributed``.
    """
    result: tuple[Tensor, Tensor, Tensor] = _ProjectedMoments.apply(
        at_least_float32(x), at_least_float32(weight), sync
    )
    return result


def fold(
    weight: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor, variance: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """Weights and bias of the affine map that equals ``BN(W x)`` (eqs. 3 and 4) for given statistics.

    Args:
        weight: ``W``, shape ``[..., G, I]``.
        gamma, beta, mean, variance: shape ``[..., G]``; the statistics are of ``W x``.
        eps: added to the variance.
    """
    scale = gamma * torch.rsqrt(variance + eps)
    return weight * scale.unsqueeze(-1), beta - scale * mean


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
    """Frame-wise normalization (eq. 19): each time step by the statistics of its sequences.

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
    """Frame-wise normalization by given statistics, each ``[T, G]`` (evaluation)."""
    scale = gamma * torch.rsqrt(variance + eps)
    steps = layout.steps_of_rows
    return z * scale[steps] + (beta - scale * mean)[steps]


def _step_statistics(z: Tensor, layout: PackedLayout, sync: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Sequences ``[T]``, mean and biased variance ``[T, G]`` of every step; T is the longest of all ranks."""
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
