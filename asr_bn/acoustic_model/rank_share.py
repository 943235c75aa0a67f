"""The model on a rank's share of a mini-batch."""

import inspect
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from asr_bn.acoustic_model.model import AcousticModel
from asr_bn.training.ranks import Ranks


class RankShare(nn.Module):
    """Log posteriors of the utterances that a rank has; one that has none takes part all the same.

    Statistics and gradients are sums over all ranks, so that each of them has to run every layer.
    """

    def __init__(self, model: AcousticModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, static_feats: Tensor, lengths: Tensor) -> Tensor:
        """Return packed rows ``[sum(lengths), num_pdfs]``, as :class:`AcousticModel` orders them."""
        if len(lengths):
            packed: Tensor = self.model(static_feats, lengths).data
            return packed
        model = self.model
        hidden, _ = model.layers(model.feats_mean.new_zeros(1, 0, len(model.feats_mean)))
        logits = model.output(hidden.flatten(0, 1))
        # DistributedDataParallel waits for a gradient of every parameter, here zero.
        return nn.functional.log_softmax(logits, dim=1) + 0.0 * sum(p.sum() for p in model.parameters())


def wrap_distributed(model: AcousticModel, ranks: Ranks) -> nn.Module:
    """Wrap ``model`` in a module whose gradients are averaged over all ranks."""
    share = RankShare(model)
    if ranks.size == 1:
        return share
    # Gradients have a group of their own: a rank without an utterance reaches the sums of the statistics,
    # which go through the default group, at another moment between those of the gradients.
    # The population statistics are those of all ranks already, so that no buffer need be sent.
    group = torch.distributed.new_group()
    # PyTorch is renaming the option.
    names = inspect.signature(DistributedDataParallel).parameters
    option = next(name for name in ("forward_sync_buffers", "broadcast_buffers") if name in names)
    wrap: Callable[..., nn.Module] = DistributedDataParallel
    return wrap(share, process_group=group, **{option: False})
