"""``norm="recurrent"`` of a layer (eq. 17 and appendix A); ``recurrence/step_norm.py`` computes its steps."""

from typing import NoReturn

import torch
from torch import Tensor

from asr_bn.layers.layer import Layer
from asr_bn.layers.norm import Norm, refuse_folding
from asr_bn.layers.recurrence import reference
from asr_bn.layers.recurrence.autocast import at_least_float32
from asr_bn.layers.recurrence.packing import PackedLayout
from asr_bn.layers.recurrence.step_norm import StepNormSpec
from asr_bn.layers.recurrence.steps import RecurrentWeights, State


class RecurrentNorm(Norm):
    """Each time step's sums are normalized over the sequences that reach it.

    In training by their own statistics, in evaluation by the population's of that step.  All is computed in
    float32 at least.
    """

    in_recurrence = True

    def num_steps(self, max_steps: int) -> int:
        return max_steps

    def run(self, layer: Layer, x: Tensor, state: State, layout: PackedLayout) -> tuple[Tensor, State]:
        """See :meth:`Norm.run`; how the steps are normalized is in ``recurrence/step_norm.py``.

        Raises:
            ValueError: the statistics would be those of several ranks.
        """
        if layer.sync:
            _refuse_to_share()
        weights = layer.recurrent_weights()
        dtype = weights.w_hh.dtype
        weight = at_least_float32(layer.stacked("weight_ih"))
        z = at_least_float32(reference.project_autograd(at_least_float32(x), weight, None, layout))
        population = None if layer.training else layer.population(layout.num_steps, z.dtype)
        norm = StepNormSpec(*layer.scale_and_shift(), layer.eps, population)
        peephole = None if weights.peephole is None else at_least_float32(weights.peephole)
        weights = RecurrentWeights(at_least_float32(weights.w_hh), peephole)
        first = tuple(at_least_float32(values) for values in state)
        h, last, statistics = layer.cell.recurrence(z, weights, first, layout, layer.backend, norm)
        if layer.training and statistics is not None:
            layer.update(*statistics, torch.tensor(layout.batch_sizes, device="cpu"))
        return h.to(dtype), tuple(values.to(dtype) for values in last)

    def take_statistics(self, layer: Layer, x: Tensor, layout: PackedLayout) -> Tensor:
        """Refuse: they depend on the layer's own states, and no ranks can share them."""
        _refuse_to_share()

    def fold(self, layer: Layer) -> tuple[Tensor, Tensor]:
        raise refuse_folding("recurrent")


def _refuse_to_share() -> NoReturn:
    raise ValueError(
        "norm='recurrent' cannot share its statistics among ranks: every time step "
        "would need a sum over all ranks; use sync=False, or another norm"
    )
