"""When the words of an alignment are spoken.

Source: Kaldi ``src/lat/word-align-lattice-lexicon.cc``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asr_bn.decoding.hmms import Hmms
from asr_bn.decoding.lattices.align_lexicon import AlignLexicon, Phones
from asr_bn.system.arrays import IntVector


@dataclass(frozen=True)
class WordTimes:
    """Finds words in alignments.

    Attributes:
        lexicon: their pronunciations.
        begins: of each transition-id, whether a phone begins with it; entry 0 is unused.
        tid_to_phone: phones of transition-ids.
    """

    lexicon: AlignLexicon
    begins: NDArray[np.bool_]
    tid_to_phone: IntVector

    @classmethod
    def of(cls, lexicon: AlignLexicon, hmms: Hmms) -> "WordTimes":
        """Derive where phones begin: graphs are reordered, so that self-loops follow a state's transition.

        A phone begins with the transition, other than the self-loop, that leaves its first state.
        """
        begins = np.zeros(hmms.num_transition_ids + 1, dtype=bool)
        phones = np.zeros(hmms.num_transition_ids + 1, dtype=np.int32)
        for (phone, *_), transitions in hmms.transitions.items():
            for transition in transitions:
                phones[transition.transition_id] = phone
                begins[transition.transition_id] = transition.source == 0 != transition.target
        return cls(lexicon, begins, phones)

    def frames(self, transition_ids: IntVector, words: Sequence[int]) -> list[tuple[int, int]] | None:
        """Return first frame and end of each word; None where the phones are not those of the words.

        The phones of a last word that the end of the recording cuts off need not be all there.
        """
        starts = np.flatnonzero(self.begins[transition_ids])
        phones = tuple(self.tid_to_phone[transition_ids[starts]].tolist())
        spans = self._match(phones, words)
        if spans is None:
            return None
        edges = [*starts.tolist(), len(transition_ids)]
        return [(edges[first], edges[end]) for first, end in spans]

    def _match(self, phones: Phones, words: Sequence[int]) -> list[tuple[int, int]] | None:
        """Find a way through both, as ranges of phones: each step takes silence, or a word."""
        known: dict[tuple[int, int], tuple[int, int] | None] = {(0, 0): None}
        queue = [(0, 0)]
        for place in queue:
            for after in self._steps(phones, words, *place):
                if after not in known:
                    known[after] = place
                    queue.append(after)
        end = (len(phones), len(words))
        if end not in known:
            return None
        spans, place = [], end
        while (before := known[place]) is not None:
            if before[1] < place[1]:
                spans.append((before[0], place[0]))
            place = before
        return spans[::-1]

    def _steps(
        self, phones: Phones, words: Sequence[int], phone: int, word: int
    ) -> Iterator[tuple[int, int]]:
        for silence in self.lexicon.phones_of.get(0, ()):
            if phones[phone : phone + len(silence)] == silence:
                yield phone + len(silence), word
        if word == len(words):
            return
        for spoken in self.lexicon.phones_of.get(words[word], ()):
            found = phones[phone : phone + len(spoken)]
            is_cut = phone + len(found) == len(phones) and word + 1 == len(words)
            if found == spoken or (is_cut and found and found == spoken[: len(found)]):
                yield phone + len(found), word + 1
