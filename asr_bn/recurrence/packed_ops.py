"""What the recurrences with a backward pass of their own have in common, on packed rows.

``D`` is the number of directions, ``N`` the packed rows, ``B`` the sequences, ``I`` the input size, ``H`` the
hidden size and ``G`` the width of the gates (``4 H`` for the LSTM, ``H`` for the simple recurrence).
"""

import torch
from torch import Tensor

from asr_bn.recurrence.packing import PackedLayout


def by_direction(x: Tensor, layout: PackedLayout, directions: int) -> list[Tensor]:
    """``x`` as each direction reads it: as it is, and every sequence reversed in time."""
    return [x] if directions == 1 else [x, x.index_select(0, layout.reversed_rows)]


def project(x: Tensor, weight: Tensor, bias: Tensor, layout: PackedLayout) -> Tensor:
    """``W x + b`` for each direction, ``[D, N, G]``, from ``[N, I]``, ``[D, G, I]`` and ``[D, G]``."""
    z = x.new_empty(weight.shape[0], x.shape[0], weight.shape[1])
    for direction, rows in enumerate(by_direction(x, layout, len(weight))):
        torch.addmm(bias[direction], rows, weight[direction].t(), out=z[direction])
    return z


def project_backward(
    grad_z: Tensor, x: Tensor, weight: Tensor, layout: PackedLayout, needs_x: bool
) -> tuple[Tensor | None, Tensor]:
    """Gradients of ``x`` (None where it is not needed) and of the weights of :func:`project`."""
    inputs = by_direction(x, layout, len(weight))
    grad_weight = torch.stack([grad.t() @ rows for grad, rows in zip(grad_z, inputs, strict=True)])
    if not needs_x:
        return None, grad_weight
    grad_x = grad_z[0] @ weight[0]
    if len(weight) == 2:
        grad_x += (grad_z[1] @ weight[1]).index_select(0, layout.reversed_rows)
    return grad_x, grad_weight


def shifted(values: Tensor, first: Tensor, rows: slice, layout: PackedLayout) -> Tensor:
    """The value one frame earlier for each of ``rows`` of ``values`` ``[D, N, H]``.

    ``first``, ``[D, B, H]``, is what was before the first frame.
    """
    batch = layout.batch_size
    if rows.start >= batch:
        return values.index_select(1, layout.previous_rows[rows.start - batch : rows.stop - batch])
    later = values.index_select(1, layout.previous_rows[: max(rows.stop - batch, 0)])
    return torch.cat([first, later], dim=1)[:, rows.start : rows.stop]


def recurrent_weight_grad(grad_gates: Tensor, h: Tensor, h_0: Tensor, layout: PackedLayout) -> Tensor:
    """Gradient of the recurrent weights, ``[D, G, H]``: one product over all frames."""
    h_before = shifted(h, h_0, slice(0, layout.num_rows), layout)
    return torch.bmm(grad_gates.transpose(1, 2), h_before)
