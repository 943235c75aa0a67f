"""One trained bias for each gate, in layers that hold two as ``torch.nn.LSTM`` does."""

import torch

from asr_bn.layers.batch_norm import BatchNormLSTM, BatchNormRNN


@torch.no_grad()
def keep_one_bias(layers: BatchNormLSTM | BatchNormRNN) -> None:
    """Set every second bias, ``bias_hh``, to zero and leave it out of training.

    Both have the same gradient.  Trained together, their sum would move at twice the learning rate of the
    ``beta`` of a normalized network.  It would also count twice in the norm of the gradients.
    """
    for name, values in layers.named_parameters():
        if name.startswith("bias_hh"):
            values.requires_grad_(False).zero_()
