"""Population statistics by a final pass over training mini-batches (paper, section 2, last paragraph)."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from asr_bn.batches import Batch
from asr_bn.population_stats import PopulationStats
from asr_bn.recurrent_base import NormalizedRecurrent


@torch.no_grad()
def estimate_population_stats(
    model: nn.Module, batches: Iterable[Any], forward: Callable[[nn.Module, Any], Any] | None = None
) -> None:
    """Replace the population statistics of ``model`` by those of ``batches``, all frames weighing alike.

    Every mini-batch is normalized with its own statistics, as in training, while counts, sums and sums of
    squares are pooled.  Dropout is off; parameters do not change.

    Args:
        model: any module that holds :class:`BatchNormLSTM` or :class:`BatchNormRNN` layers.
        batches: training mini-batches.
        forward: how a batch goes through the model; by default ``model(batch)``.

    Raises:
        ValueError: the model has no statistics to estimate, or ``batches`` is empty.
    """
    stats = [module for module in model.modules() if isinstance(module, PopulationStats)]
    if not stats:
        raise ValueError("the model has no batch normalization, so there are no statistics to estimate")
    was_training = model.training
    momenta, dropouts = [s.momentum for s in stats], _switch_off_dropout(model)
    for layer_stats in stats:
        layer_stats.reset()
        layer_stats.momentum = None
    model.train()
    try:
        for batch in batches:
            model(batch) if forward is None else forward(model, batch)
    finally:
        for layer_stats, momentum in zip(stats, momenta, strict=True):
            layer_stats.momentum = momentum
        for module, dropout in dropouts:
            setattr(module, *dropout)
        model.train(was_training)
    if stats[0].count[0].item() == 0.0:
        raise ValueError("no mini-batches were given to estimate population statistics from")


def _switch_off_dropout(model: nn.Module) -> list[tuple[nn.Module, tuple[str, float]]]:
    """Set every dropout probability to zero and return what they were."""
    before: list[tuple[nn.Module, tuple[str, float]]] = []
    for module in model.modules():
        for kind, name in ((NormalizedRecurrent, "dropout"), (nn.Dropout, "p")):
            if isinstance(module, kind):
                before.append((module, (name, getattr(module, name))))
                setattr(module, name, 0.0)
    return before


def forward_batch(model: nn.Module, batch: Batch) -> None:
    """How a :class:`Batch` goes through the acoustic model."""
    model(batch.feats.to(next(model.parameters()).device), batch.lengths)


class StatisticsCopy:
    """The population statistics of a model as they are now, to be put back after a step that is not taken."""

    def __init__(self, model: nn.Module) -> None:
        self._copies: list[tuple[PopulationStats, dict[str, Tensor]]] = [
            (stats, {name: buffer.clone() for name, buffer in stats.named_buffers()})
            for stats in model.modules()
            if isinstance(stats, PopulationStats)
        ]

    def put_back(self) -> None:
        """Make the statistics what they were."""
        for stats, buffers in self._copies:
            for name, buffer in buffers.items():
                setattr(stats, name, buffer)
