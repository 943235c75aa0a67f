"""The row order of a packed batch, and the index arrays that a recurrence needs."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, groupby

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence


@dataclass(frozen=True)
class PackedLayout:
    """Where the frame ``t`` of the sequence ``b`` lies among the rows of a packed batch.

    Rows are ordered by time, then by sequence, sequences from the longest to the shortest (the order of
    ``torch.nn.utils.rnn.PackedSequence.data``); there is no padding.

    Args:
        batch_sizes: sequences that have a frame at each time step, never increasing.
        device: where the index arrays are needed.
    """

    batch_sizes: list[int]
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @cached_property
    def num_rows(self) -> int:
        """Frames in the batch."""
        return sum(self.batch_sizes)

    @property
    def batch_size(self) -> int:
        """Sequences in the batch."""
        return self.batch_sizes[0] if self.batch_sizes else 0

    @cached_property
    def offsets(self) -> list[int]:
        """First row of every time step."""
        return [0, *accumulate(self.batch_sizes)][: self.num_steps]

    @cached_property
    def _time_and_sequence(self) -> tuple[Tensor, Tensor]:
        sizes = torch.tensor(self.batch_sizes)
        time = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
        return time, torch.arange(len(time)) - self._offsets_tensor[time]

    @cached_property
    def _offsets_tensor(self) -> Tensor:
        return torch.tensor(self.offsets)

    @cached_property
    def lengths(self) -> Tensor:
        """Frames of every sequence, shape ``[batch_size]``, on the CPU."""
        sizes = torch.tensor(self.batch_sizes)
        return (sizes[None, :] > torch.arange(self.batch_size)[:, None]).sum(1)

    @cached_property
    def last_rows(self) -> Tensor:
        """Row of the last frame of every sequence, shape ``[batch_size]``."""
        rows = self._offsets_tensor[self.lengths - 1] + torch.arange(self.batch_size)
        return rows.to(self.device)

    @cached_property
    def previous_rows(self) -> Tensor:
        """For every row after the first time step, the row of the frame before it."""
        time, sequence = self._time_and_sequence
        later = slice(self.batch_size, None)
        return (self._offsets_tensor[time[later] - 1] + sequence[later]).to(self.device)

    @cached_property
    def reversed_rows(self) -> Tensor:
        """The permutation that reverses every sequence in time (its own inverse)."""
        time, sequence = self._time_and_sequence
        return (self._offsets_tensor[self.lengths[sequence] - 1 - time] + sequence).to(self.device)

    @property
    def num_steps(self) -> int:
        """Frames of the longest sequence."""
        return len(self.batch_sizes)

    @cached_property
    def steps_of_rows(self) -> Tensor:
        """Time step of every row, shape ``[N]``."""
        return self._time_and_sequence[0].to(self.device)

    @cached_property
    def _runs(self) -> list[tuple[slice, slice]]:
        """Rows and steps of the stretches of time steps that have equally many sequences."""
        runs: list[tuple[slice, slice]] = []
        step = 0
        for size, group in groupby(self.batch_sizes):
            steps = len(list(group))
            first = runs[-1][0].stop if runs else 0
            runs.append((slice(first, first + steps * size), slice(step, step + steps)))
            step += steps
        return runs

    def dense_runs(self, rows: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
        """Cut ``rows`` ``[N, G]`` into stretches of steps with equally many sequences.

        Yields the rows and the steps of each stretch, and a view of it, ``[steps, sequences, G]``.
        """
        for which_rows, steps in self._runs:
            yield which_rows, steps, self.as_run(rows, which_rows, steps)

    def as_run(self, rows: Tensor, which_rows: slice, steps: slice) -> Tensor:
        """The view of a stretch that :meth:`dense_runs` names."""
        return rows[which_rows].view(steps.stop - steps.start, -1, rows.shape[1])

    def blocks(self, rows: int) -> list[range]:
        """Consecutive time steps in blocks of at least ``rows`` rows (the last may have fewer)."""
        ranges, start, filled = [], 0, 0
        for step, size in enumerate(self.batch_sizes):
            filled += size
            if filled >= rows:
                ranges.append(range(start, step + 1))
                start, filled = step + 1, 0
        if start < len(self.batch_sizes):
            ranges.append(range(start, len(self.batch_sizes)))
        return ranges


def pack(input: Tensor, lengths: Tensor | None, batch_first: bool) -> PackedSequence:
    """Pack a padded batch; absent ``lengths``, every sequence is full.

    Raises:
        ValueError: not three dimensions, or lengths that do not fit.
    """
    if input.dim() != 3:
        raise ValueError(f"the input has {input.dim()} dimensions, expected 2 or 3")
    frames, batch = input.shape[1 if batch_first else 0], input.shape[0 if batch_first else 1]
    if lengths is None:
        lengths = torch.full((batch,), frames)
    if len(lengths) != batch or int(lengths.min()) < 1 or int(lengths.max()) > frames:
        raise ValueError(f"lengths are {lengths.tolist()}, expected {batch} numbers from 1 to {frames}")
    return pack_padded_sequence(input, lengths.cpu(), batch_first, enforce_sorted=False)
