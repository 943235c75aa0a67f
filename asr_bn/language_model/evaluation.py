"""Cross entropy (nats a token) and perplexity of a language model."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from asr_bn.language_model.model import LanguageModel
from asr_bn.language_model.windows import Window
from asr_bn.layers.recurrence.steps import State


@dataclass
class TokenSums:
    """Sums over tokens, from which the averages are taken last."""

    cross_entropy: float = 0.0
    tokens: int = 0

    @property
    def nats(self) -> float:
        """Cross entropy a token."""
        return self.cross_entropy / self.tokens

    @property
    def perplexity(self) -> float:
        """``exp(nats)``."""
        return math.exp(min(self.nats, 700.0))

    def add(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Count logits ``[N, num_words]`` against ``[N]``; return the summed cross entropy with its graph."""
        cross_entropy = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
        self.cross_entropy += cross_entropy.item()
        self.tokens += len(targets)
        return cross_entropy


@torch.no_grad()
def evaluate(model: LanguageModel, windows: Iterable[Window], carry_state: bool) -> TokenSums:
    """Cross entropy in evaluation mode, population statistics and all; every token of the text once.

    Args:
        carry_state: from window to window; otherwise every window starts from zero states.
    """
    was_training, sums = model.training, TokenSums()
    model.eval()
    state: State | None = None
    for window in windows:
        window = window.to(model.device)
        logits, state = model(window.tokens, window.batch_sizes, state if carry_state else None)
        sums.add(logits, window.targets)
    model.train(was_training)
    return sums
