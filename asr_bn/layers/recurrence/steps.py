"""The tensors of a recurrence, and the interface of what runs its time steps.

``D`` is the number of directions, ``N`` the packed rows, ``B`` the sequences, ``I`` the input size, ``H`` the
hidden size and ``G`` the width of the gates.  That is ``4 H`` for the LSTM, in PyTorch's order
``i, f, g, o``, and ``H`` for the simple recurrence.  The second direction reads every sequence reversed in
time, which leaves ``batch_sizes`` as they are, so that one loop runs both.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, NamedTuple

from torch import Tensor

from asr_bn.layers.recurrence.packing import PackedLayout
from asr_bn.layers.recurrence.step_norm import StepNorm

Nonlinearity = Literal["tanh", "relu"]
Kind = Literal["lstm", "tanh", "relu"]
State = tuple[Tensor, ...]
Statistics = tuple[Tensor, Tensor]
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


class Outputs(NamedTuple):
    """What the forward pass gives, each ``[D, N, H]``: cells are an LSTM's, their tanh for some backends."""

    h: Tensor
    c: Tensor | None = None
    tanh_c: Tensor | None = None


class Steps(ABC):
    """Runs the time steps of one kind of recurrence, forward and backward."""

    kind: Kind

    def scale_weight(self, weight: Tensor) -> Tensor:
        """Return weights or biases ``[D, G, ...]`` as the steps need them where no gates are normalized."""
        return weight

    def scale_gates(self, gates: Tensor) -> None:  # noqa: B027 (a default, for steps that need no scale)
        """Do the same to input projections ``[D, N, G]``, in place."""

    @abstractmethod
    def run_forward(self, tensors: RecurrentTensors) -> Outputs:
        """Run all steps, and turn the gates into activations in place."""

    @abstractmethod
    def run_backward(self, tensors: RecurrentTensors, outputs: Outputs, grads: State) -> Backward:
        """Return the gradients of the input projections, of the first states and of the peephole.

        Args:
            tensors: those of the forward pass, with unscaled weights.
            outputs: what the forward pass gave.
            grads: gradients of ``h``, and of the last hidden states and cells.

        Gradients of gamma and beta are left in ``tensors.norm``.
        """
