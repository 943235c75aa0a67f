"""What every kind of normalization has to say of a layer."""

from abc import ABC, abstractmethod

from torch import Tensor

from asr_bn.layers.layer import Layer
from asr_bn.layers.recurrence import reference
from asr_bn.layers.recurrence.packing import PackedLayout
from asr_bn.layers.recurrence.steps import State


class Norm(ABC):
    """How the layers of a stack are normalized: in training, in evaluation and folded into weights.

    Attributes:
        in_recurrence: it normalizes what depends on the layer's own states (eq. 17).
    """

    in_recurrence = False

    @abstractmethod
    def num_steps(self, max_steps: int) -> int:
        """Return how many time steps have population statistics of their own; 0 without a norm."""

    @abstractmethod
    def run(self, layer: Layer, x: Tensor, state: State, layout: PackedLayout) -> tuple[Tensor, State]:
        """Run a layer on rows ``[N, I]``: hidden states ``[D, N, H]`` and last states ``[D, B, H]``."""

    @abstractmethod
    def take_statistics(self, layer: Layer, x: Tensor, layout: PackedLayout) -> Tensor:
        """Take the statistics, and return a number that keeps their graph alive."""

    @abstractmethod
    def fold(self, layer: Layer) -> tuple[Tensor, Tensor]:
        """Return weights ``[D, G, I]`` and bias ``[D, G]`` of the input projection in evaluation.

        Raises:
            RuntimeError: there are no population statistics yet.
            ValueError: the statistics are of time steps: no single weights can hold them.
        """


class AffineNorm(Norm):
    """A norm that is one affine map of all frames, so that weights and a bias can hold it."""

    @abstractmethod
    def input_weights(self, layer: Layer, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return weights ``[D, G, I]`` and bias ``[D, G]`` that project ``x`` and normalize it."""

    @abstractmethod
    def projection(self, layer: Layer, x: Tensor, layout: PackedLayout) -> Tensor:
        """Return the same projection as the equations compute it, ``[D, N, G]``; for the reference."""

    def run(self, layer: Layer, x: Tensor, state: State, layout: PackedLayout) -> tuple[Tensor, State]:
        if layer.backend == "reference":
            return layer.run_on_projection(self.projection(layer, x, layout), state, layout)
        weights = layer.recurrent_weights()
        w_ih, bias = (values.to(weights.w_hh.dtype) for values in self.input_weights(layer, x))
        return layer.cell.layer(x, w_ih, bias, weights, state, layout, layer.backend)

    def take_statistics(self, layer: Layer, x: Tensor, layout: PackedLayout) -> Tensor:
        if layer.backend == "reference":
            return self.projection(layer, x, layout).sum()
        weight, bias = self.input_weights(layer, x)
        return weight.sum() + bias.sum()


class NoNorm(AffineNorm):
    """The layer as it is: ``W x + b``."""

    def num_steps(self, max_steps: int) -> int:
        return 0

    def input_weights(self, layer: Layer, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.fold(layer)

    def projection(self, layer: Layer, x: Tensor, layout: PackedLayout) -> Tensor:
        return reference.project_autograd(x, *self.fold(layer), layout)

    def fold(self, layer: Layer) -> tuple[Tensor, Tensor]:
        weight = layer.stacked("weight_ih")
        if not layer.has_bias:
            return weight, weight.new_zeros(weight.shape[:2])
        # The factor gives the second bias its own gradient: a shared one would be scaled or clipped twice.
        return weight, layer.stacked("bias_ih") + 1.0 * layer.stacked("bias_hh")


def refuse_folding(name: str) -> ValueError:
    """Return the error of a norm whose statistics are of time steps."""
    return ValueError(f"norm={name!r} has statistics for each time step: it cannot be folded into weights")
