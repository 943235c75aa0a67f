"""Writing ``final.mdl`` (Kaldi's transition model, then its diagonal GMMs) and alignments, all binary.

Source: Kaldi ``src/hmm/hmm-topology.cc``, ``src/hmm/transition-model.cc``, ``src/gmm/am-diag-gmm.cc``,
``src/gmm/diag-gmm.cc``.  ``kaldi-hmm-gmm`` trains these models but has no writer for them.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import kaldi_hmm_gmm as khg
import numpy as np
from numpy.typing import NDArray

from asr_bn.kaldi_io.int_vector_table import encode_int_vector
from asr_bn.system.arrays import Floats


@dataclass(frozen=True)
class State:
    """A state of a topology entry; the final state has ``pdf_class`` -1 and no transitions."""

    pdf_class: int
    transitions: Sequence[tuple[int, float]]


@dataclass(frozen=True)
class TransitionModelData:
    """What Kaldi writes of a transition model.

    Attributes:
        phones: sorted phone ids.
        entry_of_phone: for each phone, its number in ``entries``.
        entries: topologies.
        triples: phone, state, pdf-id of each transition-state, sorted.
        log_probs: ``[num_transition_ids + 1]``, the first unused.
    """

    phones: Sequence[int]
    entry_of_phone: dict[int, int]
    entries: Sequence[Sequence[State]]
    triples: Sequence[tuple[int, int, int]]
    log_probs: Floats

    @classmethod
    def of(cls, model: khg.TransitionModel) -> "TransitionModelData":
        """Take them out of a ``kaldi-hmm-gmm`` model, which does not give its triples away."""
        entries: list[list[State]] = []
        entry_of_phone: dict[int, int] = {}
        for phone in model.topo.phones:
            topology = model.topo.topology_for_phone(phone)
            states = [State(state.forward_pdf_class, list(state.transitions)) for state in topology]
            if states not in entries:
                entries.append(states)
            entry_of_phone[phone] = entries.index(states)
        triples = []
        transition_id = 1
        # A pdf belongs to one phone and state in a monophone tree, so this is Kaldi's sorted order.
        for phone in sorted(entry_of_phone):
            for state, description in enumerate(entries[entry_of_phone[phone]][:-1]):
                triples.append((phone, state, model.transition_id_to_pdf(transition_id)))
                if model.transition_id_to_phone(transition_id) != phone:
                    raise ValueError("the transition model is not a monophone one")
                transition_id += len(description.transitions)
        if transition_id != model.num_transition_ids + 1:
            raise ValueError("the transition model has several pdfs for a state of a phone")
        log_probs = np.array(model.log_probs, dtype=np.float32)
        return cls(list(model.topo.phones), entry_of_phone, entries, triples, log_probs)


def encode_transition_model(model: TransitionModelData) -> bytes:
    """Encode as ``TransitionModel::Write``, without the ``\\0B`` that opens a binary file."""
    parts = [
        b"<TransitionModel> ",
        _encode_topology(model),
        b"<Triples> ",
        _integers(len(model.triples)),
        *(_integers(*triple) for triple in model.triples),
        b"</Triples> <LogProbs> ",
        _vector(model.log_probs),
        b"</LogProbs> </TransitionModel> ",
    ]
    return b"".join(parts)


def encode_am_diag_gmm(model: khg.AmDiagGmm) -> bytes:
    """Encode as ``AmDiagGmm::Write``."""
    parts = [b"<DIMENSION> ", _integers(model.dim), b"<NUMPDFS> ", _integers(model.num_pdfs)]
    for pdf in range(model.num_pdfs):
        gmm = model.get_pdf(pdf)
        parts += [b"<DiagGMM> <GCONSTS> ", _vector(gmm.gconsts), b"<WEIGHTS> ", _vector(gmm.weights)]
        parts += [b"<MEANS_INVVARS> ", _matrix(gmm.means_invvars), b"<INV_VARS> ", _matrix(gmm.inv_vars)]
        parts.append(b"</DiagGMM> ")
    return b"".join(parts)


def encode_mdl(transition_model: khg.TransitionModel, model: khg.AmDiagGmm) -> bytes:
    """Return the bytes of ``final.mdl``."""
    data = TransitionModelData.of(transition_model)
    return b"\0B" + encode_transition_model(data) + encode_am_diag_gmm(model)


def encode_int_vector_table(vectors: Mapping[str, NDArray[np.int32]]) -> bytes:
    """Encode an archive of integer vectors, sorted by key (``BasicVectorHolder``)."""
    return b"".join(f"{key} ".encode() + encode_int_vector(vectors[key]) for key in sorted(vectors))


def _encode_topology(model: TransitionModelData) -> bytes:
    entry_of = [model.entry_of_phone.get(phone, -1) for phone in range(max(model.phones) + 1)]
    parts = [b"<Topology> ", _integer_vector(model.phones), _integer_vector(entry_of)]
    parts.append(_integers(len(model.entries)))
    for states in model.entries:
        parts.append(_integers(len(states)))
        for state in states:
            parts.append(_integers(state.pdf_class, len(state.transitions)))
            for target, probability in state.transitions:
                parts.append(_integers(target) + struct.pack("<bf", 4, probability))
    return b"".join(parts) + b"</Topology> "


def _integers(*values: int) -> bytes:
    return b"".join(struct.pack("<bi", 4, value) for value in values)


def _integer_vector(values: Sequence[int]) -> bytes:
    return struct.pack(f"<bi{len(values)}i", 4, len(values), *values)


def _vector(values: Floats) -> bytes:
    return b"FV " + _integers(len(values)) + np.asarray(values, dtype="<f4").tobytes()


def _matrix(values: Floats) -> bytes:
    return b"FM " + _integers(*values.shape) + np.ascontiguousarray(values, dtype="<f4").tobytes()
