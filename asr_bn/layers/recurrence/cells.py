"""The recurrences behind one interface: which cell, which backend."""

import importlib.util
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol

from torch import Tensor

from asr_bn.layers.recurrence import cudnn, lstm_cpu, reference, rnn_cpu
from asr_bn.layers.recurrence.lstm_function import LSTMSteps, lstm_layer, lstm_recurrence
from asr_bn.layers.recurrence.packing import PackedLayout
from asr_bn.layers.recurrence.rnn_function import Nonlinearity, RNNSteps, rnn_layer, rnn_recurrence
from asr_bn.layers.recurrence.step_norm import StepNormOptions

Backend = Literal["auto", "reference", "cpu", "cudnn", "triton"]
State = tuple[Tensor, ...]
Statistics = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class StepNormInputs:
    """What normalization inside the recurrence (eq. 17) needs: scale and shift ``[D, G]``, and options."""

    gamma: Tensor
    beta: Tensor
    options: StepNormOptions


@dataclass(frozen=True)
class Recurrent:
    """The recurrent weights of a layer: ``[D, G, H]``, and the peepholes ``[D, H]`` where there are any."""

    w_hh: Tensor
    peephole: Tensor | None = None


class Cell(Protocol):
    """A recurrence."""

    gates: int
    num_states: int

    def layer(
        self,
        x: Tensor,
        w_ih: Tensor,
        bias: Tensor,
        weights: Recurrent,
        state: State,
        layout: PackedLayout,
        backend: str,
    ) -> tuple[Tensor, State]:
        """A layer from its input rows: hidden states ``[D, N, H]`` and last states ``[D, B, H]``.

        The reference has none: it starts from the input projections.
        """

    def recurrence(
        self,
        z: Tensor,
        weights: Recurrent,
        state: State,
        layout: PackedLayout,
        backend: str,
        norm: StepNormInputs | None = None,
    ) -> tuple[Tensor, State, Statistics | None]:
        """A layer from its input projections; the statistics of every step where ``norm`` took them."""


class LSTMCell:
    """Eqs. 12-16."""

    gates = 4
    num_states = 2

    def layer(
        self,
        x: Tensor,
        w_ih: Tensor,
        bias: Tensor,
        weights: Recurrent,
        state: State,
        layout: PackedLayout,
        backend: str,
    ) -> tuple[Tensor, State]:
        """See :class:`Cell`."""
        if backend == "cudnn":
            self._refuse(weights, None)
            return cudnn.layer("lstm", x, w_ih, bias, weights.w_hh, state, layout)
        h_0, c_0 = state
        steps = _lstm_steps(backend)
        h, *last = lstm_layer(steps, x, w_ih, bias, weights.w_hh, weights.peephole, h_0, c_0, layout)
        return h, tuple(last)

    def recurrence(
        self,
        z: Tensor,
        weights: Recurrent,
        state: State,
        layout: PackedLayout,
        backend: str,
        norm: StepNormInputs | None = None,
    ) -> tuple[Tensor, State, Statistics | None]:
        """See :class:`Cell`."""
        if backend == "cudnn":
            self._refuse(weights, norm)
            return *cudnn.recurrence("lstm", z, weights.w_hh, state, layout), None
        function = reference.lstm_recurrence
        if backend != "reference":
            function = partial(lstm_recurrence, _lstm_steps(backend))
        h_0, c_0 = state
        h, h_n, c_n, mean, variance = function(
            z, weights.w_hh, weights.peephole, h_0, c_0, layout, *_unpack(norm)
        )
        return h, (h_n, c_n), None if mean is None or variance is None else (mean, variance)

    @staticmethod
    def _refuse(weights: Recurrent, norm: StepNormInputs | None) -> None:
        if weights.peephole is not None or norm is not None:
            raise ValueError("cuDNN's LSTM has no peephole and no normalization: use another backend")


@dataclass
class RNNCell:
    """Eq. 7."""

    nonlinearity: Nonlinearity
    gates: int = 1
    num_states: int = 1

    def layer(
        self,
        x: Tensor,
        w_ih: Tensor,
        bias: Tensor,
        weights: Recurrent,
        state: State,
        layout: PackedLayout,
        backend: str,
    ) -> tuple[Tensor, State]:
        """See :class:`Cell`."""
        if backend == "cudnn":
            return cudnn.layer(self.nonlinearity, x, w_ih, bias, weights.w_hh, state, layout)
        steps = _rnn_steps(backend)
        h, h_n = rnn_layer(steps, x, w_ih, bias, weights.w_hh, state[0], layout, self.nonlinearity)
        return h, (h_n,)

    def recurrence(
        self,
        z: Tensor,
        weights: Recurrent,
        state: State,
        layout: PackedLayout,
        backend: str,
        norm: StepNormInputs | None = None,
    ) -> tuple[Tensor, State, Statistics | None]:
        """See :class:`Cell`."""
        if backend == "cudnn":
            if norm is not None:
                raise ValueError("cuDNN's recurrence has no normalization: use another backend")
            return *cudnn.recurrence(self.nonlinearity, z, weights.w_hh, state, layout), None
        function = reference.rnn_recurrence
        if backend != "reference":
            function = partial(rnn_recurrence, _rnn_steps(backend))
        (h_0,) = state
        h, h_n, mean, variance = function(z, weights.w_hh, h_0, layout, self.nonlinearity, *_unpack(norm))
        return h, (h_n,), None if mean is None or variance is None else (mean, variance)


def _lstm_steps(backend: str) -> LSTMSteps:
    if backend == "cpu":
        return lstm_cpu
    _check_triton()
    from asr_bn.layers.recurrence import lstm_triton

    return lstm_triton


def _rnn_steps(backend: str) -> RNNSteps:
    if backend == "cpu":
        return rnn_cpu
    _check_triton()
    from asr_bn.layers.recurrence import rnn_triton

    return rnn_triton


def has_triton() -> bool:
    """True where Triton is installed; PyTorch for CUDA brings it along on Linux."""
    return importlib.util.find_spec("triton") is not None


def _check_triton() -> None:
    if not has_triton():
        raise ValueError("backend='triton' needs the package triton, which is not installed")


def _unpack(norm: StepNormInputs | None) -> tuple[Tensor | None, Tensor | None, StepNormOptions | None]:
    return (None, None, None) if norm is None else (norm.gamma, norm.beta, norm.options)
