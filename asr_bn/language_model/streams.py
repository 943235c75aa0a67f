"""A text as parallel streams: how every text is cut, in training as in scoring."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.int64]
Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True)
class Streams:
    """All of a text, every token predicted once and none dropped.

    The text is cut into streams of equal length, the first ones one token longer where the division has a
    rest.  A token is predicted from the one before it, the first of the text from the end of a sentence
    (number 0).  So a stream starts with the last token of the stream before it.

    Attributes:
        tokens: what the model reads, shape ``[num_steps, num_streams]``; a stream that is one token shorter
            ends in a 0.
        targets: what it is to predict, the token after each; the same shape.
        num_tokens: of the text.
    """

    tokens: Tokens
    targets: Tokens
    num_tokens: int

    @classmethod
    def of(cls, text: Tokens, num_streams: int, name: str) -> "Streams":
        """Cut a text, shape ``[num_tokens]``.

        Args:
            name: of the text, for the message.

        Raises:
            ValueError: the text has fewer tokens than there are streams.
        """
        if len(text) < num_streams:
            raise ValueError(
                f"{name}: has {len(text)} tokens, expected at least one for each of {num_streams} streams"
            )
        before = np.concatenate([[0], text[:-1]])
        return cls(_as_columns(before, num_streams), _as_columns(text, num_streams), len(text))

    @property
    def num_at_the_end(self) -> int:
        """Streams that have a token at the very last time step; all have one at those before it."""
        num_steps, num_streams = self.tokens.shape
        return int(self.num_tokens - (num_steps - 1) * num_streams)

    def in_text_order(self, values: NDArray[Scalar]) -> NDArray[Scalar]:
        """Order values of the targets, ``[num_steps, num_streams]``, as the text, ``[num_tokens]``."""
        longer = values[:, : self.num_at_the_end].T
        shorter = values[:-1, self.num_at_the_end :].T
        return np.concatenate([longer.reshape(-1), shorter.reshape(-1)])


def _as_columns(text: Tokens, num_streams: int) -> Tokens:
    """Shape ``[num_steps, num_streams]``, the last row filled up with zeros."""
    parts = np.array_split(text, num_streams)  # the first ones are the longer ones
    columns = np.zeros((num_streams, len(parts[0])), dtype=np.int64)
    for column, part in zip(columns, parts, strict=True):
        column[: len(part)] = part
    return columns.T.copy()
