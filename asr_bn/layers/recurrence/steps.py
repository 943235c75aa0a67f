"""The tensors of a recurrence, and the interface of what runs its time steps.

``D`` is the number of directions, ``N`` the packed rows, ``B`` the sequences, ``I`` the input size, ``H`` the
hidden size and ``G`` the width of the gates: ``4 H`` for the LSTM, in PyTorch's order ``i, f, g, o``, and
``H`` for the simple recurrence.  The second direction reads every sequence reversed in time, which leaves
``batch_sizes`` as they are, so that one loop runs both.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from asr_bn.layers.recurrence.packing import PackedLayout
from asr_bn.layers.recurrence.step_norm import StepNorm

Nonlinearity = Literal["tanh", "relu"]
Kind = Literal["lstm", "tanh", "relu"]
State = tuple[Tensor, ...]
Statistics = tuple[Tensor, Tensor]
Forward = tuple[Tensor, Tensor | None, Tensor | None]
Backward = tuple[Tensor, State, Tensor | None]


@dataclass(frozen=True)
class RecurrentWeights:
    """The recurrent weights of a layer: ``[D, G, H]``, and the diagonal peepholes of eq. 15, ``[D, H]``."""

    w_hh: Tensor
    peephole: Tensor | None = None


@dataclass(frozen=True)
class RecurrentTensors:
    """What the time steps of a recurrence run on.

    Attributes:
        gates: ``[D, N, G]``; the forward pass turns input projections into activations, in place.
        weights: in the forward pass those that :meth:`Steps.scale_weight` gave.
        state: first hidden states, and first cells of an LSTM, each ``[D, B, H]``.
        layout: the order of the rows.
        norm: normalization inside the recurrence (eq. 17).
    """

    gates: Tensor
    weights: RecurrentWeights
    state: State
    layout: PackedLayout
    norm: StepNorm | None = None


class Steps(ABC):
    """Runs the time steps of one kind of recurrence, forward and backward."""

    kind: Kind

    def scale_weight(self, weight: Tensor) -> Tensor:
        """Return weights or biases ``[D, G, ...]`` as the steps need them where no gates are normalized."""
        return weight

    def scale_gates(self, gates: Tensor) -> None:  # noqa: B027 (a default, for steps that need no scale)
        """Do the same to input projections ``[D, N, G]``, in place."""

    @abstractmethod
    def run_forward(self, tensors: RecurrentTensors) -> Forward:
        """Return ``h``; of an LSTM also ``c``, and ``tanh_c`` where the backward pass needs it."""

    @abstractmethod
    def run_backward(
        self,
        tensors: RecurrentTensors,
        c: Tensor | None,
        tanh_c: Tensor | None,
        grad_outputs: tuple[Tensor, ...],
    ) -> Backward:
        """Return the gradients of the input projections, of the first states and of the peephole.

        Args:
            tensors: those of the forward pass, with unscaled weights; of an RNN, ``gates`` are ``h``.
            c, tanh_c: what the forward pass gave.
            grad_outputs: gradients of ``h``, and of the last hidden states and cells.

        Gradients of gamma and beta are left in ``tensors.norm``.
        """
