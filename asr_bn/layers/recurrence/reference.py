"""The recurrences as the paper writes them: slow, any dtype, differentiated by autograd.

The other backends are tested against it.  Cutting the packed rows with ``split`` keeps autograd linear in
the length.  For the shapes see ``steps``.
"""

import torch
from torch import Tensor

from asr_bn.layers.recurrence.packed_ops import by_direction
from asr_bn.layers.recurrence.packing import PackedLayout
from asr_bn.layers.recurrence.step_norm import StepNormSpec
from asr_bn.layers.recurrence.steps import Kind, RecurrentWeights, State, Statistics
from asr_bn.layers.recurrence.synchronization import joint_sum, longest_of_ranks


def project_autograd(x: Tensor, w_ih: Tensor, bias: Tensor | None, layout: PackedLayout) -> Tensor:
    """Return ``W x + b`` of each direction, ``[D, N, G]``, with gradients by autograd."""
    inputs = by_direction(x, layout, len(w_ih))
    biases = [None] * len(w_ih) if bias is None else list(bias)
    return torch.stack(
        [torch.nn.functional.linear(rows, w, b) for rows, w, b in zip(inputs, w_ih, biases, strict=True)]
    )


def batch_norm(
    z: Tensor, gamma: Tensor, beta: Tensor, eps: float, population: Statistics | None
) -> tuple[Tensor, Statistics]:
    """Normalize the rows of ``z`` ``[..., M, G]`` (eqs. 1-4); also return the statistics ``[..., G]``."""
    mean, variance = (z.mean(-2), z.var(-2, correction=0)) if population is None else population
    normalized = (z - mean.unsqueeze(-2)) / torch.sqrt(variance.unsqueeze(-2) + eps)
    return gamma.unsqueeze(-2) * normalized + beta.unsqueeze(-2), (mean, variance)


def row_moments(z: Tensor, sync: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean and biased variance over rows of ``z`` ``[..., N, G]``, and their count.

    Args:
        sync: over the rows of all ranks.
    """
    count = joint_sum(z.new_full((1,), z.shape[-2]), sync)
    mean = joint_sum(z.sum(-2), sync) / count
    return mean, joint_sum((z - mean.unsqueeze(-2)).square().sum(-2), sync) / count, count


def normalize_frames(
    z: Tensor, gamma: Tensor, beta: Tensor, layout: PackedLayout, eps: float, sync: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Normalize each time step (eq. 19); arguments and results as in ``frame_norm.normalize_frames``."""
    steps = layout.steps_of_rows
    zeros = z.new_zeros(longest_of_ranks(layout.num_steps, z.device, sync), z.shape[1])
    count = joint_sum(zeros[:, :1].index_add(0, steps, z.new_ones(len(z), 1)), sync)
    mean = joint_sum(zeros.index_add(0, steps, z), sync) / count
    centred = z - mean[steps]
    variance = joint_sum(zeros.index_add(0, steps, centred.square()), sync) / count
    result = gamma * centred / torch.sqrt(variance[steps] + eps) + beta
    return result, mean.detach(), variance.detach(), count.squeeze(1)


def recurrence(
    kind: Kind,
    z: Tensor,
    weights: RecurrentWeights,
    state: State,
    layout: PackedLayout,
    norm: StepNormSpec | None = None,
) -> tuple[Tensor, State, Statistics | None]:
    """Run the equations from input projections; arguments and results as in ``packed_function``."""
    outputs: list[Tensor] = []
    statistics: list[Statistics] = []
    for step, z_t in enumerate(z.split(layout.batch_sizes, dim=1)):
        size = z_t.shape[1]
        before = tuple(values[:, :size] for values in state)
        a = z_t + before[0] @ weights.w_hh.transpose(1, 2)
        if norm is not None:
            population = None if norm.population is None else _of_step(norm.population, step)
            a, of_step = batch_norm(a, norm.gamma, norm.beta, norm.eps, population)  # (17)
            statistics.append(of_step)
        new = _lstm(a, before[1], weights.peephole) if kind == "lstm" else (_ACTIVATIONS[kind](a),)  # (7)
        outputs.append(new[0])
        # Sequences that have ended keep their last state.
        state = tuple(
            torch.cat([values, old[:, size:]], dim=1) for values, old in zip(new, state, strict=True)
        )
    if not statistics:
        return torch.cat(outputs, dim=1), state, None
    mean, variance = (torch.stack(values, dim=1).detach() for values in zip(*statistics, strict=True))
    return torch.cat(outputs, dim=1), state, (mean, variance)


_ACTIVATIONS = {"tanh": torch.tanh, "relu": torch.relu}


def _of_step(population: Statistics, step: int) -> Statistics:
    return population[0][:, step], population[1][:, step]


def _lstm(a: Tensor, c: Tensor, peephole: Tensor | None) -> State:
    i, f, g, o = a.chunk(4, dim=2)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)  # (12), (13), (14)
    if peephole is not None:
        o = o + peephole[:, None] * c
    return torch.sigmoid(o) * torch.tanh(c), c  # (15), (16)
