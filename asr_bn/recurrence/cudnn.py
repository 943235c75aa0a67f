"""The LSTM layer on PyTorch's own kernels: cuDNN on a GPU, packed, without padding."""

import torch
from torch import Tensor

from asr_bn.recurrence.packing import PackedLayout


def lstm_layer(
    x: Tensor,
    w_ih: Tensor,
    bias: Tensor,
    w_hh: Tensor,
    peephole: Tensor | None,
    h_0: Tensor,
    c_0: Tensor,
    layout: PackedLayout,
) -> tuple[Tensor, Tensor, Tensor]:
    """One LSTM layer; arguments and results as in ``lstm_cpu``.

    Raises:
        ValueError: with a peephole, which cuDNN's LSTM does not have.
    """
    if peephole is not None:
        raise ValueError("cuDNN's LSTM has no peephole: use another backend, or peephole=False")
    # cuDNN adds a second bias; PyTorch wants one weight tensor after the other, by direction.
    weights = [part for d in range(len(w_ih)) for part in (w_ih[d], w_hh[d], bias[d], torch.zeros_like(bias[d]))]
    output, h_n, c_n = torch._VF.lstm(  # type: ignore[attr-defined]
        x,
        torch.tensor(layout.batch_sizes),
        (h_0, c_0),
        weights,
        True,  # has biases
        1,  # layers
        0.0,  # dropout
        torch.is_grad_enabled(),  # keep what the backward pass needs
        len(w_ih) == 2,
    )
    halves = output.chunk(len(w_ih), dim=1)
    outputs = [half if d == 0 else half[layout.reversed_rows] for d, half in enumerate(halves)]
    return torch.stack(outputs), h_n, c_n
