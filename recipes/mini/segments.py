"""The phones of an alignment and when they are spoken (Kaldi's ``ali-to-phones``, ``SplitToPhones``)."""

from collections.abc import Mapping
from dataclasses import dataclass

import kaldi_hmm_gmm as khg
import numpy as np
from numpy.typing import NDArray

from recipes.mini.synthesize import Phone
from recipes.mini.write_mdl import TransitionModelData

FRAME_SHIFT, FRAME_LENGTH = 0.010, 0.025  # seconds, those of the MFCC


def boundary(frame: int) -> float:
    """Return the seconds between ``frame - 1`` and ``frame``, midway between the centres of their windows."""
    return frame * FRAME_SHIFT + (FRAME_LENGTH - FRAME_SHIFT) / 2


@dataclass(frozen=True)
class PhoneStarts:
    """For each transition-id, its phone and whether a phone begins with it; entry 0 is unused.

    Kaldi's training graphs are reordered: a state's self-loops follow the transition that leaves it.  So a
    phone begins with the transition, other than the self-loop, that leaves its first state.
    """

    tid_to_phone: NDArray[np.int32]
    begins: NDArray[np.bool_]

    @classmethod
    def of(cls, model: khg.TransitionModel) -> "PhoneStarts":
        """Derive them from a monophone transition model."""
        data = TransitionModelData.of(model)
        phones, begins = [0], [False]
        for phone, state, _ in data.triples:
            for target, _ in data.entries[data.entry_of_phone[phone]][state].transitions:
                phones.append(phone)
                begins.append(state == 0 and target != 0)
        return cls(np.array(phones, dtype=np.int32), np.array(begins))

    def segments(self, transition_ids: NDArray[np.int32], names: Mapping[int, str]) -> list[Phone]:
        """Return the phones of one utterance's transition-ids, with their times in seconds."""
        starts = np.flatnonzero(self.begins[transition_ids]).tolist()
        stops = [*starts[1:], len(transition_ids)]
        phones = self.tid_to_phone[transition_ids[starts]].tolist()
        return [
            Phone(names[phone], boundary(start), boundary(stop))
            for phone, start, stop in zip(phones, starts, stops, strict=True)
        ]
