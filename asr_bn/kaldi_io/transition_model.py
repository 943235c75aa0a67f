"""Kaldi's transition model, from ``final.mdl``: transition-ids to pdf-ids and phones.

Source: Kaldi ``src/hmm/transition-model.cc`` and ``src/hmm/hmm-topology.cc``.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import numpy as np

from asr_bn.kaldi_io.model_stream import ModelStream, open_model
from asr_bn.kaldi_io.rxfilename import open_input
from asr_bn.system.arrays import IntVector

_MAX_STATES = 1 << 22


@dataclass(frozen=True)
class HmmState:
    """A state of a phone's topology: where its transitions lead, in their order, and its pdf classes.

    The classes, of leaving the state and of its self-loop, are what the tree is asked with; the last state
    of a phone has none, -1.
    """

    destinations: tuple[int, ...]
    forward_pdf_class: int = -1
    self_loop_pdf_class: int = -1


Topology = dict[int, tuple[HmmState, ...]]
"""Phone to its states."""
TransitionState = tuple[int, int, int, int]
"""Phone, HMM state, forward pdf and self-loop pdf."""


@dataclass(frozen=True)
class TransitionModel:
    """What training needs of a transition model.

    Attributes:
        num_pdfs: number of pdf-ids.
        tid_to_pdf: int32 ``[num_transition_ids + 1]``, pdf-id of a transition-id; entry 0 is unused, -1.
        tid_to_phone: int32, the same shape: the phone of a transition-id.
        tid_to_hmm_state: int32, the same shape: the state, from 0, of the phone's topology that it leaves.
    """

    num_pdfs: int
    tid_to_pdf: IntVector
    tid_to_phone: IntVector
    tid_to_hmm_state: IntVector

    @property
    def num_transition_ids(self) -> int:
        """Transition-ids run from 1 to this number."""
        return len(self.tid_to_pdf) - 1

    @classmethod
    def read(cls, path: Path) -> "TransitionModel":
        """Read ``final.mdl`` or a bare transition model: binary or text, gzipped or not.

        Both forms are read: ``<Triples>`` (one pdf a state) and ``<Tuples>`` (a pdf for the self-loop and
        one for leaving the state, as in chain models).

        Raises:
            OSError: no such file.
            ValueError: not a transition model, cut short or corrupt.
        """
        with open_model(path) as stream:
            return cls.from_stream(stream)

    @classmethod
    def from_stream(cls, stream: ModelStream) -> "TransitionModel":
        """Read a model up to its log probabilities; raises as :meth:`read`."""
        return _derive(*read_topology_and_states(stream))


def read_model_bytes(path: Path) -> bytes:
    """Read the bytes of the transition model at the head of a ``final.mdl``, unpacked, without its GMM.

    They are a model file by themselves, as Kaldi's ``copy-transition-model`` writes it.

    Raises:
        OSError: no such file.
        ValueError: not a transition model, cut short or corrupt.
    """
    with open_input(str(path)) as source:
        copying = _Copying(source)
        stream = ModelStream.begin(copying, str(path))  # type: ignore[arg-type]
        read_topology_and_states(stream)
        stream.expect("<LogProbs>")
        stream.float_vector()
        stream.expect("</LogProbs>")
        stream.expect("</TransitionModel>")
        return bytes(copying.taken)


class _Copying:
    """A stream of which ``taken`` keeps all that has been read."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.taken = bytearray()

    def read(self, num_bytes: int) -> bytes:
        data = self._stream.read(num_bytes)
        self.taken += data
        return data


def read_topology_and_states(stream: ModelStream) -> tuple[Topology, list[TransitionState]]:
    """Read the head of a transition model, up to its log probabilities.

    Raises:
        ValueError: not a transition model, cut short or corrupt.
    """
    stream.expect("<TransitionModel>")
    stream.expect("<Topology>")
    topology = _read_binary_topology(stream) if stream.binary else _read_text_topology(stream)
    token = stream.token()
    if token not in ("<Triples>", "<Tuples>"):
        raise ValueError(f"{stream.where}: expected <Triples> or <Tuples>, found {token[:40]!r}")
    rows = _read_states(stream, with_self_loop_pdf=token == "<Tuples>")
    stream.expect(token.replace("<", "</"))
    _check_states(topology, rows, stream.where)
    return topology, rows


def _check_states(topology: Topology, rows: list[TransitionState], where: str) -> None:
    for phone, hmm_state, forward_pdf, self_loop_pdf in rows:
        states = topology.get(phone)
        if states is None or not 0 <= hmm_state < len(states) or min(forward_pdf, self_loop_pdf) < 0:
            raise ValueError(
                f"{where}: corrupt: state {hmm_state} of phone {phone} (pdf {forward_pdf}) has no topology"
            )
    if not rows:
        raise ValueError(f"{where}: a transition model without states")


