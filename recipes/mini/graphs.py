"""HMM topology, lexicon FST and training graphs: Kaldi's ``gen_topo.pl`` and ``make_lexicon_fst.py``."""

import math
from collections.abc import Mapping, Sequence

import kaldifst

SILENCE_PROBABILITY = 0.5
NUM_SILENCE_STATES = 5
NUM_STATES = 3


def topology_text(silence: int, others: Sequence[int]) -> str:
    """Three left-to-right states a phone; five for silence, the middle in any order (``gen_topo.pl``)."""
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


def lexicon_fst(
    entries: Sequence[tuple[str, float, tuple[str, ...]]],
    phone_ids: Mapping[str, int],
    word_ids: Mapping[str, int],
    silence_phone: str,
) -> kaldifst.StdVectorFst:
    """The lexicon with optional silence before, between and after words (``make_lexicon_fst.py``)."""
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
    add_arc(silence, phone_ids[silence_phone], 0, 0.0, loop)
    for word, probability, phones in entries:
        state, olabel, weight = loop, word_ids[word], -math.log(probability)
        for phone in phones[:-1]:
            target = fst.add_state()
            add_arc(state, phone_ids[phone], olabel, weight, target)
            state, olabel, weight = target, 0, 0.0
        last = phone_ids[phones[-1]]
        add_arc(state, last, olabel, weight + without_silence, loop)
        add_arc(state, last, olabel, weight + with_silence, silence)
    kaldifst.arcsort(fst, sort_type="olabel")
    return fst
