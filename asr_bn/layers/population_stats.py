"""Population statistics as buffers; the final pass that fills them is in `population_estimate`."""

from collections.abc import Callable
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn


class PopulationStats(nn.Module):
    """Statistics of each feature of a normalized quantity, for one time step or for each of many.

    Pooled over frames in float64 as in Kaldi's ``BatchNormComponent`` (nnet3/nnet-normalize-component.h);
    an average of the variances of mini-batches would lack what lies between them.  Casts of the module leave
    them in float64: in half precision counts overflow, and in float32 ``E[z^2] - E[z]^2`` cancels.

    Sequence-wise normalization has one step; frame-wise normalization has one for each of the first
    ``max_steps`` time steps, of which the last pools all later ones.  The buffers never change their shape,
    so that averages of models (``torch.optim.swa_utils``) and ``DistributedDataParallel`` can copy them.

    Args:
        num_features: features of the quantity.
        momentum: weight of a new mini-batch in the running sums; 0 leaves them as they are, None pools all
            mini-batches alike.
        max_steps: time steps to tell apart.
        device: of the buffers.
    """

    count: Tensor
    sum: Tensor
    sumsq: Tensor

    def __init__(
        self,
        num_features: int,
        momentum: float | None = 0.1,
        max_steps: int = 1,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.momentum = momentum
        shapes = {"count": (max_steps,), "sum": (max_steps, num_features), "sumsq": (max_steps, num_features)}
        for name, shape in shapes.items():
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float64, device=device))

    @property
    def num_steps(self) -> int:
        """Time steps there are statistics for."""
        return int(self.count.count_nonzero())

    def reset(self) -> None:
        """Forget everything seen."""
        for buffer in self.buffers():
            buffer.zero_()

    def reset_parameters(self) -> None:
        """Forget everything seen; the name that ``torch.nn``'s modules have for :meth:`reset`."""
        self.reset()

    @torch.no_grad()
    def update(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        """Add a mini-batch to the running sums.

        Args:
            mean, variance: of the first ``S`` time steps, each ``[S, num_features]``.
            count: frames that they are of, ``[S]``, each at least 1.

        A forward pass that ``torch.utils.checkpoint`` repeats in a backward pass adds nothing: it was added.
        """
        if self.momentum == 0.0 or torch._C._current_graph_task_id() != -1:
            return
        mean, variance, count = mean.double(), variance.double(), count.to(self.count)
        keep = 1.0 if self.momentum is None else 1.0 - self.momentum
        weight = count[:, None]
        new = (count, mean * weight, (variance + mean.square()) * weight)
        for buffer, values in zip((self.count, self.sum, self.sumsq), new, strict=True):
            if len(values) > len(buffer):
                last = len(buffer) - 1
                values = torch.cat([values[:last], values[last:].sum(0, keepdim=True)])
            buffer[: len(values)].mul_(keep).add_(values)

    def mean_and_variance(self, num_steps: int = 1) -> tuple[Tensor, Tensor]:
        """Return mean and biased variance of the first steps, float64 ``[num_steps, num_features]``.

        A step that a single sequence reached has no variance; one that none reached has nothing.  Each takes
        the statistics of the last step before it that has both.

        Raises:
            RuntimeError: no mini-batch has been seen, or never more than a single frame of any step; or
                ``torch.func.vmap`` runs over the statistics of several models.
        """
        if torch._C._functorch.is_batchedtensor(self.count):
            raise RuntimeError(
                "vmap cannot run over population statistics: fold() the models of an ensemble first"
            )
        steps = _steps_to_use(self.count.tolist(), num_steps)
        rows = torch.tensor(steps, dtype=torch.long, device=self.count.device)
        count = self.count[rows, None]
        mean = self.sum[rows] / count
        return mean, (self.sumsq[rows] / count - mean.square()).clamp_min_(0.0)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "PopulationStats":
        def move(values: Tensor) -> Tensor:
            moved = fn(values)
            if values.is_meta and not moved.is_meta:  # to_empty: memory that holds anything
                return torch.zeros_like(moved, dtype=values.dtype)
            return moved if moved.dtype == values.dtype else values.to(moved.device)

        super()._apply(move, recurse)  # type: ignore[no-untyped-call]
        return self

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Load what other casts, and other numbers of steps than ours, have saved (one was always one)."""
        saved = state_dict.get(prefix + "count")
        if _has_rows(saved) and len(self.count) > 1:
            self._make_room(len(saved))
        for name, buffer in self.named_buffers():
            values = state_dict.get(prefix + name)
            if _has_rows(values):
                values = values.to(torch.float64)
                missing = buffer.shape[0] - len(values)
                state_dict[prefix + name] = _with_zeros(values, missing) if missing > 0 else values
        super()._load_from_state_dict(state_dict, prefix, *args)

    @torch.inference_mode(False)
    def _make_room(self, steps: int) -> None:
        missing = steps - len(self.count)
        if missing > 0:
            for name, buffer in list(self.named_buffers()):
                setattr(self, name, _with_zeros(buffer, missing))


def _has_rows(saved: object) -> TypeGuard[Tensor]:
    """Return whether it is a tensor with rows; PyTorch names what else a damaged checkpoint holds."""
    return isinstance(saved, Tensor) and saved.dim() > 0


def _with_zeros(values: Tensor, rows: int) -> Tensor:
    return torch.cat([values, values.new_zeros(rows, *values.shape[1:])])


def _steps_to_use(counts: list[float], num_steps: int) -> list[int]:
    """For each of the first steps, the last one up to it that more than one frame was seen of."""
    usable = [step for step, count in enumerate(counts) if count > 1.0]
    if not usable:
        estimate = "train the model, or call estimate_population_stats(model, batches), before evaluating it"
        if not any(counts):
            raise RuntimeError(f"batch normalization has no population statistics yet: {estimate}")
        raise RuntimeError(
            "batch normalization has no population statistics but those of a single frame, which have no "
            f"variance: {estimate}, on mini-batches of more"
        )
    steps, at = [], usable[0]
    for step in range(num_steps):
        at = step if step < len(counts) and counts[step] > 1.0 else at
        steps.append(at)
    return steps