def _read_binary_topology(stream: ModelStream) -> Topology:
    phones = stream.int_vector()
    phone_to_entry = stream.int_vector()
    num_entries = stream.integer()
    self_loop_pdf_classes = num_entries == -1
    if self_loop_pdf_classes:
        num_entries = stream.integer()
    stream.check_count(num_entries, _MAX_STATES, "topology entries")
    entries = [_read_binary_entry(stream, self_loop_pdf_classes) for _ in range(num_entries)]
    stream.expect("</Topology>")
    topology: Topology = {}
    for phone in phones:
        entry = phone_to_entry[phone] if 0 <= phone < len(phone_to_entry) else -1
        if not 0 <= entry < num_entries:
            raise ValueError(f"{stream.where}: corrupt topology: phone {phone} has entry {entry}")
        topology[phone] = entries[entry]
    return topology


def _read_binary_entry(stream: ModelStream, self_loop_pdf_classes: bool) -> tuple[HmmState, ...]:
    num_states = stream.integer()
    stream.check_count(num_states, _MAX_STATES, "topology states")
    return tuple(_read_binary_state(stream, self_loop_pdf_classes) for _ in range(num_states))


def _read_binary_state(stream: ModelStream, self_loop_pdf_classes: bool) -> HmmState:
    forward = stream.integer()
    self_loop = stream.integer() if self_loop_pdf_classes else forward
    num_transitions = stream.integer()
    stream.check_count(num_transitions, _MAX_STATES, "transitions of a state")
    destinations = []
    for _ in range(num_transitions):
        destinations.append(stream.integer())
        stream.number()
    return HmmState(tuple(destinations), forward, self_loop)


def _read_text_topology(stream: ModelStream) -> Topology:
    topology: Topology = {}
    while (token := stream.token()) != "</Topology>":
        if token != "<TopologyEntry>":
            raise ValueError(f"{stream.where}: expected <TopologyEntry>, found {token[:40]!r}")
        stream.expect("<ForPhones>")
        phones = []
        while (word := stream.token()) != "</ForPhones>":
            phones.append(stream.parse_integer(word))
        states = _read_text_entry(stream)
        topology.update(dict.fromkeys(phones, states))
    return topology


def _read_text_entry(stream: ModelStream) -> tuple[HmmState, ...]:
    states: list[HmmState] = []
    while (token := stream.token()) != "</TopologyEntry>":
        if token == "<State>":
            stream.integer()
            states.append(HmmState(()))
        elif token == "<Transition>" and states:
            states[-1] = replace(states[-1], destinations=(*states[-1].destinations, stream.integer()))
            stream.number()
        elif token == "<PdfClass>" and states:
            pdf_class = stream.integer()
            states[-1] = replace(states[-1], forward_pdf_class=pdf_class, self_loop_pdf_class=pdf_class)
        elif token == "<ForwardPdfClass>" and states:
            states[-1] = replace(states[-1], forward_pdf_class=stream.integer())
        elif token == "<SelfLoopPdfClass>" and states:
            states[-1] = replace(states[-1], self_loop_pdf_class=stream.integer())
        elif token not in ("</State>", "<Final>"):
            raise ValueError(f"{stream.where}: unexpected {token[:40]!r} in the topology")
    return tuple(states)


def _read_states(stream: ModelStream, with_self_loop_pdf: bool) -> list[TransitionState]:
    """Read phone, HMM state, forward pdf and self-loop pdf of every transition-state."""
    num_states = stream.integer()
    stream.check_count(num_states, _MAX_STATES, "transition-states")
    rows = []
    for _ in range(num_states):
        phone, hmm_state, forward_pdf = stream.integer(), stream.integer(), stream.integer()
        rows.append((phone, hmm_state, forward_pdf, stream.integer() if with_self_loop_pdf else forward_pdf))
    return rows


def _derive(topology: Topology, rows: list[TransitionState]) -> TransitionModel:
    """Number the transitions as ``TransitionModel::ComputeDerived`` does."""
    pdfs, phones, states = [-1], [-1], [-1]
    for phone, hmm_state, forward_pdf, self_loop_pdf in rows:
        for destination in topology[phone][hmm_state].destinations:
            pdfs.append(self_loop_pdf if destination == hmm_state else forward_pdf)
            phones.append(phone)
            states.append(hmm_state)
    num_pdfs = 1 + max(max(row[2], row[3]) for row in rows)
    by_tid = (np.array(values, dtype=np.int32) for values in (pdfs, phones, states))
    return TransitionModel(num_pdfs, *by_tid)
