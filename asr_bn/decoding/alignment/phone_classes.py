"""Posteriors of phones from those of pdfs, whatever a phone's place in its word."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asr_bn.data.kaldi_system import KaldiSystem
from asr_bn.system.arrays import Floats

# Below float32's smallest probability; a posterior of 0 then has a finite logarithm.
_SMALLEST = np.float32(1e-30)


@dataclass(frozen=True)
class PhoneClasses:
    """Phones without their places in the word: ``AH_B`` and ``AH_I`` are the class ``AH``.

    Attributes:
        names: of the classes.
        of_phone: class of each phone number that the model has.
        shares: float32 ``[num_pdfs, num_classes]``: which share of a pdf's posterior a class gets.
    """

    names: tuple[str, ...]
    of_phone: dict[int, int]
    shares: Floats

    @classmethod
    def of(cls, system: KaldiSystem) -> "PhoneClasses":
        """Find the classes of a system's phones; pdfs are shared as its training alignments have them."""
        table = system.phones
        classes = table.folded()
        shares = np.zeros((table.num_pdfs, len(classes.names)), dtype=np.float32)
        shares[classes.pdf_ids, classes.phones] = classes.shares
        numbers = np.unique(system.transition_model().tid_to_phone[1:]).tolist()
        places = {name: place for place, name in enumerate(classes.names)}
        of_phone = {
            number: places[name if name in places else name[:-2]]
            for number, name in zip(numbers, table.names, strict=True)
        }
        return cls(classes.names, of_phone, shares)

    def posteriors(self, log_posteriors: Floats) -> Floats:
        """Sum pdfs' posteriors to those of classes, ``[num_frames, num_classes]``."""
        sums: Floats = np.exp(log_posteriors) @ self.shares
        return sums


@dataclass(frozen=True)
class SegmentScores:
    """Of consecutive segments, phone by phone: averages over their frames, float64 ``[num_segments, ...]``.

    Attributes:
        posteriors: of the aligned phone's class.
        log_posteriors: of each class, ``[num_segments, num_classes]``.
        speech: share of frames whose best class is not silence, over the utterance.
    """

    posteriors: NDArray[np.float64]
    log_posteriors: NDArray[np.float64]
    speech: float


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
