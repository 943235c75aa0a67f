"""The recurrences as the paper writes them: slow, any dtype, differentiated by autograd.

What the other backends are tested against.
"""

import torch
from torch import Tensor

from asr_bn.recurrence.packing import PackedLayout


def lstm_recurrence(
    z: Tensor, w_hh: Tensor, peephole: Tensor | None, h_0: Tensor, c_0: Tensor, layout: PackedLayout
) -> tuple[Tensor, Tensor, Tensor]:
    """Eqs. 12-16 from the input projections ``z``; arguments and results as in ``lstm_cpu``."""
    h_before, c_before = h_0, c_0
    outputs = []
    for start, size in zip(layout.offsets, layout.batch_sizes, strict=True):
        h, c = h_before[:, :size], c_before[:, :size]
        gates = z[:, start : start + size] + h @ w_hh.transpose(1, 2)
        i, f, g, o = gates.chunk(4, dim=2)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)  # (12), (13), (14)
        if peephole is not None:
            o = o + peephole[:, None] * c
        h = torch.sigmoid(o) * torch.tanh(c)  # (15), (16)
        outputs.append(h)
        # Sequences that have ended keep their last state.
        h_before = torch.cat([h, h_before[:, size:]], dim=1)
        c_before = torch.cat([c, c_before[:, size:]], dim=1)
    return torch.cat(outputs, dim=1), h_before, c_before


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
    """One LSTM layer, input projection included; arguments and results as in ``lstm_cpu``."""
    inputs = [x, x[layout.reversed_rows]][: len(w_ih)]
    z = torch.stack([rows @ w.t() + b for rows, w, b in zip(inputs, w_ih, bias, strict=True)])
    return lstm_recurrence(z, w_hh, peephole, h_0, c_0, layout)
