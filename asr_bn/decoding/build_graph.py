"""HCLG, as Kaldi's ``mkgraph.sh`` makes it, with ``kaldifst``.

HCLG = self-loops(min(det(H o C o min(det(L o G))))); C is the identity for phones without context.
Source: Kaldi ``egs/wsj/s5/utils/mkgraph.sh`` and ``src/hmm/hmm-utils.cc``.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr_bn.decoding.arpa import arpa_fst, list_words
from asr_bn.decoding.context import HmmLabels, in_context
from asr_bn.decoding.fst_file import Fst, FstArrays, kaldifst
from asr_bn.decoding.grammar import Grammar
from asr_bn.decoding.graph import to_arrays, to_kaldifst
from asr_bn.decoding.hmms import Hmm, Hmms
from asr_bn.decoding.lang_dir import LangDir, read_word_fst, read_word_ids
from asr_bn.decoding.lattices.align_lexicon import ALIGN_LEXICON
from asr_bn.decoding.lexicon_fst import Lexicon
from asr_bn.decoding.self_loops import add_self_loops
from asr_bn.kaldi_io.context_dependency import ContextDependency
from asr_bn.kaldi_io.rxfilename import open_input
from asr_bn.kaldi_io.transition_model import TransitionModel
from asr_bn.system.files import write_bytes, write_text
from asr_bn.system.notes import print_note

TRANSITION_SCALE = 1.0


@dataclass(frozen=True)
class WordSource:
    """The source of G: an ARPA file, a grammar, or the ``G.fst`` of a lang folder; exactly one of them."""

    arpa: Path | None = None
    grammar: Path | None = None
    lang: Path | None = None

    def __post_init__(self) -> None:
        if sum(path is not None for path in (self.arpa, self.grammar, self.lang)) != 1:
            raise ValueError("a graph needs either an ARPA file, a grammar, or the G.fst of a lang folder")

    def fst(self, lexicon: Lexicon | LangDir, word_ids: dict[str, int], say: Callable[[str], None]) -> Fst:
        """Build G; raises as `arpa_fst`, `Grammar.read` and `read_word_fst`."""
        if self.arpa is not None:
            return arpa_fst(self.arpa, word_ids, lexicon.path, say)
        if self.grammar is not None:
            return Grammar.read(self.grammar).fst(word_ids)
        if self.lang is None:
            raise ValueError("no source of words")
        spoken = lexicon.words() if isinstance(lexicon, Lexicon) else word_ids.keys()
        return read_word_fst(self.lang, word_ids, spoken, say)


def make_graph(
    lexicon_dir: Path,
    mdl: Path,
    out_dir: Path,
    arpa: Path | None = None,
    grammar: Path | None = None,
    tree: Path | None = None,
    lang: Path | None = None,
    say: Callable[[str], None] | None = None,
) -> FstArrays:
    """Write ``out_dir/{words.txt,final.mdl,num_pdfs}`` and last ``HCLG.fst``, a const FST as Kaldi's.

    ``G.fst`` and ``phones/align_lexicon.int`` are there too: rescoring and the times of words need them.

    Args:
        lexicon_dir: a folder that `Lexicon.read` reads, or a lang folder.  A ``phones.txt`` beside ``mdl``
            replaces its own.
        mdl: transition model.
        arpa, grammar, lang: one of them; ``lang`` is a folder with ``G.fst``, and its ``words.txt`` numbers
            the words.  Without any, the ``G.fst`` of ``lexicon_dir`` is used.
        tree: the decision tree of the model's pdfs; a monophone system needs none.
        say: called with remarks, such as which words were left out; None prints them.

    Raises:
        OSError: a file is missing.
        ValueError: a file is malformed, or they do not belong together.
    """
    is_lang = LangDir.is_one(lexicon_dir)
    if is_lang and arpa is None and grammar is None:
        lang = lang or lexicon_dir
    source, hmms = WordSource(arpa, grammar, lang), Hmms.read(mdl)
    phones_txt = mdl.parent / "phones.txt"
    lexicon_kind = LangDir if is_lang else Lexicon
    lexicon = lexicon_kind.read(lexicon_dir, phones_txt if phones_txt.is_file() else None)
    context = hmms.without_context() if tree is None else ContextDependency.read(tree)
    say = say or print_note
    word_ids = lexicon.word_ids() if lang is None else read_word_ids(lang)
    if strange := [word for word in word_ids if any(map(str.isspace, word))]:
        found = f"{list_words(strange)} (validate_dict_dir.pl refuses it)"
        say(f"{lexicon.path}: Unicode whitespace in words of the lexicon: {found}")
    if isinstance(lexicon, LangDir) and lexicon.word_ids() != word_ids:
        raise ValueError(f"{lang}/words.txt: other words than in {lexicon_dir}/words.txt")
    word_graph = source.fst(lexicon, word_ids, say)
    lexicon_graph, disambig = lexicon.fst(word_ids)
    graph = kaldifst.compose(lexicon_graph, word_graph)
    _determinize(graph)
    arrays, labels = _over_hmms(to_arrays(graph), lexicon.phone_ids, hmms, disambig, context)
    graph = to_kaldifst(arrays)
    kaldifst.arcsort(graph, sort_type="ilabel")
    graph = kaldifst.compose(h_transducer(labels, hmms.num_transition_ids), graph)
    _determinize(graph)
    arrays = without_labels_above(to_arrays(graph), hmms.num_transition_ids)
    arrays = add_self_loops(to_arrays(_minimized(arrays)), hmms)
    align_lexicon = lexicon.align_lexicon(word_ids)
    if align_lexicon is not None:
        align_lexicon.write(out_dir / ALIGN_LEXICON)
    to_arrays(word_graph).write_const(out_dir / "G.fst")
    _write(out_dir, arrays, word_ids, mdl)
    return arrays


def _write(out_dir: Path, arrays: FstArrays, word_ids: dict[str, int], mdl: Path) -> None:
    write_text(out_dir / "words.txt", "".join(f"{name} {number}\n" for name, number in word_ids.items()))
    write_text(out_dir / "num_pdfs", f"{TransitionModel.read(mdl).num_pdfs}\n")
    with open_input(str(mdl)) as stream:
        write_bytes(out_dir / "final.mdl", stream.read())
    arrays.write_const(out_dir / "HCLG.fst")


def _over_hmms(
    fst: FstArrays,
    phone_ids: dict[str, int],
    hmms: Hmms,
    disambig: Sequence[int],
    context: ContextDependency | dict[int, Hmm],
) -> tuple[FstArrays, HmmLabels]:
    """Replace phones by their HMMs, in context or without."""
    used = set(np.unique(fst.arcs["ilabel"]).tolist()) - {0, *disambig}
    missing = used - hmms.phones()
    if missing:
        names = {number: phone for phone, number in phone_ids.items()}
        name = names.get(min(missing), "no phone, nor a disambiguation symbol")
        raise ValueError(f"{hmms.path}: has no phone {min(missing)} ({name} in the lexicon)")
    if isinstance(context, ContextDependency):
        return in_context(fst, hmms, context, disambig)
    return fst, HmmLabels(context, list(disambig))


def h_transducer(labels: HmmLabels, num_transition_ids: int) -> Fst:
    """Build H: transition-ids (no self-loops) to HMMs; labels above them are disambiguation symbols."""
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


def _add_hmm(fst: Fst, loop: int, label: int, hmm: Hmm) -> None:
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
    """Make epsilons of input labels above ``largest``, which are disambiguation symbols."""
    arcs = fst.arcs.copy()
    arcs["ilabel"][arcs["ilabel"] > largest] = 0
    return FstArrays(fst.start, fst.finals, fst.first_arcs, arcs)


def _minimized(arrays: FstArrays) -> Fst:
    fst = to_kaldifst(arrays)
    kaldifst.rmepsilon(fst)
    kaldifst.minimize_encoded(fst)
    return fst


def _determinize(fst: Fst) -> None:
    kaldifst.connect(fst)
    if fst.num_states == 0:
        raise ValueError("the graph is empty: lexicon, grammar and transition model have nothing in common")
    kaldifst.determinize_star(fst, use_log=True)
    kaldifst.minimize_encoded(fst)
