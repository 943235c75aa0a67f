"""The HMMs of a transition model: what building a graph needs beyond transition-ids and pdfs.

Source: Kaldi ``src/hmm/transition-model.cc``; the transitions are numbered state by state, in the
topology's order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from asr_bn.kaldi_io.context_dependency import ContextDependency
from asr_bn.kaldi_io.model_stream import ModelStream, open_model
from asr_bn.kaldi_io.transition_model import Topology, TransitionState, read_topology_and_states


@dataclass(frozen=True)
class Transition:
    """A transition of a phone's HMM; the state after the last one is the end of the phone."""

    source: int
    target: int
    transition_id: int
    log_prob: float


@dataclass(frozen=True)
class Hmm:
    """The HMM of a phone, alone or in a context: all its transitions, and the state that has no pdf."""

    transitions: tuple[Transition, ...]
    end_state: int

    def __hash__(self) -> int:
        """Hash what tells most HMMs apart: aligning looks thousands up in a second."""
        return hash((self.transitions[:1], self.transitions[-1:], self.end_state))


@dataclass(frozen=True)
class Hmms:
    """All HMMs of a model.

    Attributes:
        path: its file, for errors.
        topology: the states of each phone.
        transitions: of each transition-state.
        num_transition_ids: they run from 1 to this number.
    """

    path: Path
    topology: Topology
    transitions: dict[TransitionState, tuple[Transition, ...]]
    num_transition_ids: int

    @classmethod
    def read(cls, path: Path) -> "Hmms":
        """Read a ``final.mdl``.

        Raises:
            OSError: no such file.
            ValueError: not a transition model, or corrupt.
        """
        with open_model(path) as stream:
            return cls.from_stream(stream)

    @classmethod
    def from_stream(cls, stream: ModelStream) -> "Hmms":
        """Read a transition model that begins here; raises as :meth:`read`."""
        path = Path(stream.where)
        topology, rows = read_topology_and_states(stream)
        stream.expect("<LogProbs>")
        log_probs = stream.float_vector()  # entry 0 is unused
        transitions: dict[TransitionState, tuple[Transition, ...]] = {}
        number = 0
        for row in rows:
            targets = topology[row[0]][row[1]].destinations
            if number + len(targets) >= len(log_probs):
                raise ValueError(f"{path}: corrupt: {len(log_probs)} log probabilities")
            transitions[row] = tuple(
                Transition(row[1], target, tid, float(log_probs[tid]))
                for tid, target in enumerate(targets, start=number + 1)
            )
            number += len(targets)
        return cls(path, topology, transitions, number)

    def phones(self) -> set[int]:
        """Collect the phones that have states."""
        return {phone for phone, *_ in self.transitions}

    def without_context(self) -> dict[int, Hmm]:
        """Return the HMM of each phone.

        Raises:
            ValueError: a phone has several, which depend on its context.
        """
        transitions: dict[int, tuple[Transition, ...]] = {}
        seen = set()
        for state, leaving in self.transitions.items():
            if state[:2] in seen:
                raise ValueError(
                    f"{self.path}: its pdfs depend on the context of a phone, so that its decision tree is "
                    "needed (the file tree beside Kaldi's final.mdl)"
                )
            seen.add(state[:2])
            transitions[state[0]] = transitions.get(state[0], ()) + leaving
        return {phone: Hmm(leaving, self._end(phone)) for phone, leaving in transitions.items()}

    def in_context(self, window: Sequence[int], tree: ContextDependency) -> Hmm:
        """Build the HMM of the central phone of ``window`` (``GetHmmAsFsa`` of ``src/hmm/hmm-utils.cc``).

        Raises:
            ValueError: the tree is not the one of this model.
        """
        phone = window[tree.central_position]
        leaving: tuple[Transition, ...] = ()
        for number, state in enumerate(self.topology[phone][:-1]):
            forward = tree.pdf_id(window, state.forward_pdf_class)
            self_loop = tree.pdf_id(window, state.self_loop_pdf_class)
            if forward is None or self_loop is None:
                raise ValueError(f"the tree has no pdf for state {number} of phone {phone}")
            try:
                leaving += self.transitions[phone, number, forward, self_loop]
            except KeyError as error:
                raise ValueError(
                    f"the tree gives state {number} of phone {phone} the pdf {forward}, and {self.path} "
                    "never: they are not of one system"
                ) from error
        return Hmm(leaving, self._end(phone))

    def _end(self, phone: int) -> int:
        return len(self.topology[phone]) - 1
