"""Optimizer and learning-rate schedule of the acoustic model, as the configuration names them."""

import torch
from torch import nn

from asr_bn.acoustic_model.experiment import TrainingConfig
from asr_bn.training.optimization import Optimization, Schedule


def make_optimization(model: nn.Module, training: TrainingConfig, device: torch.device) -> Optimization:
    """Return the optimization of ``model``, whose parameters are on ``device``."""
    optimizer = _optimizer(list(model.parameters()), training)
    schedule = _schedule(optimizer, training)
    return Optimization(optimizer, device, training.max_grad_norm, training.precision, schedule)


class Newbob:
    """Kaldi's schedule (``steps/nnet/train_scheduler.sh``): once development stalls, lower after every epoch.

    The learning rate is multiplied by ``factor`` after the first epoch whose development cross entropy is
    not lower than that of the epoch before by the share ``threshold``, and after every epoch from then on.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, factor: float, threshold: float) -> None:
        self._optimizer, self._factor, self._threshold = optimizer, factor, threshold
        self._last: float | None = None
        self._falling = False

    def step(self, metrics: float) -> None:
        """Take the development cross entropy of an epoch."""
        if self._last is not None and not metrics < self._last * (1.0 - self._threshold):
            self._falling = True
        self._last = metrics
        if self._falling:
            for group in self._optimizer.param_groups:
                group["lr"] *= self._factor

    def state_dict(self) -> dict[str, float | None]:
        """Return what a checkpoint has to hold."""
        return {"last": self._last, "falling": self._falling}

    def load_state_dict(self, state_dict: dict[str, float | None]) -> None:
        """Continue from what :meth:`state_dict` returned."""
        self._last, self._falling = state_dict["last"], bool(state_dict["falling"])


def _optimizer(parameters: list[nn.Parameter], training: TrainingConfig) -> torch.optim.Optimizer:
    if training.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=training.learning_rate)
    return torch.optim.SGD(parameters, lr=training.learning_rate, momentum=training.momentum)


def _schedule(optimizer: torch.optim.Optimizer, training: TrainingConfig) -> Schedule | None:
    factor, threshold = training.schedule_factor, training.schedule_threshold
    if training.schedule == "newbob":
        return Newbob(optimizer, factor, threshold)
    if training.schedule == "plateau":
        return torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, factor=factor, threshold=threshold, patience=training.schedule_patience
        )
    return None
