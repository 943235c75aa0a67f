"""HMM topology (Kaldi's ``gen_topo.pl``)."""

from collections.abc import Mapping, Sequence

import kaldi_hmm_gmm as khg

NUM_SILENCE_STATES = 5
NUM_STATES = 3


def topology(silences: Sequence[int], others: Sequence[int]) -> khg.HmmTopology:
    """Make three left-to-right states a phone; for silences five, the middle ones in any order."""
    last = NUM_SILENCE_STATES - 1
    middle = 1.0 / last
    states = [_state(0, dict.fromkeys(range(last), middle))]
    states += [_state(state, dict.fromkeys(range(1, last + 1), middle)) for state in range(1, last)]
    states.append(_state(last, {last: 0.75, last + 1: 0.25}))
    speech = [_state(state, {state: 0.75, state + 1: 0.25}) for state in range(NUM_STATES)]
    made = khg.HmmTopology()
    made.read("\n".join(["<Topology>", *_entry(others, speech), *_entry(silences, states), "</Topology>"]))
    return made


def _state(state: int, transitions: Mapping[int, float]) -> str:
    arcs = " ".join(f"<Transition> {target} {probability}" for target, probability in transitions.items())
    return f"<State> {state} <PdfClass> {state} {arcs} </State>"


def _entry(phones: Sequence[int], states: Sequence[str]) -> list[str]:
    final = f"<State> {len(states)} </State>"
    numbers = " ".join(str(phone) for phone in phones)
    return ["<TopologyEntry>", f"<ForPhones> {numbers} </ForPhones>", *states, final, "</TopologyEntry>"]
