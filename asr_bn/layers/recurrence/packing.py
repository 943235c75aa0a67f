"""The row order of a packed batch, and the index arrays that a recurrence needs.

What is made on the CPU names it: ``torch.set_default_device`` may have chosen another device.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, groupby

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from asr_bn.layers.recurrence.second_order import transforms_active

Lengths = Tensor | NDArray[np.integer] | Sequence[int]


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
        sizes = torch.tensor(self.batch_sizes, dtype=torch.long, device="cpu")
        time = torch.repeat_interleave(torch.arange(len(sizes), device="cpu"), sizes)
        return time, torch.arange(len(time), device="cpu") - self._offsets_tensor[time]

    @cached_property
    def _offsets_tensor(self) -> Tensor:
        return torch.tensor(self.offsets, dtype=torch.long, device="cpu")

    @cached_property
    def lengths(self) -> Tensor:
        """Frames of every sequence, shape ``[batch_size]``, on the CPU."""
        sizes = torch.tensor(self.batch_sizes, device="cpu")
        return (sizes[None, :] > torch.arange(self.batch_size, device="cpu")[:, None]).sum(1)

    @cached_property
    def last_rows(self) -> Tensor:
        """Row of the last frame of every sequence, shape ``[batch_size]``."""
        rows = self._offsets_tensor[self.lengths - 1] + torch.arange(self.batch_size, device="cpu")
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
        """Return the view of a stretch that :meth:`dense_runs` names, ``[steps, sequences, G]``."""
        return rows[which_rows].view(steps.stop - steps.start, -1, rows.shape[1])

    def blocks(self, rows: int) -> list[range]:
        """Cut the time steps into blocks of at least ``rows`` rows (the last may have fewer)."""
        ranges, start, filled = [], 0, 0
        for step, size in enumerate(self.batch_sizes):
            filled += size
            if filled >= rows:
                ranges.append(range(start, step + 1))
                start, filled = step + 1, 0
        if start < len(self.batch_sizes):
            ranges.append(range(start, len(self.batch_sizes)))
        return ranges


def known_lengths(lengths: Lengths | None, batch: int, frames: int) -> Tensor:
    """Check the frames of every sequence and return them as int64 ``[batch]`` on the CPU; None: all full.

    Raises:
        ValueError: not ``batch`` whole numbers from 1 to ``frames``.
    """
    expected = f"expected {batch} numbers from 1 to {frames}"
    if batch and not frames:
        raise ValueError("the input has no frames")
    if lengths is None:
        return torch.full((batch,), frames, device="cpu")
    try:
        # As a list: PyTorch takes no array that runs backwards, is of another byte order, or holds objects.
        listed = lengths.tolist() if isinstance(lengths, np.ndarray) else lengths
        values = torch.as_tensor(listed, device="cpu")
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"lengths are {lengths!r}, {expected}") from error
    if values.shape != (batch,):
        raise ValueError(f"lengths have shape {tuple(values.shape)}, {expected}")
    if batch and (values.dtype == torch.bool or values.is_floating_point() or values.is_complex()):
        raise ValueError(f"lengths are of {values.dtype}, {expected}, whole ones")
    values = values.to(torch.int64)
    if batch and (int(values.min()) < 1 or int(values.max()) > frames):
        raise ValueError(f"lengths are {values.tolist()}, {expected}")
    return values


def pack(input: Tensor, lengths: Tensor, batch_first: bool) -> PackedSequence:
    """Pack a padded batch ``[frames, batch, features]``, ``batch_first`` ``[batch, frames, features]``."""
    if not transforms_active():
        return pack_padded_sequence(input, lengths, batch_first, enforce_sorted=False)
    positions = _positions(input, lengths, batch_first)
    return positions._replace(data=input.flatten(0, 1)[positions.data])


def unpack(packed: PackedSequence, like: Tensor, lengths: Tensor, batch_first: bool) -> Tensor:
    """Undo :func:`pack` of ``like``, for rows of any width: zeros in the padding."""
    if not transforms_active():
        frames = like.shape[1 if batch_first else 0]
        return pad_packed_sequence(packed, batch_first, total_length=frames)[0]
    rows, positions = packed.data, _positions(like, lengths, batch_first).data
    padded: Tensor = rows.new_zeros(like.shape[0] * like.shape[1], rows.shape[1]).index_copy(
        0, positions, rows
    )
    return padded.view(*like.shape[:2], -1)


def _positions(input: Tensor, lengths: Tensor, batch_first: bool) -> PackedSequence:
    """Where the packed rows are among the frames of a padded batch: ``torch.func`` cannot pack these."""
    frames = torch.arange(input.shape[0] * input.shape[1], device="cpu").view(input.shape[:2])
    return pack_padded_sequence(frames.to(input.device), lengths, batch_first, enforce_sorted=False)
