"""A text as parallel streams, cut into the windows that are backpropagated through."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from asr_bn.language_model.streams import Streams, Tokens


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
        """Return the window with its tokens on ``device``."""
        return Window(self.tokens.to(device), self.targets.to(device), self.batch_sizes)


class TextWindows:
    """All of a text in windows of consecutive time steps of its streams (see :class:`Streams`).

    The last window is as short as what is left.

    Args:
        text: the tokens, shape ``[num_tokens]``.
        batch_size: streams.
        num_steps: time steps of a window.
        name: of the text, for the message.

    Raises:
        ValueError: the text has fewer tokens than there are streams.
    """

    def __init__(self, text: Tokens, batch_size: int, num_steps: int, name: str) -> None:
        streams = Streams.of(text, batch_size, name)
        self.num_steps, self.num_tokens = num_steps, streams.num_tokens
        self._tokens, self._targets = torch.from_numpy(streams.tokens), torch.from_numpy(streams.targets)
        self._at_the_end = streams.num_at_the_end

    def __len__(self) -> int:
        return -(-len(self._tokens) // self.num_steps)

    def windows(self, first: int = 0) -> Iterator[Window]:
        """Yield the windows from number ``first`` on."""
        for window in range(first, len(self)):
            steps = slice(window * self.num_steps, (window + 1) * self.num_steps)
            tokens, targets = self._tokens[steps], self._targets[steps]
            sizes = torch.full((len(tokens),), tokens.shape[1])
            if window == len(self) - 1:
                sizes[-1] = self._at_the_end
            rows = int(sizes.sum())
            yield Window(tokens.reshape(-1)[:rows], targets.reshape(-1)[:rows], sizes)
