"""Costs of hypotheses by an exported language model, as n-best rescoring asks for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr_bn.language_model.scoring import LanguageScorer
from asr_bn.language_model.text import SPACE


@dataclass(frozen=True)
class SentenceCosts:
    """Scores sentences, each alone from zero states."""

    scorer: LanguageScorer
    path: Path

    @classmethod
    def load(cls, path: Path) -> "SentenceCosts":
        """Load a model; raises as `LanguageScorer.load`."""
        return cls(LanguageScorer.load(path), path)

    def __call__(self, sentences: Sequence[Sequence[str]]) -> list[float]:
        """Return negated log probabilities (natural), the end of each sentence included.

        Raises:
            ValueError: a word that the model does not know, if it has no ``<unk>``.
        """
        metadata = self.scorer.metadata
        lines = sentences if metadata.unit == "word" else [SPACE.join(words) for words in sentences]
        tokens = [metadata.vocabulary.encode(words, f"{self.path}") for words in lines]
        return [-float(values.sum(dtype=np.float64)) for values in self.scorer.score_sentences(tokens)]
