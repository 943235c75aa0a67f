"""Population statistics: counts, sums and sums of squares, from which mean and variance are derived last."""

from typing import Any

import torch
from torch import Tensor, nn


class PopulationStats(nn.Module):
    """Statistics of each feature of a normalized quantity, for one time step or for each of many.

    Pooled over frames in float64 as in Kaldi's ``BatchNormComponent`` (nnet3/nnet-normalize-component.h);
    an average of the variances of mini-batches would lack what lies between them.  Sequence-wise
    normalization has one step; frame-wise normalization has one for each time step of the longest window
    seen, and steps beyond it take the statistics of the last.

    Args:
        num_features: features of the quantity.
        momentum: weight of a new mini-batch in the running sums; None pools all mini-batches alike.
    """

    count: Tensor
    sum: Tensor
    sumsq: Tensor

    def __init__(self, num_features: int, momentum: float | None = 0.1) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("count", torch.zeros(1, dtype=torch.float64))
        self.register_buffer("sum", torch.zeros(1, num_features, dtype=torch.float64))
        self.register_buffer("sumsq", torch.zeros(1, num_features, dtype=torch.float64))

    @property
    def num_steps(self) -> int:
        """Time steps there are statistics for."""
        return len(self.count)

    def reset(self) -> None:
        """Forget everything seen."""
        self._resize(1)
        for buffer in (self.count, self.sum, self.sumsq):
            buffer.zero_()

    @torch.no_grad()
    def update(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        """Take in a mini-batch.

        Args:
            mean, variance: of the first ``S`` time steps, each ``[S, num_features]``.
            count: frames that they are of, ``[S]``, each at least 1.
        """
        steps = len(mean)
        self._resize(max(steps, self.num_steps))
        mean, variance, count = mean.double(), variance.double(), count.to(self.count)
        keep = 1.0 if self.momentum is None else 1.0 - self.momentum
        self.count[:steps].mul_(keep).add_(count)
        self.sum[:steps].mul_(keep).add_(mean * count[:, None])
        self.sumsq[:steps].mul_(keep).add_((variance + mean.square()) * count[:, None])

    def mean_and_variance(self, num_steps: int = 1) -> tuple[Tensor, Tensor]:
        """Population mean and biased variance of the first steps, float64 ``[num_steps, num_features]``.

        Raises:
            RuntimeError: no mini-batch has been seen.
        """
        if self.count[0].item() == 0.0:
            raise RuntimeError(
                "batch normalization has no population statistics yet: train the model, or call "
                "estimate_population_stats(model, batches), before evaluating it"
            )
        steps = torch.arange(num_steps, device=self.count.device).clamp_(max=self.num_steps - 1)
        count = self.count[steps, None]
        mean = self.sum[steps] / count
        return mean, (self.sumsq[steps] / count - mean.square()).clamp_min_(0.0)

    def _resize(self, steps: int) -> None:
        for name in ("count", "sum", "sumsq"):
            buffer = getattr(self, name)
            if len(buffer) == steps:
                continue
            resized = buffer.new_zeros((steps, *buffer.shape[1:]))
            resized[: len(buffer)] = buffer[:steps]
            setattr(self, name, resized)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # As many steps as were saved, not as many as this module happens to have.
        if prefix + "count" in state_dict:
            self._resize(len(state_dict[prefix + "count"]))
        super()._load_from_state_dict(state_dict, prefix, *args)
