"""What the Triton backends of both recurrences share: where a step is, and its normalization."""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from asr_bn.layers.recurrence import triton_norm_kernels
from asr_bn.layers.recurrence.packing import PackedLayout
from asr_bn.layers.recurrence.step_norm import StepNorm

# Triton's products want at least 16 of each; larger tiles would leave most of a GPU idle at 24 utterances.
TILE = {"ROWS": 16, "UNITS": 16, "DEPTH": 64}


class StepLauncher:
    """Where each time step is in buffers ``[D, N, H]``, as the kernels want it, and how they calculate.

    Args:
        directions, hidden, dtype: of the buffers.
        layout: the packed batch.
    """

    def __init__(self, directions: int, hidden: int, dtype: torch.dtype, layout: PackedLayout) -> None:
        self.directions, self.hidden = directions, hidden
        self.sizes, self.offsets, self.num_rows = layout.batch_sizes, layout.offsets, layout.num_rows
        acc = tl.float64 if dtype == torch.float64 else tl.float32
        tf32 = torch.backends.cuda.matmul.fp32_precision == "tf32"  # as PyTorch's own products
        self.arithmetic: dict[str, Any] = {**TILE, "ACC": acc, "DOT": "tf32" if tf32 else "ieee"}

    def own(self, step: int) -> dict[str, int]:
        """Return where the rows of the step are."""
        return {"first": self.offsets[step], "size": self.sizes[step], "num_rows": self.num_rows}

    def before(self, step: int) -> dict[str, int]:
        """Return where the rows of the step before are, and how many rows their buffer has."""
        if step == 0:
            return {"before": 0, "before_rows": self.sizes[0]}
        return {"before": self.offsets[step - 1], "before_rows": self.num_rows}

    def later(self, step: int) -> dict[str, int]:
        """Return where the rows of the step after are."""
        if step + 1 == len(self.sizes):
            return {"later": 0, "later_size": 0}
        return {"later": self.offsets[step + 1], "later_size": self.sizes[step + 1]}

    def grid(self, step: int) -> tuple[int, int, int]:
        """Return the programs of a kernel that takes some units of some sequences."""
        rows = triton.cdiv(self.sizes[step], TILE["ROWS"])
        return triton.cdiv(self.hidden, TILE["UNITS"]), rows, self.directions


def with_last_states(grad_h: Tensor, grad_h_n: Tensor, layout: PackedLayout) -> Tensor:
    """Add the gradient of the last states, ``[D, B, H]``, to a copy of that of the outputs, ``[D, N, H]``."""
    grad_h = grad_h.clone(memory_format=torch.contiguous_format)
    return grad_h.index_add_(1, layout.last_rows, grad_h_n)


class TritonStepNorm:
    """Runs the normalization of :class:`StepNorm` as kernels, and leaves its results there."""

    def __init__(self, norm: StepNorm, launcher: StepLauncher) -> None:
        self.norm, self.launcher = norm, launcher
        self.gamma, self.beta = norm.gamma.contiguous(), norm.beta.contiguous()
        norm.mean, norm.variance = norm.mean.contiguous(), norm.variance.contiguous()
        self.width = norm.normalized.shape[2]
        self.constants = {
            "num_steps": norm.mean.shape[1],
            "BATCH_STATISTICS": norm.of_batch,
            "EPS": norm.eps,
            "WIDTH": self.width,
        }
        self.grid = triton.cdiv(self.width, TILE["UNITS"]), launcher.directions

    def forward(
        self, gates: Tensor, h_before: Tensor, w_hh: Tensor, step: int, nonlinearity: str = "none"
    ) -> None:
        """Turn the input part of a step into ``phi(BN(W_h h + W_x x))`` in place."""
        norm, launcher = self.norm, self.launcher
        buffers = gates, norm.normalized, norm.mean, norm.variance, self.gamma, self.beta, h_before, w_hh
        where = launcher.own(step) | launcher.before(step) | self.constants
        kernel = triton_norm_kernels.norm_forward[self.grid]
        options = {"NONLINEARITY": nonlinearity, "HIDDEN": launcher.hidden}
        kernel(*buffers, step=step, **options, **where, **launcher.arithmetic)

    def backward(self, grad: Tensor, grad_output: Tensor, step: int) -> None:
        """Fill ``grad``, of a step's products, from that of what became of them."""
        arithmetic = {key: self.launcher.arithmetic[key] for key in ("ROWS", "UNITS", "ACC")}
        buffers = grad, grad_output, self.norm.normalized, self.norm.variance, self.gamma
        kernel = triton_norm_kernels.norm_backward[self.grid]
        kernel(*buffers, step=step, **self.launcher.own(step), **self.constants, **arithmetic)

    def finish(self, grad_output: Tensor) -> None:
        """Leave the gradients of gamma and beta in the norm."""
        self.norm.grad_gamma = (grad_output * self.norm.normalized).sum(1)
        self.norm.grad_beta = grad_output.sum(1)
