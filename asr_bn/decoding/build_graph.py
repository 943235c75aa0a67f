"""HCLG, as Kaldi's ``mkgraph.sh`` makes it, with ``kaldifst``.

HCLG = self-loops(min(det(H o C o min(det(L o G))))); C is the identity for phones without context.
Source: Kaldi ``egs/wsj/s5/utils/mkgraph.sh`` and ``src/hmm/hmm-utils.cc``.
"""

import math
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from asr_bn.decoding.context import HmmLabels, in_context
from asr_bn.decoding.fst_file import FstArrays
from asr_bn.decoding.grammar import BACKOFF, Grammar, arpa_fst
from asr_bn.decoding.graph import to_kaldifst
from asr_bn.decoding.hmms import Hmm, Hmms
from asr_bn.decoding.lexicon_fst import Lexicon
from asr_bn.decoding.self_loops import add_self_loops
from asr_bn.files import atomic_path, write_text
from asr_bn.kaldi_io.context_dependency import ContextDependency

TRANSITION_SCALE = 1.0


def make_graph(
    lexicon_dir: Path,
    mdl: Path,
    out_dir: Path,
    arpa: Path | None,
    grammar: Path | None,
    tree: Path | None = None,
) -> FstArrays:
    """Write ``out_dir/{words.txt,final.mdl,num_pdfs}`` and last ``HCLG.fst``, a const FST as Kaldi's.

    Args:
        lexicon_dir: ``lexiconp.txt`` or ``lexicon.txt``, ``optional_silence.txt``, and ``phones.txt`` where
            there is none beside ``mdl``.
        mdl: transition model.
        arpa, grammar: one of them.
        tree: the decision tree that the model's pdfs come from; a monophone system needs none.

    Raises:
        OSError: a file is missing.
        ValueError: a file is malformed, or they do not belong together.
    """
    import kaldifst

    from asr_bn.kaldi_io.transition_model import TransitionModel

    if (arpa is None) == (grammar is None):
        raise ValueError("a graph needs either an ARPA file or a grammar")
    lexicon, hmms = Lexicon.read(lexicon_dir, _phones_beside(mdl)), Hmms.read(mdl)
    context = hmms.without_context() if tree is None else ContextDependency.read(tree)
    names = ["<eps>", *lexicon.words(), BACKOFF, "<s>", "</s>"]
    word_ids = {name: number for number, name in enumerate(names)}
    if arpa is not None:
        word_graph = arpa_fst(arpa, word_ids)
    elif grammar is not None:
        word_graph = Grammar.read(grammar).fst(word_ids)
    lexicon_graph, disambig = lexicon.fst(word_ids)
    graph = kaldifst.compose(lexicon_graph, word_graph)
    _determinize(graph)
    arrays, labels = _over_hmms(to_arrays(graph), lexicon, hmms, disambig, context)
    graph = to_kaldifst(arrays)
    kaldifst.arcsort(graph, sort_type="ilabel")
    graph = kaldifst.compose(h_transducer(labels, hmms.num_transition_ids), graph)
    _determinize(graph)
    arrays = without_labels_above(to_arrays(graph), hmms.num_transition_ids)
    arrays = add_self_loops(to_arrays(_minimized(arrays)), hmms)
    write_text(out_dir / "words.txt", "".join(f"{name} {number}\n" for name, number in word_ids.items()))
    write_text(out_dir / "num_pdfs", f"{TransitionModel.read(mdl).num_pdfs}\n")
    with atomic_path(out_dir / "final.mdl") as temporary:
        shutil.copyfile(mdl, temporary)
    arrays.write_const(out_dir / "HCLG.fst")
    return arrays


def _phones_beside(mdl: Path) -> Path | None:
    """The numbers that the model itself goes by."""
    path = mdl.parent / "phones.txt"
    return path if path.is_file() else None


def _over_hmms(
    fst: FstArrays,
    lexicon: Lexicon,
    hmms: Hmms,
    disambig: Sequence[int],
    context: ContextDependency | dict[int, Hmm],
) -> tuple[FstArrays, HmmLabels]:
    """From phones to HMMs: those of their contexts, or the one of each."""
    used = set(np.unique(fst.arcs["ilabel"]).tolist()) - {0, *disambig}
    missing = used - hmms.phones()
    if missing:
        name = next(phone for phone, number in lexicon.phone_ids.items() if number == min(missing))
        raise ValueError(f"{hmms.path}: has no phone {min(missing)} ({name} in the lexicon)")
    if isinstance(context, ContextDependency):
        return in_context(fst, hmms, context, disambig)
    return fst, HmmLabels(context, list(disambig))


def h_transducer(labels: HmmLabels, num_transition_ids: int) -> Any:
    """From transition-ids (no self-loops) to HMMs; disambiguation symbols are read as labels past them."""
    import kaldifst

    fst = kaldifst.StdVectorFst()
    loop = fst.add_state()
    fst.start = loop
    fst.set_final(loop, 0.0)
    for label, hmm in labels.hmms.items():
        _add_hmm(fst, loop, label, hmm)
    for index, symbol in enumerate(labels.disambig, start=1):
        fst.add_arc(loop, kaldifst.StdArc(num_transition_ids + index, symbol, 0.0, loop))
    kaldifst.arcsort(fst, sort_type="olabel")
    return fst


def _add_hmm(fst: Any, loop: int, label: int, hmm: Hmm) -> None:
    import kaldifst

    states = {hmm.end_state: loop}
    self_loops = {t.source: t.log_prob for t in hmm.transitions if t.source == t.target}
    for t in hmm.transitions:
        if t.source == t.target:
            continue
        leaving = math.log1p(-math.exp(self_loops[t.source])) if t.source in self_loops else 0.0
        cost = TRANSITION_SCALE * (leaving - t.log_prob)
        target = states[t.target] if t.target in states else states.setdefault(t.target, fst.add_state())
        if t.source == 0:
            fst.add_arc(loop, kaldifst.StdArc(t.transition_id, label, cost, target))
        if t.source in states and t.source != hmm.end_state:
            fst.add_arc(states[t.source], kaldifst.StdArc(t.transition_id, 0, cost, target))


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
