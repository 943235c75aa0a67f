"""Optimizer and learning-rate schedule of the acoustic model, as the configuration names them."""

import torch
from torch import nn

from asr_bn.acoustic_model.experiment import TrainingConfig
from asr_bn.training.optimization import Newbob, Optimization, Schedule


def make_optimization(model: nn.Module, training: TrainingConfig, device: torch.device) -> Optimization:
    """Return the optimization of ``model``, whose parameters are on ``device``."""
    optimizer = _optimizer(list(model.parameters()), training)
    schedule = _schedule(optimizer, training)
    return Optimization(optimizer, device, training.max_grad_norm, training.precision, schedule)


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
