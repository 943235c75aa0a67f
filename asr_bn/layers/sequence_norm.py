"""Sequence-wise batch normalization of an input-to-hidden transition ``z = W x`` (eqs. 18, 20, 21).

``z`` is linear in ``x``, so that its statistics follow from those of ``x``.  With ``mu = mean(x)`` and
``C = cov(x)`` over the unpadded frames, ``mean(z) = W mu`` and ``var(z) = diag(W C W^T)``.  Scaling the rows
of ``W`` and replacing the bias is then the normalization exactly, gradients included, while the recurrence
stays the ordinary one.  Both directions share ``C``.

The terms of ``w C w^T`` nearly cancel where features nearly depend on each other.  For such rows of ``W``
the variance is computed from ``z`` itself.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from asr_bn.layers.layer import Layer
from asr_bn.layers.norm import AffineNorm
from asr_bn.layers.recurrence import reference, second_order
from asr_bn.layers.recurrence.autocast import at_least_float32
from asr_bn.layers.recurrence.packed_ops import reverse_second
from asr_bn.layers.recurrence.packing import PackedLayout
from asr_bn.layers.recurrence.synchronization import sum_over_ranks

# Columns of a block of a symmetric product; narrower blocks cost more on a CPU than they save.
BLOCK_COLUMNS = 128
# A row's variance is computed from z itself where (sum of |w_j| sigma_j)^2 is more than CANCELLING and more
# than (D / 2)^2 times as large.  There w C w^T loses nearly ten times what z loses (tried for D from 12 to
# 500).  For independent features the ratio is D at most.
CANCELLING = 100.0


class SequenceNorm(AffineNorm):
    """``W x`` normalized over all unpadded frames of the mini-batch."""

    def num_steps(self, max_steps: int) -> int:
        return 1

    def input_weights(self, layer: Layer, x: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`AffineNorm.input_weights`; half-precision weights are given in float32."""
        if not layer.training:
            return self.fold(layer)
        gamma, beta, weight = _parameters(layer)
        with torch.autocast(x.device.type, enabled=False):  # statistics keep float32
            mean, variance, count = projected_moments(x, weight, layer.sync)
            layer.update(mean[:, None], variance[:, None], count)
            return fold(weight, gamma, beta, mean, variance, layer.eps)

    def fold(self, layer: Layer) -> tuple[Tensor, Tensor]:
        """See :meth:`Norm.fold`: what evaluation computes with."""
        gamma, beta, weight = _parameters(layer)
        with torch.autocast(weight.device.type, enabled=False):
            mean, variance = layer.population(1, weight.dtype)
            return fold(weight, gamma, beta, mean[:, 0], variance[:, 0], layer.eps)

    def projection(self, layer: Layer, x: Tensor, layout: PackedLayout) -> Tensor:
        (gamma, beta), z = layer.scale_and_shift(), layer.project(x)
        with torch.autocast(x.device.type, enabled=False):
            if layer.training:
                mean, variance, count = reference.row_moments(z, layer.sync)
                layer.update(mean.detach()[:, None], variance.detach()[:, None], count)
            else:
                mean, variance = (values[:, 0] for values in layer.population(1, z.dtype))
            z = reference.batch_norm(z, gamma, beta, layer.eps, (mean, variance))[0]
        return reverse_second(z, layout)


def _parameters(layer: Layer) -> tuple[Tensor, Tensor, Tensor]:
    weight = layer.stacked("weight_ih")
    return layer.stacked("gamma"), layer.stacked("beta"), at_least_float32(weight)


@contextmanager
def float32_products() -> Iterator[None]:
    """Compute float32 matrix products in IEEE float32, even where TF32 or bfloat16 is allowed elsewhere."""
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
    """Return ``a^T b`` ``[I, I]`` of two ``[N, I]`` where it is known to be symmetric.

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
    """Return which rows of ``weight`` ``[..., G, I]``, flattened, have a ``variance`` that cancels."""
    most = (weight.abs() @ covariance.diagonal().clamp_min(0.0).sqrt()).square_()
    cancelling = variance * max(CANCELLING, weight.shape[-1] ** 2 / 4) < most
    if sync:  # every rank has to take part in the sums of the same rows
        cancelling = sum_over_ranks(cancelling.to(torch.int32), maximum=True)
    return cancelling.flatten().nonzero().squeeze(-1)


def _moments_of_rows(x: Tensor, rows: Tensor, count: Tensor, sync: bool) -> tuple[Tensor, Tensor]:
    """Return variance ``[K]`` of ``rows x`` and covariance with centred ``x``, ``[K, I]``."""
    z = x @ rows.t()
    sums = torch.cat([z.t() @ x, z.sum(0)[:, None], z.square().sum(0)[:, None]], dim=1)
    if sync:
        sum_over_ranks(sums)
    sums = sums / count
    # The mean of x is rounded, so that of z is not quite zero.
    return (sums[:, -1] - sums[:, -2].square()).clamp_min_(0.0), sums[:, :-2]


def projected_moments(x: Tensor, weight: Tensor, sync: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean and biased variance of ``W x`` over rows, each ``[..., G]``, and their count, ``[1]``.

    Half precision is computed in float32.

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
    """Return weights and bias of the affine map that equals ``BN(W x)`` (eqs. 3 and 4) for given statistics.

    Args:
        weight: ``W``, shape ``[..., G, I]``.
        gamma, beta, mean, variance: shape ``[..., G]``; the statistics are of ``W x``.
        eps: added to the variance.
    """
    scale = gamma * torch.rsqrt(variance + eps)
    return weight * scale.unsqueeze(-1), beta - scale * mean
