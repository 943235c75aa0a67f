"""How well confidences are probabilities, and the scale of posteriors that makes them so."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asr_bn.system.arrays import Doubles

# Posteriors' scales that are tried: most lattices are too sure of themselves, or, pruned, not sure enough.
POSTERIOR_SCALES = (0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0)
_NUM_BINS = 10
# A confidence of 0 or 1 that is wrong costs this much less than infinitely.
_LEAST = 1e-3


@dataclass(frozen=True)
class Calibration:
    """Confidences of words, and which words are right."""

    confidences: Doubles
    is_right: NDArray[np.bool_]

    @classmethod
    def of(cls, confidences: Sequence[float], is_right: Sequence[bool]) -> "Calibration":
        """Take lists of the same length."""
        return cls(np.array(confidences, dtype=np.float64), np.array(is_right, dtype=bool))

    def cross_entropy(self) -> float:
        """Return the average negated log probability of what each word is, in nats."""
        likely = np.where(self.is_right, self.confidences, 1 - self.confidences)
        return float(-np.log(np.maximum(likely, _LEAST)).mean())

    def expected_error(self) -> float:
        """Return the expected calibration error: in ten bins, confidence against the share that is right."""
        bins = np.minimum((self.confidences * _NUM_BINS).astype(int), _NUM_BINS - 1)
        totals = (
            abs(self.confidences[bins == k].sum() - self.is_right[bins == k].sum()) for k in range(_NUM_BINS)
        )
        return float(sum(totals) / len(bins))

    def area_under_curve(self) -> float | None:
        """Return the probability that a right word has a higher confidence than a wrong one.

        None where all words are right, or all wrong.
        """
        right, wrong = self.confidences[self.is_right], self.confidences[~self.is_right]
        if not len(right) or not len(wrong):
            return None
        below = np.searchsorted(np.sort(wrong), right, side="left")
        not_above = np.searchsorted(np.sort(wrong), right, side="right")
        return float((below + not_above).sum() / (2 * len(right) * len(wrong)))

    def describe(self) -> dict[str, object]:
        """Sum up, for ``decode.json``."""
        return {
            "num_words": len(self.is_right),
            "area_under_curve": self.area_under_curve(),
            "expected_calibration_error": self.expected_error(),
        }


def choose_scale(calibration_with: Callable[[float], Calibration]) -> float:
    """Choose the scale of posteriors whose confidences have the lowest cross entropy; 1 without words.

    From 1 it goes up or down as long as that is better.
    """
    known: dict[int, float] = {}

    def entropy(place: int) -> float:
        if not 0 <= place < len(POSTERIOR_SCALES):
            return math.inf
        if place not in known:
            found = calibration_with(POSTERIOR_SCALES[place])
            known[place] = found.cross_entropy() if len(found.is_right) else 0.0
        return known[place]

    place = POSTERIOR_SCALES.index(1.0)
    for step in (1, -1):
        while entropy(place + step) < entropy(place):
            place += step
    return POSTERIOR_SCALES[place]


def right_words(reference: Sequence[str], hypothesis: Sequence[str]) -> list[bool]:
    """Tell which words of a hypothesis are right, by a minimum edit distance alignment."""
    import kaldialign

    gap = ""  # no word
    pairs = kaldialign.align(list(reference), list(hypothesis), gap)
    return [expected == found for expected, found in pairs if found != gap]
