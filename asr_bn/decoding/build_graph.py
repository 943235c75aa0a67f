"""HCLG for context-independent phones, as Kaldi's ``mkgraph.sh`` makes it, with ``kaldifst``.

HCLG = self-loops(min(det(H o min(det(L o G))))): C is the identity for phones without context.
Source: Kaldi ``egs/wsj/s5/utils/mkgraph.sh`` and ``src/hmm/hmm-utils.cc``.
"""

import math
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asr_bn.decoding.fst_file import ARC, FstArrays
from asr_bn.decoding.grammar import BACKOFF, Grammar, arpa_fst
from asr_bn.decoding.lexicon_fst import Lexicon
from asr_bn.decoding.transition_probs import PhoneHmms
from asr_bn.files import atomic_path, write_text

SELF_LOOP_SCALE = 0.1
TRANSITION_SCALE = 1.0


def make_graph(
    lexicon_dir: Path, mdl: Path, out_dir: Path, arpa: Path | None, grammar: Path | None
) -> FstArrays:
    """Write ``out_dir/{words.txt,final.mdl,num_pdfs}`` and last ``HCLG.fst``, a const FST as Kaldi's.

    Args:
        lexicon_dir: ``lexiconp.txt`` or ``lexicon.txt``, ``phones.txt``, ``optional_silence.txt``.
        mdl: transition model of a monophone system.
        arpa, grammar: one of them.

    Raises:
        OSError: a file is missing.
        ValueError: a file is malformed, or they do not belong together.
    """
    import kaldifst

    from asr_bn.kaldi_io.transition_model import TransitionModel

    if (arpa is None) == (grammar is None):
        raise ValueError("a graph needs either an ARPA file or a grammar")
    lexicon, hmms = Lexicon.read(lexicon_dir), PhoneHmms.read(mdl)
    names = ["<eps>", *lexicon.words(), BACKOFF, "<s>", "</s>"]
    word_ids = {name: number for number, name in enumerate(names)}
    if arpa is not None:
        word_graph = arpa_fst(arpa, word_ids)
    elif grammar is not None:
        word_graph = Grammar.read(grammar).fst(word_ids)
    lexicon_graph, disambig = lexicon.fst(word_ids)
    graph = kaldifst.compose(lexicon_graph, word_graph)
    _determinize(graph)
    kaldifst.arcsort(graph, sort_type="ilabel")
    _check_phones(graph, lexicon, hmms, disambig, mdl)
    graph = kaldifst.compose(h_transducer(hmms, disambig), graph)
    _determinize(graph)
    arrays = without_labels_above(to_arrays(graph), hmms.num_transition_ids)
    arrays = add_self_loops(to_arrays(_minimized(arrays)), hmms)
    write_text(out_dir / "words.txt", "".join(f"{name} {number}\n" for name, number in word_ids.items()))
    write_text(out_dir / "num_pdfs", f"{TransitionModel.read(mdl).num_pdfs}\n")
    with atomic_path(out_dir / "final.mdl") as temporary:
        shutil.copyfile(mdl, temporary)
    arrays.write_const(out_dir / "HCLG.fst")
    return arrays


def h_transducer(hmms: PhoneHmms, disambig: Sequence[int]) -> Any:
    """From transition-ids (no self-loops) to phones; ``disambig`` symbols are read as labels past them."""
    import kaldifst

    fst = kaldifst.StdVectorFst()
    loop = fst.add_state()
    fst.start = loop
    fst.set_final(loop, 0.0)
    for phone, transitions in hmms.transitions.items():
        states = {hmms.end_states[phone]: loop}
        self_loops = {t.source: t.log_prob for t in transitions if t.source == t.target}
        for t in transitions:
            if t.source == t.target:
                continue
            leaving = math.log1p(-math.exp(self_loops[t.source])) if t.source in self_loops else 0.0
            cost = TRANSITION_SCALE * (leaving - t.log_prob)
            target = states[t.target] if t.target in states else states.setdefault(t.target, fst.add_state())
            if t.source == 0:
                fst.add_arc(loop, kaldifst.StdArc(t.transition_id, phone, cost, target))
            if t.source in states and t.source != hmms.end_states[phone]:
                fst.add_arc(states[t.source], kaldifst.StdArc(t.transition_id, 0, cost, target))
    for index, symbol in enumerate(disambig, start=1):
        fst.add_arc(loop, kaldifst.StdArc(hmms.num_transition_ids + index, symbol, 0.0, loop))
    kaldifst.arcsort(fst, sort_type="olabel")
    return fst


