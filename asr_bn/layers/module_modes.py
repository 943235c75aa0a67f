"""Modules put in evaluation mode for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put ``module`` in evaluation mode; afterwards restore the mode of each of its parts."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


@contextmanager
def effective_weights(module: nn.Module) -> Iterator[None]:
    """Do as :func:`evaluating`, and compute pruned and normalized weights as the next call would.

    Between calls, weights under pruning and the older ``weight_norm`` and ``spectral_norm`` are those of the
    last call, whatever an optimizer has done since.
    """
    with evaluating(module):
        for part in module.modules():
            for hook in part._forward_pre_hooks.values():
                if isinstance(hook, (BasePruningMethod, WeightNorm, SpectralNorm)):
                    hook(part, ())
        yield
