"""One layer of a stack, as its normalization sees it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from asr_bn.layers.population_stats import PopulationStats
from asr_bn.layers.recurrence.autocast import at_least_float32
from asr_bn.layers.recurrence.cells import Cell
from asr_bn.layers.recurrence.packing import PackedLayout
from asr_bn.layers.recurrence.steps import RecurrentWeights, State


@dataclass(frozen=True)
class Layer:
    """A layer's parameters and statistics of both directions, and how to run it.

    Attributes:
        stacked: gives a parameter by its name, ``[D, ...]``; parametrizations are computed at each call.
        stats: population statistics of each direction.
        cell, backend: what runs the recurrence.
        has_peephole, has_bias: which parameters there are.
        eps: added to the variance.
        training: statistics are those of the mini-batch.
        sync: they are those of all ranks.
    """

    stacked: Callable[[str], Tensor]
    stats: list[PopulationStats]
    cell: Cell
    backend: str
    has_peephole: bool
    has_bias: bool
    eps: float
    training: bool
    sync: bool

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """Return gamma and beta, each ``[D, G]``, in float32 at least."""
        return at_least_float32(self.stacked("gamma")), at_least_float32(self.stacked("beta"))

    def recurrent_weights(self) -> RecurrentWeights:
        """Return the weights of the recurrence."""
        peephole = self.stacked("weight_peephole") if self.has_peephole else None
        return RecurrentWeights(self.stacked("weight_hh"), peephole)

    def project(self, x: Tensor) -> Tensor:
        """Return ``W x`` without a bias for ``x`` ``[N, I]``, ``[D, N, G]``, in float32 at least."""
        weight = self.stacked("weight_ih")
        return at_least_float32(torch.stack([torch.nn.functional.linear(x, w) for w in weight]))

    def population(self, num_steps: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return population mean and variance of each direction, each ``[D, num_steps, G]``.

        Raises:
            RuntimeError: there are no population statistics yet.
        """
        pairs = [stats.mean_and_variance(num_steps) for stats in self.stats]
        mean, variance = (torch.stack(values).to(dtype) for values in zip(*pairs, strict=True))
        return mean, variance

    def update(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        """Add the statistics of a mini-batch, ``[D, num_steps, G]``, to the population's.

        Args:
            count: frames that they are of, ``[num_steps]``.
        """
        for direction, stats in enumerate(self.stats):
            stats.update(mean[direction], variance[direction], count)

    def run_on_projection(self, z: Tensor, state: State, layout: PackedLayout) -> tuple[Tensor, State]:
        """Run the recurrence on input projections ``z`` ``[D, N, G]``."""
        weights = self.recurrent_weights()
        z = z.to(weights.w_hh.dtype)
        h, last, _ = self.cell.recurrence(z, weights, state, layout, self.backend)
        return h, last