def add_self_loops(fst: FstArrays, hmms: PhoneHmms) -> FstArrays:
    """Self-loops after the transition into a state (Kaldi's ``reorder``), with their costs.

    A state's self-loop must be that of the HMM state that was just left.  Where arcs of several HMM states
    (or none) lead to one state, those of each go to a state of their own in front of it.
    """
    loop_of, stay, leave = _self_loops(hmms)
    arcs = fst.arcs.copy()
    entering = loop_of[arcs["ilabel"]]  # the self-loop that belongs behind each arc; 0 is none
    num_states = len(fst.finals)
    pairs = np.unique(np.stack([arcs["nextstate"], entering]), axis=1)
    kinds = np.bincount(pairs[0], minlength=num_states)
    kinds[fst.start] += 2  # nothing was left before it: its loops go in front of it
    alone = kinds[pairs[0]] == 1
    own_loop = np.zeros(num_states, dtype=np.int64)
    own_loop[pairs[0][alone]] = pairs[1][alone]
    shared = pairs[:, ~alone & (pairs[1] > 0)]
    new_state = {(int(s), int(t)): num_states + k for k, (s, t) in enumerate(shared.T)}
    for k in np.flatnonzero((entering > 0) & (own_loop[arcs["nextstate"]] == 0)):
        arcs["nextstate"][k] = new_state[int(arcs["nextstate"][k]), int(entering[k])]
    sources = np.repeat(np.arange(num_states), np.diff(fst.first_arcs))
    arcs["weight"] += leave[own_loop[sources]]
    at_own = np.flatnonzero(own_loop)
    own = _arcs(own_loop[at_own], stay[own_loop[at_own]], at_own)
    front_states = num_states + np.arange(shared.shape[1])
    front = _arcs(shared[1], stay[shared[1]], front_states)
    back = _arcs(np.zeros(shared.shape[1], np.int64), leave[shared[1]], shared[0])
    finals = np.concatenate([fst.finals + leave[own_loop], np.full(shared.shape[1], np.inf)]).astype(
        np.float32
    )
    return _assemble(
        fst.start,
        finals,
        np.concatenate([at_own, sources, front_states, front_states]),
        np.concatenate([own, arcs, front, back]),
    )


def _self_loops(hmms: PhoneHmms) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
    """By transition-id the self-loop of the state it leaves; by self-loop the costs to stay and to leave."""
    size = hmms.num_transition_ids + 1
    loop_of = np.zeros(size, dtype=np.int64)
    stay, leave = np.zeros(size, dtype=np.float32), np.zeros(size, dtype=np.float32)
    for transitions in hmms.transitions.values():
        for loop in (t for t in transitions if t.source == t.target):
            stay[loop.transition_id] = -SELF_LOOP_SCALE * loop.log_prob
            leave[loop.transition_id] = -SELF_LOOP_SCALE * math.log1p(-math.exp(loop.log_prob))
            for t in transitions:
                if t.source == loop.source and t is not loop:
                    loop_of[t.transition_id] = loop.transition_id
    return loop_of, stay, leave


def without_labels_above(fst: FstArrays, largest: int) -> FstArrays:
    """``fst`` with input labels above ``largest`` (disambiguation symbols) made epsilons."""
    arcs = fst.arcs.copy()
    arcs["ilabel"][arcs["ilabel"] > largest] = 0
    return FstArrays(fst.start, fst.finals, fst.first_arcs, arcs)


def to_arrays(fst: Any) -> FstArrays:
    """A ``kaldifst.StdVectorFst`` as arrays."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "fst")
        fst.write(str(path))
        return FstArrays.read(path)


def _minimized(arrays: FstArrays) -> Any:
    import kaldifst

    from asr_bn.decoding.graph import to_kaldifst

    fst = to_kaldifst(arrays)
    kaldifst.rmepsilon(fst)
    kaldifst.minimize_encoded(fst)
    return fst


def _determinize(fst: Any) -> None:
    import kaldifst

    kaldifst.connect(fst)
    if fst.num_states == 0:
        raise ValueError("the graph is empty: lexicon, grammar and transition model have nothing in common")
    kaldifst.determinize_star(fst, use_log=True)
    kaldifst.minimize_encoded(fst)


def _check_phones(graph: Any, lexicon: Lexicon, hmms: PhoneHmms, disambig: Sequence[int], mdl: Path) -> None:
    used = set(np.unique(to_arrays(graph).arcs["ilabel"]).tolist()) - {0, *disambig}
    missing = used - set(hmms.transitions)
    if missing:
        name = next(phone for phone, number in lexicon.phone_ids.items() if number == min(missing))
        raise ValueError(f"{mdl}: has no phone {min(missing)} ({name} in the lexicon)")


def _arcs(
    ilabels: NDArray[np.int64], weights: NDArray[np.float32], targets: NDArray[np.int64]
) -> NDArray[np.void]:
    arcs = np.zeros(len(ilabels), dtype=ARC)
    arcs["ilabel"], arcs["weight"], arcs["nextstate"] = ilabels, weights, targets
    return arcs


def _assemble(
    start: int, finals: NDArray[np.float32], sources: NDArray[np.int64], arcs: NDArray[np.void]
) -> FstArrays:
    order = np.argsort(sources, kind="stable")
    counts = np.bincount(sources, minlength=len(finals))
    return FstArrays(start, finals, np.concatenate([[0], np.cumsum(counts)]), arcs[order])
