"""What a transition-id means, and the phones of an alignment (Kaldi's ``SplitToPhones``)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asr_bn.decoding.hmms import Hmms
from asr_bn.system.arrays import IntVector


@dataclass(frozen=True)
class TransitionIds:
    """For each transition-id its phone, HMM state and pdf, its number among the transitions of that state,
    and whether a phone begins with it; entry 0 is unused.

    Kaldi's training graphs are reordered: a state's self-loops follow the transition that leaves it.  So a
    phone begins with the transition, other than the self-loop, that leaves its first state.
    """

    phones: IntVector
    states: IntVector
    pdfs: IntVector
    places: IntVector
    begins: NDArray[np.bool_]

    @classmethod
    def of(cls, hmms: Hmms) -> "TransitionIds":
        """Derive them from a model with a pdf for each state."""
        rows = [(0, 0, 0, 0, 0)]
        for (phone, state, pdf, _), transitions in hmms.transitions.items():
            for place, transition in enumerate(transitions):
                rows.append((phone, state, pdf, place, int(state == 0 and transition.target != 0)))
        phones, states, pdfs, places, begins = np.array(rows, dtype=np.int32).T
        return cls(phones, states, pdfs, places, begins.astype(bool))

    def split(self, transition_ids: IntVector) -> tuple[IntVector, NDArray[np.int64]]:
        """Return an utterance's phones, and the frame where each begins."""
        starts = np.flatnonzero(self.begins[transition_ids])
        phones: IntVector = self.phones[transition_ids[starts]]
        return phones, starts
