"""The HMMs of a transition model: what building a graph needs beyond transition-ids and pdfs.

Source: Kaldi ``src/hmm/transition-model.cc``; the transitions are numbered state by state, in the
topology's order.
"""

from dataclasses import dataclass
from pathlib import Path

from asr_bn.kaldi_io.model_stream import open_model
from asr_bn.kaldi_io.transition_model import read_topology_and_states


@dataclass(frozen=True)
class Transition:
    """A transition of a phone's HMM; the state after the last one is the end of the phone."""

    source: int
    target: int
    transition_id: int
    log_prob: float


@dataclass(frozen=True)
class PhoneHmms:
    """Context-independent phones' HMMs.

    Attributes:
        transitions: of each phone.
        end_states: of each phone, the state that has no pdf.
        num_transition_ids: they run from 1 to this number.
    """

    transitions: dict[int, list[Transition]]
    end_states: dict[int, int]
    num_transition_ids: int

    @classmethod
    def read(cls, path: Path) -> "PhoneHmms":
        """Read a ``final.mdl`` in which every state of a phone has one pdf.

        Raises:
            OSError: no such file.
            ValueError: not a transition model, or one whose states depend on the phone's context.
        """
        with open_model(path) as stream:
            topology, rows = read_topology_and_states(stream)
            stream.expect("<LogProbs>")
            log_probs = stream.float_vector()  # entry 0 is unused
        seen = {(phone, state) for phone, state, *_ in rows}
        if len(seen) != len(rows):
            raise ValueError(
                f"{path}: its pdfs depend on the context of a phone; make the graph with Kaldi's mkgraph.sh"
            )
        transitions: dict[int, list[Transition]] = {}
        number = 0
        for phone, state, *_ in rows:
            for target in topology[phone][state].destinations:
                number += 1
                if number >= len(log_probs):
                    raise ValueError(f"{path}: corrupt: {len(log_probs)} log probabilities")
                arc = Transition(state, target, number, float(log_probs[number]))
                transitions.setdefault(phone, []).append(arc)
        return cls(transitions, {phone: len(topology[phone]) - 1 for phone in transitions}, number)
