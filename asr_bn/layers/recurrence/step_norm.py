"""Batch normalization of each step inside the recurrence: ``phi(BN(W_h h + W_x x))`` (eq. 17, appendix A)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from asr_bn.layers.recurrence.packing import PackedLayout


@dataclass(frozen=True)
class StepNormSpec:
    """How every time step is normalized.

    Attributes:
        gamma, beta: scale and shift, the same for every step, ``[D, G]``.
        eps: added to the variance.
        population: mean and variance of every step, each ``[D, T, G]``, in evaluation; None in training,
            where each step takes the statistics of its sequences.
    """

    gamma: Tensor
    beta: Tensor
    eps: float
    population: tuple[Tensor, Tensor] | None = None


class StepNorm:
    """Normalizes the gates of one time step after the other, in place, and takes the gradient back.

    Args:
        gamma, beta, eps, population: as in :class:`StepNormSpec`.
        layout: the packed batch.
    """

    def __init__(
        self,
        gamma: Tensor,
        beta: Tensor,
        eps: float,
        population: tuple[Tensor, Tensor] | None,
        layout: PackedLayout,
    ) -> None:
        self.gamma, self.beta, self.eps = gamma[:, None], beta[:, None], eps
        self.of_batch = population is None
        directions, width = gamma.shape
        self.normalized = gamma.new_empty(directions, layout.num_rows, width)
        shape = (directions, layout.num_steps, width)
        self.mean, self.variance = population or (gamma.new_empty(shape), gamma.new_empty(shape))
        self.steps = self.normalized.split(layout.batch_sizes, dim=1)
        self.grad_gamma, self.grad_beta = torch.zeros_like(gamma), torch.zeros_like(gamma)

    def forward(self, gates: Tensor, step: int) -> None:
        """Normalize ``gates`` of ``step``, ``[D, B_t, G]``, in place."""
        normalized = self.steps[step]
        if self.of_batch:
            # torch.var_mean is several times slower over this axis on a CPU.
            mean = torch.mean(gates, 1)
            torch.sub(gates, mean[:, None], out=normalized)
            self.mean[:, step], self.variance[:, step] = mean, normalized.square().mean(1)
        else:
            torch.sub(gates, self.mean[:, step, None], out=normalized)
        normalized.mul_(torch.rsqrt(self.variance[:, step, None] + self.eps))
        torch.addcmul(self.beta, normalized, self.gamma, out=gates)

    def zero_grad(self) -> None:
        """Start a backward pass; there may be several."""
        self.grad_gamma, self.grad_beta = torch.zeros_like(self.grad_gamma), torch.zeros_like(self.grad_beta)

    def backward(self, grad: Tensor, step: int) -> None:
        """Turn the gradient of what :meth:`forward` gave into that of what it was given, in place.

        The gradients of gamma and beta are added up in ``grad_gamma`` and ``grad_beta``.
        """
        normalized = self.steps[step]
        total, along = grad.sum(1), (grad * normalized).sum(1)
        self.grad_beta += total
        self.grad_gamma += along
        if self.of_batch:
            size = grad.shape[1]
            grad.sub_(total.div_(size)[:, None]).addcmul_(normalized, along[:, None], value=-1.0 / size)
        grad.mul_(self.gamma * torch.rsqrt(self.variance[:, step, None] + self.eps))
