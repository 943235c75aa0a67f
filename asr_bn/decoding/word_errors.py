"""Word error rate, counted by ``kaldialign``, in the form of Kaldi's ``compute-wer``."""

import math
import operator
from collections.abc import Sequence
from dataclasses import astuple, dataclass


@dataclass(frozen=True)
class WordErrors:
    """Errors against ``num_words`` words of reference; add them up with ``+``.

    ``num_absent`` utterances of the reference have no hypothesis; their words are not among ``num_words``.
    """

    insertions: int = 0
    deletions: int = 0
    substitutions: int = 0
    num_words: int = 0
    num_absent: int = 0

    @property
    def total(self) -> int:
        """All errors."""
        return self.insertions + self.deletions + self.substitutions

    @property
    def wer(self) -> float:
        """Errors a word of reference, as a share (0.05 is 5 %).

        Without reference words it is infinite or, without errors either, not a number, as ``compute-wer``
        divides.
        """
        if self.num_words == 0:
            return math.inf if self.total else math.nan
        return self.total / self.num_words

    def __add__(self, other: "WordErrors") -> "WordErrors":
        return WordErrors(*map(operator.add, astuple(self), astuple(other)))

    def __str__(self) -> str:
        return (
            f"%WER {100 * self.wer:.2f} [ {self.total} / {self.num_words}, {self.insertions} ins, "
            f"{self.deletions} del, {self.substitutions} sub ]{' [PARTIAL]' if self.num_absent else ''}"
        )


def count_word_errors(reference: Sequence[str], hypothesis: Sequence[str]) -> WordErrors:
    """Count the errors of a minimum edit distance alignment."""
    import kaldialign

    counts = kaldialign.edit_distance(list(reference), list(hypothesis))
    return WordErrors(counts["ins"], counts["del"], counts["sub"], len(reference))
