"""The recurrences as the paper writes them: slow, any dtype, differentiated by autograd.

What the other backends are tested against.  Cutting the packed rows with ``split`` keeps autograd linear in
the length.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from asr_bn.layers.recurrence.packed_ops import by_direction
from asr_bn.layers.recurrence.packing import PackedLayout
from asr_bn.layers.recurrence.step_norm import StepNormOptions
from asr_bn.layers.recurrence.synchronization import joint_sum, longest_of_ranks

Statistics = tuple[Tensor, Tensor]


def project(x: Tensor, w_ih: Tensor, bias: Tensor | None, layout: PackedLayout) -> Tensor:
    """``W x + b`` for each direction, ``[D, N, G]``, with gradients by autograd."""
    inputs = by_direction(x, layout, len(w_ih))
    biases = [None] * len(w_ih) if bias is None else list(bias)
    return torch.stack(
        [torch.nn.functional.linear(rows, w, b) for rows, w, b in zip(inputs, w_ih, biases, strict=True)]
    )


def batch_norm(
    z: Tensor, gamma: Tensor, beta: Tensor, eps: float, population: Statistics | None
) -> tuple[Tensor, Statistics]:
    """Eqs. 1-4 over the rows of ``z``, ``[..., M, G]``; the statistics, ``[..., G]``, are returned."""
    mean, variance = (z.mean(-2), z.var(-2, correction=0)) if population is None else population
    normalized = (z - mean.unsqueeze(-2)) / torch.sqrt(variance.unsqueeze(-2) + eps)
    return gamma.unsqueeze(-2) * normalized + beta.unsqueeze(-2), (mean, variance)


def row_moments(z: Tensor, sync: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and biased variance over rows of ``z`` ``[..., N, G]``, ``sync`` of all ranks, and their count."""
    count = joint_sum(z.new_full((1,), z.shape[-2]), sync)
    mean = joint_sum(z.sum(-2), sync) / count
    return mean, joint_sum((z - mean.unsqueeze(-2)).square().sum(-2), sync) / count, count


def normalize_frames(
    z: Tensor, gamma: Tensor, beta: Tensor, layout: PackedLayout, eps: float, sync: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Eq. 19; arguments and results as in ``normalization.normalize_frames``."""
    steps = layout.steps_of_rows
    zeros = z.new_zeros(longest_of_ranks(layout.num_steps, z.device, sync), z.shape[1])
    count = joint_sum(zeros[:, :1].index_add(0, steps, z.new_ones(len(z), 1)), sync)
    mean = joint_sum(zeros.index_add(0, steps, z), sync) / count
    centred = z - mean[steps]
    variance = joint_sum(zeros.index_add(0, steps, centred.square()), sync) / count
    result = gamma * centred / torch.sqrt(variance[steps] + eps) + beta
    return result, mean.detach(), variance.detach(), count.squeeze(1)


def lstm_recurrence(
    z: Tensor,
    w_hh: Tensor,
    peephole: Tensor | None,
    h_0: Tensor,
    c_0: Tensor,
    layout: PackedLayout,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    options: StepNormOptions | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
    """Eqs. 12-16 from the input projections ``z``; arguments and results as in ``lstm_function``."""

    def cell(
        z_t: Tensor, state: tuple[Tensor, ...], normalize: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, ...]:
        h, c = state
        i, f, g, o = normalize(z_t + h @ w_hh.transpose(1, 2)).chunk(4, dim=2)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)  # (12), (13), (14)
        if peephole is not None:
            o = o + peephole[:, None] * c
        return torch.sigmoid(o) * torch.tanh(c), c  # (15), (16)

    h, (h_n, c_n), mean, variance = _run(cell, z, (h_0, c_0), layout, gamma, beta, options)
    return h, h_n, c_n, mean, variance


def rnn_recurrence(
    z: Tensor,
    w_hh: Tensor,
    h_0: Tensor,
    layout: PackedLayout,
    nonlinearity: str = "tanh",
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    options: StepNormOptions | None = None,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Eq. 7 from the input projections ``z``; arguments and results as in ``rnn_function``."""

    def cell(
        z_t: Tensor, state: tuple[Tensor, ...], normalize: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, ...]:
        a = normalize(z_t + state[0] @ w_hh.transpose(1, 2))
        return (torch.tanh(a) if nonlinearity == "tanh" else torch.relu(a),)

    h, (h_n,), mean, variance = _run(cell, z, (h_0,), layout, gamma, beta, options)
    return h, h_n, mean, variance


def _run(
    cell: Callable[..., tuple[Tensor, ...]],
    z: Tensor,
    state: tuple[Tensor, ...],
    layout: PackedLayout,
    gamma: Tensor | None,
    beta: Tensor | None,
    options: StepNormOptions | None,
) -> tuple[Tensor, tuple[Tensor, ...], Tensor | None, Tensor | None]:
    outputs: list[Tensor] = []
    statistics: list[Statistics] = []

    def normalize(a: Tensor) -> Tensor:
        if gamma is None or beta is None or options is None:
            return a
        population = None
        if options.population is not None:
            mean, variance = options.population
            population = mean[:, len(statistics)], variance[:, len(statistics)]
        normalized, of_step = batch_norm(a, gamma, beta, options.eps, population)  # (17)
        statistics.append(of_step)
        return normalized

    for z_t in z.split(layout.batch_sizes, dim=1):
        size = z_t.shape[1]
        new = cell(z_t, tuple(values[:, :size] for values in state), normalize)
        outputs.append(new[0])
        # Sequences that have ended keep their last state.
        state = tuple(
            torch.cat([values, old[:, size:]], dim=1) for values, old in zip(new, state, strict=True)
        )
    if not statistics:
        return torch.cat(outputs, dim=1), state, None, None
    mean, variance = (torch.stack(values, dim=1).detach() for values in zip(*statistics, strict=True))
    return torch.cat(outputs, dim=1), state, mean, variance
