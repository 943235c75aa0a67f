"""Cross entropy (nats a token) and perplexity of a language model."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from asr_bn.language_model.model import LanguageModel
from asr_bn.language_model.windows import Window
from asr_bn.layers.module_modes import evaluating
from asr_bn.training.progress import Figures, Sums


@dataclass(frozen=True)
class TokenSums(Sums):
    """Sums over tokens."""

    tokens: int = 0

    @property
    def count(self) -> int:
        """Tokens."""
        return self.tokens

    @property
    def nats(self) -> float:
        """Cross entropy a token."""
        return self.cross_entropy / self.tokens

    @property
    def perplexity(self) -> float:
        """``exp(nats)``."""
        return math.exp(min(self.nats, 700.0))

    @classmethod
    def of(cls, logits: Tensor, targets: Tensor) -> Self:
        """Count logits ``[N, num_words]`` against ``[N]``."""
        cross_entropy = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
        return cls(cross_entropy.item(), len(targets))

    def figures(self, name: str) -> Figures:
        """Return cross entropy and perplexity of the set ``name``."""
        return {f"{name}_nats": self.nats, f"{name}_perplexity": self.perplexity}


@torch.no_grad()
def evaluate(model: LanguageModel, windows: Iterable[Window], carry_state: bool) -> TokenSums:
    """Sum the cross entropy of a model in evaluation mode, with its population statistics.

    Args:
        carry_state: from window to window; otherwise every window starts from zero states.
    """
    sums, state = TokenSums(), None
    with evaluating(model):
        for window in windows:
            window = window.to(model.device)
            logits, state = model(window.tokens, window.batch_sizes, state if carry_state else None)
            sums += TokenSums.of(logits, window.targets)
    return sums
