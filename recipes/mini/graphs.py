"""HMM topology, lexicon FST and training graphs: Kaldi's ``gen_topo.pl`` and ``make_lexicon_fst.py``."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import kaldifst

from recipes.mini.phones import SILENCE

SILENCE_PROBABILITY = 0.5
NUM_SILENCE_STATES = 5
NUM_STATES = 3


def topology_text(silence: int, others: Sequence[int]) -> str:
    """Return three left-to-right states a phone; for silence five, the middle ones in any order."""
    last = NUM_SILENCE_STATES - 1
    middle = 1.0 / last
    states = [_state(0, dict.fromkeys(range(last), middle))]
    states += [_state(state, dict.fromkeys(range(1, last + 1), middle)) for state in range(1, last)]
    states.append(_state(last, {last: 0.75, last + 1: 0.25}))
    return "\n".join(
        [
            "<Topology>",
            *_entry(others, [_state(state, {state: 0.75, state + 1: 0.25}) for state in range(NUM_STATES)]),
            *_entry([silence], states),
            "</Topology>",
        ]
    )


def _state(state: int, transitions: Mapping[int, float]) -> str:
    arcs = " ".join(f"<Transition> {target} {probability}" for target, probability in transitions.items())
    return f"<State> {state} <PdfClass> {state} {arcs} </State>"


def _entry(phones: Sequence[int], states: Sequence[str]) -> list[str]:
    final = f"<State> {len(states)} </State>"
    numbers = " ".join(str(phone) for phone in phones)
    return ["<TopologyEntry>", f"<ForPhones> {numbers} </ForPhones>", *states, final, "</TopologyEntry>"]


@dataclass(frozen=True)
class Language:
    """What the training graphs are made from, besides a transcript: the lexicon and the symbols' numbers."""

    lexicon: Sequence[tuple[str, float, tuple[str, ...]]]
    phone_ids: Mapping[str, int]
    word_ids: Mapping[str, int]

    @property
    def silence(self) -> int:
        """The number of the silence phone."""
        return self.phone_ids[SILENCE]


def lexicon_fst(language: Language) -> kaldifst.StdVectorFst:
    """Build the lexicon with optional silence before, between and after words (``make_lexicon_fst.py``)."""
    fst = kaldifst.StdVectorFst()
    start, loop, silence = fst.add_state(), fst.add_state(), fst.add_state()
    fst.start = start
    fst.set_final(state=loop, weight=0.0)
    with_silence = -math.log(SILENCE_PROBABILITY)
    without_silence = -math.log(1.0 - SILENCE_PROBABILITY)

    def add_arc(state: int, phone: int, word: int, weight: float, target: int) -> None:
        arc = kaldifst.StdArc(ilabel=phone, olabel=word, weight=weight, nextstate=target)
        fst.add_arc(state=state, arc=arc)

    add_arc(start, 0, 0, without_silence, loop)
    add_arc(start, 0, 0, with_silence, silence)
    add_arc(silence, language.silence, 0, 0.0, loop)
    for word, probability, phones in language.lexicon:
        labels = [language.phone_ids[phone] for phone in phones]
        state, olabel, weight = loop, language.word_ids[word], -math.log(probability)
        for label in labels[:-1]:
            target = fst.add_state()
            add_arc(state, label, olabel, weight, target)
            state, olabel, weight = target, 0, 0.0
        add_arc(state, labels[-1], olabel, weight + without_silence, loop)
        add_arc(state, labels[-1], olabel, weight + with_silence, silence)
    kaldifst.arcsort(fst, sort_type="olabel")
    return fst
