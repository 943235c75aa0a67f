"""How parameters move: gradients, clipping, precision, and steps that must not be taken."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn

from asr_bn.training.checkpoint import Checkpoint

_AUTOCAST = {"bfloat16": torch.bfloat16, "float16": torch.float16}
Outcome = Literal["taken", "not finite", "scale lowered"]


class Newbob:
    """Kaldi's schedule (``steps/nnet/train_scheduler.sh``): once development stalls, lower after every epoch.

    An epoch stalls if its development cross entropy is not lower than that of the epoch before by the share
    ``threshold``.  The learning rate is multiplied by ``factor`` after the first such epoch and after every
    later one.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, factor: float, threshold: float) -> None:
        self._optimizer, self._factor, self._threshold = optimizer, factor, threshold
        self._last: float | None = None
        self._falling = False

    def step(self, cross_entropy: float) -> None:
        """Lower the learning rate if the development cross entropy of an epoch asks for it."""
        if self._last is not None and not cross_entropy < self._last * (1.0 - self._threshold):
            self._falling = True
        self._last = cross_entropy
        if self._falling:
            for group in self._optimizer.param_groups:
                group["lr"] *= self._factor

    def state_dict(self) -> dict[str, float | None]:
        """Return the last cross entropy, and whether the rate has begun to fall."""
        return {"last": self._last, "falling": self._falling}

    def load_state_dict(self, state_dict: dict[str, float | None]) -> None:
        """Continue from what :meth:`state_dict` returned."""
        self._last, self._falling = state_dict["last"], bool(state_dict["falling"])


Schedule = Newbob | torch.optim.lr_scheduler.ReduceLROnPlateau


class Optimization:
    """Optimizer, gradient scaler and schedule of a run.

    Args:
        optimizer: of the model's parameters.
        device: where these are.
        max_grad_norm: gradients are clipped to this norm; None clips none.
        precision: ``"bfloat16"`` and ``"float16"`` are autocast, float16 with a scaled loss.
        schedule: of the learning rate; None leaves it alone.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        device: torch.device,
        max_grad_norm: float | None = None,
        precision: str = "float32",
        schedule: Schedule | None = None,
    ) -> None:
        self.optimizer, self._device, self._schedule = optimizer, device, schedule
        self._parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        self._max_grad_norm = float("inf") if max_grad_norm is None else max_grad_norm
        self._dtype = _AUTOCAST.get(precision)
        self._scaler = torch.amp.GradScaler(device.type, enabled=precision == "float16")

    @property
    def learning_rate(self) -> float:
        """The learning rate now."""
        return float(self.optimizer.param_groups[0]["lr"])

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = value

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context of the forward pass."""
        return nullcontext() if self._dtype is None else torch.autocast(self._device.type, self._dtype)

    def backward(self, loss: Tensor) -> Tensor:
        """Compute and clip the gradients of ``loss``; return their norm before clipping."""
        self.optimizer.zero_grad(set_to_none=True)
        self._scaler.scale(loss).backward()
        self._scaler.unscale_(self.optimizer)
        return nn.utils.clip_grad_norm_(self._parameters, self._max_grad_norm)

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

    def end_epoch(self, cross_entropy: float) -> None:
        """Give the schedule the cross entropy of the development set."""
        if self._schedule is not None:
            self._schedule.step(cross_entropy)

    def state_dict(self) -> Checkpoint:
        """Return the state of the optimizer, and of scaler and schedule where there are any."""
        state: Checkpoint = {"optimizer": self.optimizer.state_dict()}
        if self._scaler.is_enabled():
            state["scaler"] = self._scaler.state_dict()
        if self._schedule is not None:
            state["schedule"] = self._schedule.state_dict()
        return state

    def load_state_dict(self, state: Checkpoint) -> None:
        """Continue from what :meth:`state_dict` returned."""
        self.optimizer.load_state_dict(state["optimizer"])
        if self._scaler.is_enabled():
            self._scaler.load_state_dict(state["scaler"])
        if self._schedule is not None:
            self._schedule.load_state_dict(state["schedule"])


def set_precision(precision: str) -> None:
    """Let products of float32 use TF32 on a GPU (``"tf32"``), or not (any other precision)."""
    matmul: Any = torch.backends.cuda.matmul
    matmul.fp32_precision = "tf32" if precision == "tf32" else "ieee"
    # cuDNN's own switch, for all its operators: PyTorch exports nothing while they differ from it.
    torch.backends.cudnn.allow_tf32 = precision == "tf32"


def _is_finite(value: float) -> bool:
    return abs(value) < float("inf")
