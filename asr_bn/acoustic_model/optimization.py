"""How parameters move: optimizer, learning-rate schedule, and the precision of a step."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn

from asr_bn.acoustic_model.experiment import TrainingConfig

_AUTOCAST = {"bfloat16": torch.bfloat16, "float16": torch.float16}
Outcome = Literal["taken", "not finite", "scale lowered"]


class Optimization:
    """Optimizer, gradient scaler and schedule of a run; ``state_dict`` has all that a resumed one needs.

    Args:
        model: whose parameters move; on ``device``.
        training: the options.
    """

    def __init__(self, model: nn.Module, training: TrainingConfig, device: torch.device) -> None:
        self._parameters = list(model.parameters())
        self._training, self._device = training, device
        self.optimizer = _optimizer(self._parameters, training)
        self._scaler = torch.amp.GradScaler(device.type, enabled=training.precision == "float16")
        self._schedule = _schedule(self.optimizer, training)

    @property
    def learning_rate(self) -> float:
        """As it is now."""
        return float(self.optimizer.param_groups[0]["lr"])

    def autocast(self) -> AbstractContextManager[Any]:
        """The forward pass belongs inside."""
        dtype = _AUTOCAST.get(self._training.precision)
        return nullcontext() if dtype is None else torch.autocast(self._device.type, dtype)

    def backward(self, loss: Tensor) -> Tensor:
        """Gradients of ``loss``, clipped to ``max_grad_norm``; returns what their norm was before."""
        self.optimizer.zero_grad(set_to_none=True)
        self._scaler.scale(loss).backward()
        self._scaler.unscale_(self.optimizer)
        limit = self._training.max_grad_norm
        return nn.utils.clip_grad_norm_(self._parameters, float("inf") if limit is None else limit)

    def step(self, loss: float, norm: float) -> Outcome:
        """Move the parameters, unless the loss or the norm of the gradients is not finite.

        In float16 gradients overflow now and then although nothing is wrong; the scale is lowered then.
        """
        if _is_finite(loss) and _is_finite(norm):
            self._scaler.step(self.optimizer)
            self._scaler.update()
            return "taken"
        scale = self._scaler.get_scale()
        self._scaler.update(0.5 * scale)
        return "scale lowered" if _is_finite(loss) and scale > 1.0 else "not finite"

    def end_epoch(self, dev_fce: float) -> None:
        """Let the schedule look at the development set's cross entropy."""
        if self._schedule is not None:
            self._schedule.step(dev_fce)

    def state_dict(self) -> dict[str, Any]:
        """State of the optimizer, and of scaler and schedule where there are any."""
        state: dict[str, Any] = {"optimizer": self.optimizer.state_dict()}
        if self._scaler.is_enabled():
            state["scaler"] = self._scaler.state_dict()
        if self._schedule is not None:
            state["schedule"] = self._schedule.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what :meth:`state_dict` gave."""
        self.optimizer.load_state_dict(state["optimizer"])
        if self._scaler.is_enabled():
            self._scaler.load_state_dict(state["scaler"])
        if self._schedule is not None:
            self._schedule.load_state_dict(state["schedule"])


class Newbob:
    """Kaldi's schedule (``steps/nnet/train_scheduler.sh``): once development stalls, lower after every epoch.

    The learning rate is multiplied by ``factor`` after the first epoch whose development cross entropy is
    not lower than that of the epoch before by the share ``threshold``, and after every epoch from then on.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, factor: float, threshold: float) -> None:
        self._optimizer, self._factor, self._threshold = optimizer, factor, threshold
        self._last: float | None = None
        self._falling = False

    def step(self, dev_fce: float) -> None:
        """Take the development cross entropy of an epoch."""
        if self._last is not None and not dev_fce < self._last * (1.0 - self._threshold):
            self._falling = True
        self._last = dev_fce
        if self._falling:
            for group in self._optimizer.param_groups:
                group["lr"] *= self._factor

    def state_dict(self) -> dict[str, Any]:
        """The last cross entropy, and whether the rate has begun to fall."""
        return {"last": self._last, "falling": self._falling}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from there."""
        self._last, self._falling = state["last"], state["falling"]


def set_precision(precision: str) -> None:
    """Let products of float32 use TF32 on a GPU (``"tf32"``), or not (any other precision)."""
    kind = "tf32" if precision == "tf32" else "ieee"
    matmul: Any = torch.backends.cuda.matmul
    matmul.fp32_precision = kind
    # cuDNN's own switch, for all its operators: PyTorch exports nothing while they differ from it.
    torch.backends.cudnn.allow_tf32 = precision == "tf32"


def _optimizer(parameters: list[nn.Parameter], training: TrainingConfig) -> torch.optim.Optimizer:
    if training.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=training.learning_rate)
    return torch.optim.SGD(parameters, lr=training.learning_rate, momentum=training.momentum)


def _schedule(
    optimizer: torch.optim.Optimizer, training: TrainingConfig
) -> Newbob | torch.optim.lr_scheduler.ReduceLROnPlateau | None:
    factor, threshold = training.schedule_factor, training.schedule_threshold
    if training.schedule == "newbob":
        return Newbob(optimizer, factor, threshold)
    if training.schedule == "plateau":
        return torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, factor=factor, threshold=threshold, patience=training.schedule_patience
        )
    return None


def _is_finite(value: float) -> bool:
    return abs(value) < float("inf")
