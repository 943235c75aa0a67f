"""Batch normalization of an input-to-hidden transition ``z = W x`` (paper, section 4).

``z`` is linear in ``x``, so that its statistics follow from those of ``x``: with ``mu = mean(x)`` and
``C = cov(x)`` over the unpadded frames, ``mean(z) = W mu`` and ``var(z) = diag(W C W^T)``.  Scaling the rows
of ``W`` and replacing the bias is then eqs. 18, 20 and 21 to the letter, gradients included, while the
recurrence stays the ordinary one.  ``C`` is shared by both directions.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class _Moments(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        mean = x.mean(0)
        # Centred first: where a unit is nearly constant, mean(x x^T) - mu mu^T would be rounding noise.
        centred = x - mean
        ctx.save_for_backward(x, mean)
        return mean, (centred.t() @ centred).div_(len(x))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        x, mean = ctx.saved_tensors
        grad_mean, grad_cov = grad_outputs
        symmetric = (grad_cov + grad_cov.t()).div_(len(x))
        return torch.addmm(grad_mean / len(x) - mean @ symmetric, x, symmetric)


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean ``[I]`` and biased covariance ``[I, I]`` of the rows of ``x``, shape ``[N, I]``, N >= 1.

    Half-precision rows are taken in float32.
    """
    if x.dtype in (torch.float16, torch.bfloat16):
        x = x.float()
    result: tuple[Tensor, Tensor] = _Moments.apply(x)
    return result


def projected_moments(weight: Tensor, mean: Tensor, cov: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of ``W x``, each ``[..., G]``, for ``weight`` of shape ``[..., G, I]``."""
    variance = ((weight @ cov) * weight).sum(-1)
    return weight @ mean, variance.clamp_min(0.0)


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


class PopulationStats(torch.nn.Module):
    """Count, sum and sum of squares of each feature of ``z``, from which mean and variance are derived last.

    Pooled over frames in float64 as in Kaldi's ``BatchNormComponent`` (nnet3/nnet-normalize-component.h);
    an average of the variances of mini-batches would lack what lies between them.

    Args:
        num_features: size of ``z``.
        momentum: weight of a new mini-batch in the running sums; None pools all mini-batches alike.
    """

    count: Tensor
    sum: Tensor
    sumsq: Tensor

    def __init__(self, num_features: int, momentum: float | None = 0.1) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("sum", torch.zeros(num_features, dtype=torch.float64))
        self.register_buffer("sumsq", torch.zeros(num_features, dtype=torch.float64))

    def reset(self) -> None:
        """Forget everything seen."""
        for buffer in (self.count, self.sum, self.sumsq):
            buffer.zero_()

    @torch.no_grad()
    def update(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Take in a mini-batch of ``count`` frames with these statistics, each ``[num_features]``."""
        mean, variance = mean.double(), variance.double()
        keep = 1.0 if self.momentum is None else 1.0 - self.momentum
        self.count.mul_(keep).add_(count)
        self.sum.mul_(keep).add_(mean, alpha=count)
        self.sumsq.mul_(keep).add_(variance + mean.square(), alpha=count)

    def mean_and_variance(self) -> tuple[Tensor, Tensor]:
        """Population mean and biased variance, each ``[num_features]``, float64.

        Raises:
            RuntimeError: no mini-batch has been seen.
        """
        if self.count.item() == 0.0:
            raise RuntimeError(
                "batch normalization has no population statistics yet: train the model, or call "
                "estimate_population_stats(model, batches), before evaluating it"
            )
        mean = self.sum / self.count
        return mean, (self.sumsq / self.count - mean.square()).clamp_min_(0.0)
