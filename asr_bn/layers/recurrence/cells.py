"""The recurrences behind one interface: which cell, on which backend."""

import importlib.util
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from asr_bn.layers.recurrence import cudnn, reference
from asr_bn.layers.recurrence.lstm_cpu import CpuLSTM
from asr_bn.layers.recurrence.packed_function import run_layer, run_recurrence
from asr_bn.layers.recurrence.packing import PackedLayout
from asr_bn.layers.recurrence.rnn_cpu import CpuRNN
from asr_bn.layers.recurrence.step_norm import StepNormSpec
from asr_bn.layers.recurrence.steps import Kind, RecurrentWeights, State, Statistics, Steps

Backend = Literal["auto", "reference", "cpu", "cudnn", "triton"]


@dataclass(frozen=True)
class Cell:
    """A recurrence: eqs. 12-16 where ``kind`` is ``"lstm"``, otherwise eq. 7 with that nonlinearity."""

    kind: Kind
    num_gates: int = 1
    num_states: int = 1

    def layer(
        self,
        x: Tensor,
        w_ih: Tensor,
        bias: Tensor,
        weights: RecurrentWeights,
        state: State,
        layout: PackedLayout,
        backend: str,
    ) -> tuple[Tensor, State]:
        """Run a layer from its input rows: hidden states ``[D, N, H]`` and last states ``[D, B, H]``.

        The reference starts from input projections: it has :meth:`recurrence` only.
        """
        if backend == "cudnn":
            _check_cudnn(weights, None)
            return cudnn.layer(self.kind, x, w_ih, bias, weights.w_hh, state, layout)
        return run_layer(self._steps(backend), x, w_ih, bias, weights, state, layout)

    def recurrence(
        self,
        z: Tensor,
        weights: RecurrentWeights,
        state: State,
        layout: PackedLayout,
        backend: str,
        norm: StepNormSpec | None = None,
    ) -> tuple[Tensor, State, Statistics | None]:
        """Run a layer from its input projections; with ``norm`` also return the statistics of every step."""
        if backend == "cudnn":
            _check_cudnn(weights, norm)
            return *cudnn.recurrence(self.kind, z, weights.w_hh, state, layout), None
        if backend == "reference":
            return reference.recurrence(self.kind, z, weights, state, layout, norm)
        return run_recurrence(self._steps(backend), z, weights, state, layout, norm)

    def _steps(self, backend: str) -> Steps:
        if backend == "cpu":
            return CpuLSTM() if self.kind == "lstm" else CpuRNN(self.kind)
        if not has_triton():
            raise ValueError("backend='triton' needs the package triton, which is not installed")
        from asr_bn.layers.recurrence.lstm_triton import TritonLSTM
        from asr_bn.layers.recurrence.rnn_triton import TritonRNN

        return TritonLSTM() if self.kind == "lstm" else TritonRNN(self.kind)


LSTM = Cell("lstm", num_gates=4, num_states=2)


def has_triton() -> bool:
    """Return whether Triton is installed; PyTorch for CUDA brings it along on Linux."""
    return importlib.util.find_spec("triton") is not None


def _check_cudnn(weights: RecurrentWeights, norm: StepNormSpec | None) -> None:
    if weights.peephole is not None or norm is not None:
        raise ValueError("cuDNN has no peephole and no normalization in the recurrence: use another backend")
