"""Writing ``final.mdl`` (Kaldi's transition model, then its diagonal GMMs) and alignments, all binary.

Source: Kaldi ``src/hmm/hmm-topology.cc``, ``src/hmm/transition-model.cc``, ``src/gmm/am-diag-gmm.cc``,
``src/gmm/diag-gmm.cc``.  ``kaldi-hmm-gmm`` trains these models but has no writer for them.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import kaldi_hmm_gmm as khg
import numpy as np
from numpy.typing import NDArray

from asr_bn.kaldi_io.binary import encode_integer_vector, encode_integers
from asr_bn.kaldi_io.context_dependency import ContextDependency
from asr_bn.kaldi_io.int_vector_table import encode_int_vector
from asr_bn.system.arrays import Doubles, Floats, IntVector

# Kaldi's MleTransitionUpdateConfig.
MIN_COUNT, MIN_PROBABILITY = 5.0, 0.01


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
    def of_tree(cls, topology: khg.HmmTopology, tree: ContextDependency) -> "TransitionModelData":
        """Give every state of a phone the pdfs that ``tree`` has for it, and the topology's probabilities."""
        entries: list[list[State]] = []
        entry_of_phone: dict[int, int] = {}
        for phone in topology.phones:
            its = topology.topology_for_phone(phone)
            states = [State(state.forward_pdf_class, list(state.transitions)) for state in its]
            if states not in entries:
                entries.append(states)
            entry_of_phone[phone] = entries.index(states)
        triples = [
            (phone, number, pdf)
            for phone in sorted(entry_of_phone)
            for number, state in enumerate(entries[entry_of_phone[phone]][:-1])
            for pdf in sorted(tree.possible_pdfs(phone, state.pdf_class))
        ]
        model = cls(list(topology.phones), entry_of_phone, entries, triples, np.zeros(1, np.float32))
        probabilities = [1.0, *(p for triple in triples for _, p in model.transitions(triple))]
        return replace(model, log_probs=np.log(np.array(probabilities)).astype(np.float32))

    def transitions(self, triple: tuple[int, int, int]) -> Sequence[tuple[int, float]]:
        """Return where a transition-state leads, and the topology's probabilities."""
        phone, state, _ = triple
        return self.entries[self.entry_of_phone[phone]][state].transitions

    def tid_to_pdf(self) -> IntVector:
        """Map transition-ids to pdfs, int32 ``[num_transition_ids + 1]``; entry 0 is unused."""
        pdfs = [triple[2] for triple in self.triples for _ in self.transitions(triple)]
        return np.array([0, *pdfs], dtype=np.int32)

    def update(self, counts: Doubles) -> "TransitionModelData":
        """Estimate probabilities from counts of transition-ids (``TransitionModel::MleUpdate``)."""
        log_probs, start = self.log_probs.copy(), 1
        for triple in self.triples:
            end = start + len(self.transitions(triple))
            total = counts[start:end].sum()
            if end - start > 1 and total >= MIN_COUNT:
                probabilities = counts[start:end] / total
                for _ in range(3):  # as Kaldi: flooring changes the sum
                    probabilities = np.maximum(probabilities / probabilities.sum(), MIN_PROBABILITY)
                log_probs[start:end] = np.log(probabilities)
            start = end
        return replace(self, log_probs=log_probs)


def encode_transition_model(model: TransitionModelData) -> bytes:
    """Encode as ``TransitionModel::Write``, without the ``\\0B`` that opens a binary file."""
    parts = [
        b"<TransitionModel> ",
        _encode_topology(model),
        b"<Triples> ",
        encode_integers(len(model.triples)),
        *(encode_integers(*triple) for triple in model.triples),
        b"</Triples> <LogProbs> ",
        _vector(model.log_probs),
        b"</LogProbs> </TransitionModel> ",
    ]
    return b"".join(parts)


def encode_am_diag_gmm(model: khg.AmDiagGmm) -> bytes:
    """Encode as ``AmDiagGmm::Write``."""
    parts = [b"<DIMENSION> ", encode_integers(model.dim), b"<NUMPDFS> ", encode_integers(model.num_pdfs)]
    for pdf in range(model.num_pdfs):
        gmm = model.get_pdf(pdf)
        parts += [b"<DiagGMM> <GCONSTS> ", _vector(gmm.gconsts), b"<WEIGHTS> ", _vector(gmm.weights)]
        parts += [b"<MEANS_INVVARS> ", _matrix(gmm.means_invvars), b"<INV_VARS> ", _matrix(gmm.inv_vars)]
        parts.append(b"</DiagGMM> ")
    return b"".join(parts)


def encode_mdl(transitions: TransitionModelData, model: khg.AmDiagGmm) -> bytes:
    """Return the bytes of ``final.mdl``."""
    return b"\0B" + encode_transition_model(transitions) + encode_am_diag_gmm(model)


def encode_int_vector_table(vectors: Mapping[str, NDArray[np.int32]]) -> bytes:
    """Encode an archive of integer vectors, sorted by key (``BasicVectorHolder``)."""
    return b"".join(f"{key} ".encode() + encode_int_vector(vectors[key]) for key in sorted(vectors))


def _encode_topology(model: TransitionModelData) -> bytes:
    entry_of = [model.entry_of_phone.get(phone, -1) for phone in range(max(model.phones) + 1)]
    parts = [b"<Topology> ", encode_integer_vector(model.phones), encode_integer_vector(entry_of)]
    parts.append(encode_integers(len(model.entries)))
    for states in model.entries:
        parts.append(encode_integers(len(states)))
        for state in states:
            parts.append(encode_integers(state.pdf_class, len(state.transitions)))
            for target, probability in state.transitions:
                parts.append(encode_integers(target) + struct.pack("<bf", 4, probability))
    return b"".join(parts) + b"</Topology> "


def _vector(values: Floats) -> bytes:
    return b"FV " + encode_integers(len(values)) + np.asarray(values, dtype="<f4").tobytes()


def _matrix(values: Floats) -> bytes:
    return b"FM " + encode_integers(*values.shape) + np.ascontiguousarray(values, dtype="<f4").tobytes()
