"""Phones in context (C o L o G): from phones to the HMMs that the decision tree gives them.

Source: Kaldi ``src/fstext/context-fst.h``.  C is not made as a transducer of its own: the states of the graph
are split by the phones that came before.  Windows whose HMMs are the same share a label.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np

from asr_bn.decoding.fst_file import ARC, FstArrays
from asr_bn.decoding.hmms import Hmm, Hmms
from asr_bn.kaldi_io.context_dependency import ContextDependency

_State = tuple[tuple[int, ...], int]
"""The last phones, one fewer than a window holds, and a state of the graph before; or, past its end,
``-1 - k`` for ``k`` empty places that were read there."""


@dataclass
class HmmLabels:
    """Input labels of a graph: which HMM each one is.

    Attributes:
        hmms: by label.
        disambig: the labels of disambiguation symbols.
    """

    hmms: dict[int, Hmm]
    disambig: list[int]


def in_context(
    fst: FstArrays,
    hmms: Hmms,
    tree: ContextDependency,
    disambig: Collection[int],
    known: dict[tuple[int, ...], Hmm] | None = None,
) -> tuple[FstArrays, HmmLabels]:
    """Replace the input labels of ``fst``, phones and ``disambig`` symbols, by HMMs of phones in context.

    A label stands where the last phone of its window is read, ``context_width - 1 - central_position`` phones
    after its own phone; at the end as many empty places are read.

    Args:
        known: HMMs of windows, from earlier calls with the same model and tree; gets those of this one.

    Raises:
        ValueError: the tree is not the one of the model.
    """
    symbols = {symbol: k for k, symbol in enumerate(disambig, start=1)}
    expansion = _Expansion(fst, hmms, tree, symbols, {} if known is None else known)
    expanded = expansion.run()
    hmm_of = {label: hmm for hmm, label in expansion.label_of_hmm.items()}
    return expanded, HmmLabels(hmm_of, list(expansion.disambig.values()))


@dataclass
class _Expansion:
    fst: FstArrays
    hmms: Hmms
    tree: ContextDependency
    disambig: dict[int, int]
    hmm_of_window: dict[tuple[int, ...], Hmm]
    label_of_hmm: dict[Hmm, int] = field(default_factory=dict)
    label_of_window: dict[tuple[int, ...], int] = field(default_factory=dict)
    states: list[_State] = field(default_factory=list)
    numbers: dict[_State, int] = field(default_factory=dict)
    finals: list[float] = field(default_factory=list)
    sources: list[int] = field(default_factory=list)
    arcs: list[tuple[int, int, float, int]] = field(default_factory=list)

    def run(self) -> FstArrays:
        self._number(((0,) * (self.tree.context_width - 1), self.fst.start))
        for source, (history, state) in enumerate(self.states):  # grows as it is read
            if state >= 0:
                self._copy_arcs(source, history, state)
                self._end(source, history, 0, float(self.fst.finals[state]))
            else:
                self._end(source, history, -1 - state, 0.0)
        arcs = np.array(self.arcs, dtype=ARC)
        finals = np.array(self.finals, dtype=np.float32)
        return FstArrays.from_arcs(0, finals, np.array(self.sources, dtype=np.int64), arcs)

    def _copy_arcs(self, source: int, history: tuple[int, ...], state: int) -> None:
        first, end = self.fst.first_arcs[state : state + 2]
        for symbol, word, cost, target in self.fst.arcs[first:end].tolist():
            if symbol == 0 or symbol in self.disambig:
                self._add(source, self.disambig.get(symbol, 0), word, cost, (history, target))
            else:
                window = (*history, symbol)
                self._add(source, self._label(window), word, cost, (window[1:], target))

    def _end(self, source: int, history: tuple[int, ...], places: int, cost: float) -> None:
        """End here, or read one more of the empty places that the last windows need."""
        ahead = self.tree.context_width - 1 - self.tree.central_position
        self.finals.append(cost if places == ahead else np.inf)
        if places < ahead and cost < np.inf:
            window = (*history, 0)
            self._add(source, self._label(window), 0, cost, (window[1:], -2 - places))

    def _add(self, source: int, label: int, word: int, cost: float, target: _State) -> None:
        self.sources.append(source)
        self.arcs.append((label, word, cost, self._number(target)))

    def _number(self, state: _State) -> int:
        number = self.numbers.setdefault(state, len(self.states))
        if number == len(self.states):
            self.states.append(state)
        return number

    def _label(self, window: tuple[int, ...]) -> int:
        """Return the label of the HMM in the middle; 0 where no phone is there."""
        if window[self.tree.central_position] == 0:
            return 0
        if window not in self.label_of_window:
            if window not in self.hmm_of_window:
                self.hmm_of_window[window] = self.hmms.in_context(window, self.tree)
            hmm = self.hmm_of_window[window]
            next_label = len(self.disambig) + len(self.label_of_hmm) + 1
            self.label_of_window[window] = self.label_of_hmm.setdefault(hmm, next_label)
        return self.label_of_window[window]
