"""Population statistics by a final pass over training mini-batches (paper, section 2, last paragraph)."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from asr_bn.layers.module_modes import evaluating
from asr_bn.layers.population_stats import PopulationStats
from asr_bn.layers.recurrence.steps import State
from asr_bn.layers.stack import RecurrentStack, StatisticsTaken

Model = TypeVar("Model", bound=nn.Module)
Batch = TypeVar("Batch")


@torch.no_grad()
def estimate_population_stats(
    model: Model, batches: Iterable[Batch], forward: Callable[[Model, Batch], object] | None = None
) -> None:
    """Replace the population statistics of ``model`` by those of ``batches``, all frames weighing alike.

    Every mini-batch is normalized with its own statistics, as in training, while counts, sums and sums of
    squares are pooled.  All else is in evaluation mode: there is no dropout, and no other buffer or parameter
    changes.  In a model in training mode, normalized layers in evaluation mode are frozen: they use the
    statistics they have.  If the pass fails, the former statistics are restored.

    Args:
        model: any module that holds :class:`BatchNormLSTM` or :class:`BatchNormRNN` layers.
        batches: training mini-batches.
        forward: runs the model on a batch; by default ``model(batch)``.  It may end at the last normalized
            layer: see :func:`run_for_statistics`.

    Raises:
        ValueError: the model has no statistics to estimate, ``batches`` is empty, or what they give is not
            finite.
    """
    layers = [part for part in model.modules() if _statistics_in(part) and _is_estimated(part, model)]
    if not layers:
        raise ValueError("the model has no batch normalization, or none but frozen: nothing to estimate")
    stats = [own for layer in layers for own in _statistics_in(layer)]
    before = StatisticsCopy(model)
    try:
        with evaluating(model), _pooling(layers, stats):
            for batch in batches:
                model(batch) if forward is None else forward(model, batch)
        if stats[0].count[0].item() == 0.0:
            raise ValueError("no mini-batches were given to estimate population statistics from")
        if not all(own.sumsq.isfinite().all() for own in stats):
            raise ValueError("the mini-batches, or the weights, give statistics that are NaN or infinite")
    except BaseException:
        before.restore()
        raise


def _statistics_in(layer: nn.Module) -> list[PopulationStats]:
    return [part for part in layer.children() if isinstance(part, PopulationStats)]


def _is_estimated(layer: nn.Module, model: nn.Module) -> bool:
    return layer.training or not model.training


@contextmanager
def _pooling(layers: list[nn.Module], stats: list[PopulationStats]) -> Iterator[None]:
    """Put ``layers`` in training mode without dropout, their statistics empty and pooling all batches."""
    momenta = [own.momentum for own in stats]
    dropouts = [(layer, layer.dropout) for layer in layers if isinstance(layer, RecurrentStack)]
    for layer in layers:
        layer.training = True
    for layer, _ in dropouts:
        layer.dropout = 0.0
    for own in stats:
        own.reset()
        own.momentum = None
    try:
        yield
    finally:
        for own, momentum in zip(stats, momenta, strict=True):
            own.momentum = momentum
        for layer, dropout in dropouts:
            layer.dropout = dropout


def run_for_statistics(last: RecurrentStack, model: nn.Module, *inputs: object) -> State | None:
    """Run ``model(*inputs)`` up to the statistics of ``last``, the normalized layers that it runs last.

    For the ``forward`` of :func:`estimate_population_stats`.  Neither what follows ``last`` is computed, nor
    the states of its top layer where no statistics depend on them.

    Returns:
        The last states of ``last``, for a layer that did not run its first ones; None for an empty batch.
    """
    last.statistics_only = True
    try:
        model(*inputs)
    except StatisticsTaken as taken:
        return taken.state
    finally:
        last.statistics_only = False
    return None


class StatisticsCopy:
    """A copy of a model's population statistics, to restore after a step that is not taken."""

    def __init__(self, model: nn.Module) -> None:
        self._copies: list[tuple[PopulationStats, dict[str, Tensor]]] = [
            (stats, {name: buffer[: stats.num_steps].clone() for name, buffer in stats.named_buffers()})
            for stats in model.modules()
            if isinstance(stats, PopulationStats)
        ]

    @torch.no_grad()
    def restore(self) -> None:
        """Restore the statistics of the model."""
        for stats, buffers in self._copies:
            stats.reset()
            for name, buffer in buffers.items():
                stats.get_buffer(name)[: len(buffer)] = buffer
