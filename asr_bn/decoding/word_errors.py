"""Word error rate, counted by ``kaldialign``, in the form of Kaldi's ``compute-wer``."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class WordErrors:
    """Errors against ``num_words`` words of reference; add them up with ``+``."""

    insertions: int = 0
    deletions: int = 0
    substitutions: int = 0
    num_words: int = 0

    @property
    def total(self) -> int:
        """All errors."""
        return self.insertions + self.deletions + self.substitutions

    @property
    def wer(self) -> float:
        """Errors a word of reference, as a share (0.05 is 5 %); without reference words 0 or infinite."""
        if self.num_words == 0:
            return float("inf") if self.total else 0.0
        return self.total / self.num_words

    def __add__(self, other: "WordErrors") -> "WordErrors":
        return WordErrors(
            self.insertions + other.insertions,
            self.deletions + other.deletions,
            self.substitutions + other.substitutions,
            self.num_words + other.num_words,
        )

    def __str__(self) -> str:
        return (
            f"%WER {100 * self.wer:.2f} [ {self.total} / {self.num_words}, {self.insertions} ins, "
            f"{self.deletions} del, {self.substitutions} sub ]"
        )


def count_word_errors(reference: Sequence[str], hypothesis: Sequence[str]) -> WordErrors:
    """Errors of a minimum edit distance alignment."""
    import kaldialign

    counts = kaldialign.edit_distance(list(reference), list(hypothesis))
    return WordErrors(counts["ins"], counts["del"], counts["sub"], len(reference))
