"""Recurrent layers on PyTorch's own kernels: cuDNN on a GPU, packed, without padding."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from asr_bn.layers.recurrence.packing import PackedLayout
from asr_bn.layers.recurrence.steps import Kind, State

_KERNELS: dict[Kind, Callable[..., Any]] = {
    "lstm": torch._VF.lstm,
    "tanh": torch._VF.rnn_tanh,
    "relu": torch._VF.rnn_relu,
}


def layer(
    kind: Kind, x: Tensor, w_ih: Tensor, bias: Tensor, w_hh: Tensor, state: State, layout: PackedLayout
) -> tuple[Tensor, State]:
    """Run one layer; arguments and results as in ``packed_function.run_layer``."""
    # cuDNN adds a second bias; PyTorch wants one weight tensor after the other, by direction.
    second = torch.zeros_like(bias)
    weights = [part for d in range(len(w_ih)) for part in (w_ih[d], w_hh[d], bias[d], second[d])]
    bidirectional, training = len(w_ih) == 2, torch.is_grad_enabled()
    output, *last = _KERNELS[kind](
        x,
        torch.tensor(layout.batch_sizes, device="cpu"),
        state if kind == "lstm" else state[0],
        weights,
        True,  # has biases
        1,  # layers
        0.0,  # dropout
        training,  # keeps what the backward pass needs
        bidirectional,
    )
    halves = output.chunk(len(w_ih), dim=1)
    outputs = [
        half if d == 0 else half.index_select(0, layout.reversed_rows) for d, half in enumerate(halves)
    ]
    return torch.stack(outputs), tuple(last)


def recurrence(
    kind: Kind, z: Tensor, w_hh: Tensor, state: State, layout: PackedLayout
) -> tuple[Tensor, State]:
    """Do as :func:`layer` from input projections ``z`` ``[D, N, G]``.

    The kernels always project their input, so each direction gets the identity.  It costs a product of
    ``N x G x G``, far less than leaving the fused recurrence.
    """
    directions, _, width = z.shape
    outputs, last = [], []
    identity, no_bias = torch.eye(width, dtype=z.dtype, device=z.device)[None], z.new_zeros(1, width)
    for d in range(directions):
        one = slice(d, d + 1)
        own = tuple(values[one] for values in state)
        h, h_n = layer(kind, z[d], identity, no_bias, w_hh[one], own, layout)
        outputs.append(h[0])
        last.append(h_n)
    return torch.stack(outputs), tuple(torch.cat(values) for values in zip(*last, strict=True))
