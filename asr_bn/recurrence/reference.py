"""The recurrences as the paper writes them: slow, any dtype, differentiated by autograd.

What the other backends are tested against.  Cutting the packed rows with ``split`` keeps autograd linear in
the length.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from asr_bn.recurrence.packing import PackedLayout
from asr_bn.recurrence.step_norm import StepNormOptions

Statistics = tuple[Tensor, Tensor]


def batch_norm(
    z: Tensor, gamma: Tensor, beta: Tensor, eps: float, population: Statistics | None
) -> tuple[Tensor, Statistics]:
    """Eqs. 1-4 over the rows of ``z``, ``[..., M, G]``; the statistics, ``[..., G]``, are returned."""
    mean, variance = (z.mean(-2), z.var(-2, correction=0)) if population is None else population
    normalized = (z - mean.unsqueeze(-2)) / torch.sqrt(variance.unsqueeze(-2) + eps)
    return gamma.unsqueeze(-2) * normalized + beta.unsqueeze(-2), (mean, variance)


def normalize_frames(
    z: Tensor, gamma: Tensor, beta: Tensor, layout: PackedLayout, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Eq. 19, step by step; arguments and results as in ``normalization.normalize_frames``."""
    steps = [batch_norm(z_t, gamma, beta, eps, None) for z_t in z.split(layout.batch_sizes)]
    mean, variance = (torch.stack(values).detach() for values in zip(*(s for _, s in steps), strict=True))
    return torch.cat([rows for rows, _ in steps]), mean, variance, torch.tensor(layout.batch_sizes)


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
