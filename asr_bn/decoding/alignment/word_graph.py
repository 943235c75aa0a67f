"""The phones that an utterance's words can have, as a graph: the lexicon's transducer along the text."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from asr_bn.decoding.alignment.lexicon import Pronunciations
from asr_bn.decoding.fst_file import ARC, FstArrays
from asr_bn.decoding.no_path import NoPath

NO_WORD = -1


@dataclass(frozen=True)
class WordGraph:
    """An acceptor of phones whose output labels number its arcs.

    Attributes:
        fst: input labels are phones (0: none); an arc with a phone has its own output label.
        words: place in the text, from 0, of the word that an output label's phone belongs to; `NO_WORD` for
            silence between words.  Entry 0 is unused.
    """

    fst: FstArrays
    words: list[int]


def word_graph(lexicon: Pronunciations, words: Sequence[int]) -> WordGraph:
    """Build the graph of ``words``, numbers of the lexicon.

    A phone belongs to the word that was begun last, but for the silence phone where it begins no word.

    Raises:
        NoPath: the lexicon's transducer has no path for these words.
    """
    silence = lexicon.phone_ids[lexicon.silence_phone]
    states = [(lexicon.fst.start, 0)]
    numbers = {states[0]: 0}
    sources: list[int] = []
    arcs: list[tuple[int, int, float, int]] = []
    places = [NO_WORD]
    for source, (state, place) in enumerate(states):  # grows as it is read
        found = lexicon.arcs(state, 0)
        if place < len(words):
            found = found + lexicon.arcs(state, words[place])
        for phone, word, cost, target in found:
            after = (target, place + (word > 0))
            number = numbers.setdefault(after, len(states))
            if number == len(states):
                states.append(after)
            label = 0
            if phone:
                label = len(places)
                places.append(place if word else NO_WORD if phone == silence else place - 1)
            sources.append(source)
            arcs.append((phone, label, cost, number))
    ends = [place == len(words) for _, place in states]
    finals = np.where(ends, lexicon.fst.finals[[state for state, _ in states]], np.float32(np.inf))
    if not np.isfinite(finals).any():
        raise NoPath(f"the lexicon has no path for its {len(words)} words")
    fst = FstArrays.from_arcs(0, finals, np.array(sources, dtype=np.int64), np.array(arcs, dtype=ARC))
    return WordGraph(fst, places)
