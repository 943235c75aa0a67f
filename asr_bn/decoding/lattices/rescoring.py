"""Other language models for lattices: the costs of the old one are taken off, those of the new one added.

Source: Kaldi ``src/latbin/lattice-lmrescore.cc`` (twice: with ``--lm-scale=-1`` and 1).
"""

import math

from asr_bn.decoding.lattices.grammar_costs import GrammarCosts, History
from asr_bn.kaldi_io.compact_lattice import Arc, CompactLattice, Weight

_Place = tuple[int, History, History]


def rescore_lattice(lattice: CompactLattice, old: GrammarCosts, new: GrammarCosts) -> CompactLattice:
    """Replace the costs of grammar ``old`` by those of ``new``.

    States are split where the histories of words differ.  Paths that one of both does not accept are left
    out; a lattice without any other is returned empty.
    """
    if not lattice.num_states:
        return lattice
    return _Rescorer(lattice, old, new).run()


class _Rescorer:
    def __init__(self, lattice: CompactLattice, old: GrammarCosts, new: GrammarCosts) -> None:
        self._lattice, self._old, self._new = lattice, old, new
        self._first = lattice.first_arcs.tolist()
        self._rows = lattice.rows()

    def run(self) -> CompactLattice:
        (less, old), (more, new) = self._old.start(), self._new.start()
        self._begin = more - less
        start: _Place = (0, old, new)
        self._numbers = {start: 0}
        self._places = [start]
        arcs: list[Arc] = []
        finals: dict[int, Weight] = {}
        for number, (state, old, new) in enumerate(self._places):
            if (final := self._final(state, old, new)) is not None:
                finals[number] = final
            for _, target, word, graph, acoustic, string in self._rows[
                self._first[state] : self._first[state + 1]
            ]:
                step = self._step(word, target, old, new)
                if step is not None:
                    arcs.append((number, self._number(step[1]), word, graph + step[0], acoustic, string))
        return CompactLattice.sorted_from(self._with_begin(arcs), finals, len(self._places), 0).trimmed()

    def _with_begin(self, arcs: list[Arc]) -> list[Arc]:
        """Charge what both grammars charge before the first word; no arc leads back to the start."""
        return [
            (a, b, word, graph + self._begin, acoustic, ids) if a == 0 else (a, b, word, graph, acoustic, ids)
            for a, b, word, graph, acoustic, ids in arcs
        ]

    def _step(self, word: int, target: int, old: History, new: History) -> tuple[float, _Place] | None:
        if word == 0:
            return 0.0, (target, old, new)
        less, more = self._old.step(old, word), self._new.step(new, word)
        if less is None or more is None:
            return None
        return more[0] - less[0], (target, less[1], more[1])

    def _number(self, place: _Place) -> int:
        number = self._numbers.setdefault(place, len(self._places))
        if number == len(self._places):
            self._places.append(place)
        return number

    def _final(self, state: int, old: History, new: History) -> Weight | None:
        if state not in self._lattice.finals:
            return None
        graph, acoustic, string = self._lattice.finals[state]
        change = self._new.final(new) - self._old.final(old)
        if not math.isfinite(change):
            return None
        return graph + change + (self._begin if state == 0 else 0.0), acoustic, string
