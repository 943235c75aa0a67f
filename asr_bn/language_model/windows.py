"""A text as parallel streams, cut into the windows that are backpropagated through."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Window:
    """A few consecutive tokens of every stream, as rows ordered by time, then by stream.

    Attributes:
        tokens: what the model reads, shape ``[N]``.
        targets: what it is to predict, the token after each, shape ``[N]``.
        batch_sizes: streams that have a token at each time step, shape ``[T]``, on the CPU.
    """

    tokens: Tensor
    targets: Tensor
    batch_sizes: Tensor

    def to(self, device: torch.device) -> "Window":
        """The same with its tokens on ``device``."""
        return Window(self.tokens.to(device), self.targets.to(device), self.batch_sizes)


class TextWindows:
    """All of a text in windows, every token predicted once and none dropped.

    The text is cut into ``batch_size`` streams of equal length, the first ones one token longer where the
    division has a rest.  A token is predicted from the one before it, the first of the text from the end
    of a sentence (number 0); so a stream starts with the last token of the stream before it.  The last
    window is as short as what is left.

    Args:
        text: the tokens, shape ``[num_tokens]``.
        batch_size: streams.
        num_steps: time steps of a window.
        name: of the text, for the message.

    Raises:
        ValueError: the text has fewer tokens than there are streams.
    """

    def __init__(self, text: NDArray[np.int64], batch_size: int, num_steps: int, name: str) -> None:
        if len(text) < batch_size:
            raise ValueError(
                f"{name}: has {len(text)} tokens, expected at least one for each of {batch_size} streams"
            )
        self.num_steps, self.num_tokens = num_steps, len(text)
        self._targets = _streams(text, batch_size)
        self._tokens = _streams(np.concatenate([[0], text[:-1]]), batch_size)
        longest = -(-len(text) // batch_size)
        # Streams that have a token at the very last time step; all have one at those before it.
        self._at_the_end = len(text) - (longest - 1) * batch_size

    def __len__(self) -> int:
        return -(-len(self._tokens) // self.num_steps)

    def windows(self, first: int = 0) -> Iterator[Window]:
        """The windows from number ``first`` on."""
        for window in range(first, len(self)):
            steps = slice(window * self.num_steps, (window + 1) * self.num_steps)
            tokens, targets = self._tokens[steps], self._targets[steps]
            sizes = torch.full((len(tokens),), tokens.shape[1])
            if window == len(self) - 1:
                sizes[-1] = self._at_the_end
            rows = int(sizes.sum())
            yield Window(tokens.reshape(-1)[:rows], targets.reshape(-1)[:rows], sizes)


def _streams(text: NDArray[np.int64], batch_size: int) -> Tensor:
    """Shape ``[steps, batch_size]``, the last row filled up with zeros."""
    parts = np.array_split(text, batch_size)  # the first ones are the longer ones
    columns = np.zeros((batch_size, len(parts[0])), dtype=np.int64)
    for column, part in zip(columns, parts, strict=True):
        column[: len(part)] = part
    return torch.from_numpy(columns.T.copy())
