"""Goodness of pronunciation (GOP): how well the network takes each phone for itself, and for any other.

Source: Witt and Young 2000, "Phone-level pronunciation scoring and assessment"; Hu et al. 2015 for networks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asr_bn.decoding.alignment.phone_classes import PhoneClasses
from asr_bn.decoding.alignment.result import AlignedPhone
from asr_bn.system.arrays import Doubles, Floats

# Below float32's smallest probability; a posterior of 0 then has a finite logarithm.
_SMALLEST = np.float32(1e-30)


@dataclass(frozen=True)
class SegmentScores:
    """Of consecutive segments, phone by phone: averages over their frames, float64 ``[num_segments, ...]``.

    Attributes:
        posteriors: of the aligned phone's class.
        log_posteriors: of each class, ``[num_segments, num_classes]``.
        speech: share of frames whose best class is not silence, over the utterance.
    """

    posteriors: Doubles
    log_posteriors: Doubles
    speech: float

    def best(self, segment: int) -> int:
        """Return the class with the highest mean log posterior."""
        return int(self.log_posteriors[segment].argmax())

    def goodness(self, segment: int, of_class: int) -> float:
        """Return the goodness of pronunciation: mean log posterior of ``of_class`` less that of the best."""
        own, best = self.log_posteriors[segment, [of_class, self.best(segment)]].tolist()
        return float(own - best)


def score_segments(
    log_posteriors: Floats,
    phone_classes: PhoneClasses,
    starts: NDArray[np.int64],
    classes: NDArray[np.int64],
    silence: int,
    block_frames: int = 4096,
) -> SegmentScores:
    """Average over segments, a block of frames in memory at a time.

    Args:
        log_posteriors: ``[num_frames, num_pdfs]``.
        starts: first frame of each segment, from 0.
        classes: of each segment.
        silence: its class.
    """
    num_frames, num_segments = len(log_posteriors), len(starts)
    lengths = np.diff(starts, append=num_frames)
    segments = np.repeat(np.arange(num_segments), lengths)
    own = np.zeros(num_segments)
    logs = np.zeros((num_segments, len(phone_classes.names)))
    num_speech = 0
    for first in range(0, num_frames, block_frames):
        posteriors = phone_classes.posteriors(log_posteriors[first : first + block_frames])
        here = segments[first : first + len(posteriors)]
        at = np.flatnonzero(np.diff(here, prepend=-1))
        mine = posteriors[np.arange(len(here)), classes[here]]
        own[here[at]] += np.add.reduceat(mine, at, dtype=np.float64)
        log_sums = np.log(np.maximum(posteriors, _SMALLEST))
        logs[here[at]] += np.add.reduceat(log_sums, at, axis=0, dtype=np.float64)
        num_speech += int((posteriors.argmax(1) != silence).sum())
    return SegmentScores(own / lengths, logs / lengths[:, None], num_speech / num_frames)


@dataclass(frozen=True)
class PhoneScorer:
    """Describes the phones of a path, and how well the posteriors fit them.

    Attributes:
        classes: whose posteriors are the confidences.
        names: of phones, by number.
        silence: number of the phone between words; None: every frame counts as speech.
    """

    classes: PhoneClasses
    names: Mapping[int, str]
    silence: int | None

    def phones(
        self,
        starts: NDArray[np.int64],
        numbers: Sequence[int],
        words: Sequence[int],
        log_posteriors: Floats,
    ) -> tuple[list[AlignedPhone], float]:
        """Describe consecutive phones; also return the share of frames that are speech for the network.

        Args:
            starts: first frame of each, from 0.
            numbers, words: of each its number, and the place of its word.
            log_posteriors: ``[num_frames, num_pdfs]``.
        """
        of_phone, class_names = self.classes.of_phone, self.classes.names
        classes = np.array([of_phone[number] for number in numbers])
        silence = -1 if self.silence is None else of_phone[self.silence]
        scores = score_segments(log_posteriors, self.classes, starts, classes, silence)
        ends = [*starts[1:].tolist(), len(log_posteriors)]
        phones = []
        for k, (number, word) in enumerate(zip(numbers, words, strict=True)):
            phones.append(
                AlignedPhone(
                    self.names[number],
                    class_names[classes[k]],
                    word,
                    int(starts[k]),
                    ends[k],
                    float(scores.posteriors[k]),
                    float(scores.log_posteriors[k, classes[k]]),
                    scores.goodness(k, classes[k]),
                    class_names[scores.best(k)],
                )
            )
        return phones, scores.speech
