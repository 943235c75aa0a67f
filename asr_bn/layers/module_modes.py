"""Modules in evaluation mode for a while, with the weights that go with it."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """``module`` in evaluation mode; afterwards each of its parts is in the mode it was in."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


@contextmanager
def effective_weights(module: nn.Module) -> Iterator[None]:
    """As :func:`evaluating`, with the weights that the next call would make of pruned or normalized ones.

    Between calls, the weights of pruning and of the older ``weight_norm`` and ``spectral_norm`` are those of
    the last call, whatever an optimizer has done since.
    """
    with evaluating(module):
        for part in module.modules():
            for hook in part._forward_pre_hooks.values():
                if isinstance(hook, (BasePruningMethod, WeightNorm, SpectralNorm)):
                    hook(part, ())
        yield
