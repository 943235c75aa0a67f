"""Batch normalization inside the recurrence: ``phi(BN(W_h h + W_x x))`` (eq. 17 and appendix A)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from asr_bn.layers.recurrence.packing import PackedLayout


@dataclass(frozen=True)
class StepNormOptions:
    """How every time step is normalized.

    Attributes:
        eps: added to the variance.
        population: mean and variance of every step, each ``[D, T, G]``, in evaluation; None in training,
            where each step takes the statistics of its sequences.
    """

    eps: float
    population: tuple[Tensor, Tensor] | None


class StepNorm:
    """Normalizes the gates of one time step after the other, in place, and takes the gradient back.

    Args:
        gamma, beta: scale and shift, the same for every step, ``[D, G]``.
        options: eps, and the population statistics in evaluation.
        layout: the packed batch.
    """

    def __init__(self, gamma: Tensor, beta: Tensor, options: StepNormOptions, layout: PackedLayout) -> None:
        self.gamma, self.beta, self.options = gamma[:, None], beta[:, None], options
        directions, width = gamma.shape
        self.normalized = gamma.new_empty(directions, layout.num_rows, width)
        shape = (directions, len(layout.batch_sizes), width)
        if options.population is None:
            self.mean, self.variance = gamma.new_empty(shape), gamma.new_empty(shape)
        else:
            self.mean, self.variance = options.population
        self.steps = self.normalized.split(layout.batch_sizes, dim=1)
        self.grad_gamma, self.grad_beta = torch.zeros_like(gamma), torch.zeros_like(gamma)

    @classmethod
    def make(
        cls, gamma: Tensor | None, beta: Tensor | None, options: StepNormOptions | None, layout: PackedLayout
    ) -> "StepNorm | None":
        """None without options."""
        if gamma is None or beta is None or options is None:
            return None
        return cls(gamma, beta, options, layout)

    def forward(self, gates: Tensor, step: int) -> None:
        """Normalize ``gates`` of ``step``, ``[D, B_t, G]``, in place."""
        normalized = self.steps[step]
        if self.options.population is None:
            # Not torch.var_mean, which is several times slower over this axis on a CPU.
            mean = torch.mean(gates, 1)
            torch.sub(gates, mean[:, None], out=normalized)
            self.mean[:, step], self.variance[:, step] = mean, normalized.square().mean(1)
        else:
            torch.sub(gates, self.mean[:, step, None], out=normalized)
        normalized.mul_(torch.rsqrt(self.variance[:, step, None] + self.options.eps))
        torch.addcmul(self.beta, normalized, self.gamma, out=gates)

    def zero_grad(self) -> None:
        """Start a backward pass, which there may be several of."""
        self.grad_gamma, self.grad_beta = torch.zeros_like(self.grad_gamma), torch.zeros_like(self.grad_beta)

    def backward(self, grad: Tensor, step: int) -> None:
        """Turn the gradient of what :meth:`forward` gave into that of what it was given, in place.

        The gradients of gamma and beta are added up in ``grad_gamma`` and ``grad_beta``.
        """
        normalized = self.steps[step]
        total, along = grad.sum(1), (grad * normalized).sum(1)
        self.grad_beta += total
        self.grad_gamma += along
        if self.options.population is None:
            size = grad.shape[1]
            grad.sub_(total.div_(size)[:, None]).addcmul_(normalized, along[:, None], value=-1.0 / size)
        grad.mul_(self.gamma * torch.rsqrt(self.variance[:, step, None] + self.options.eps))
