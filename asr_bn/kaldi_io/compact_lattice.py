"""Kaldi's compact lattices: acceptors of words whose arcs have costs and transition-ids.

Source: Kaldi ``src/fstext/lattice-weight.h``, ``src/lat/kaldi-lattice.cc``; OpenFst ``vector-fst.h``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asr_bn.system.arrays import Doubles, IntVector

Arc = tuple[int, int, int, float, float, bytes]
"""Source, target, word, graph cost, acoustic cost, transition-ids."""
Weight = tuple[float, float, bytes]
"""Graph cost, acoustic cost, transition-ids (little-endian int32)."""


@dataclass(frozen=True)
class CompactLattice:
    """An acyclic acceptor whose states are sorted: arcs lead from lower to higher numbers; 0 is the start.

    Without states it is the empty lattice, as of an utterance without frames.

    Attributes:
        source, target: states, ``[num_arcs]``, sorted by source.
        word: numbers in ``words.txt``; 0 is none.
        graph_cost, acoustic_cost: float64; the acoustic one is not scaled.
        transition_ids: of each arc, little-endian int32.
        finals: by state, for those where a path may end.
        num_states: how many there are.
    """

    source: IntVector
    target: IntVector
    word: IntVector
    graph_cost: Doubles
    acoustic_cost: Doubles
    transition_ids: Sequence[bytes]
    finals: dict[int, Weight]
    num_states: int

    @classmethod
    def of_arcs(cls, arcs: Sequence[Arc], finals: dict[int, Weight], num_states: int) -> "CompactLattice":
        """Build a lattice of ``arcs`` that are sorted by source and lead to higher states."""
        source, target, word = (np.array([arc[k] for arc in arcs], dtype=np.int32) for k in range(3))
        graph_cost, acoustic_cost = (np.array([arc[k] for arc in arcs], dtype=np.float64) for k in (3, 4))
        strings = [arc[5] for arc in arcs]
        return cls(source, target, word, graph_cost, acoustic_cost, strings, finals, num_states)

    @classmethod
    def joined(cls, lattices: Sequence["CompactLattice"]) -> "CompactLattice":
        """Put lattices one behind the other, with arcs without a word from the ends of one to the next."""
        if len(lattices) == 1:
            return lattices[0]
        arcs: list[Arc] = []
        first = 0
        for lattice in lattices[:-1]:
            begin = first + lattice.num_states
            its = [(first + arc[0], first + arc[1], *arc[2:]) for arc in lattice.rows()]
            ends = [(first + state, begin, 0, *weight) for state, weight in lattice.finals.items()]
            arcs += sorted([*its, *ends], key=lambda arc: arc[0])
            first = begin
        arcs += [(first + arc[0], first + arc[1], *arc[2:]) for arc in lattices[-1].rows()]
        finals = {first + state: weight for state, weight in lattices[-1].finals.items()}
        return cls.of_arcs(arcs, finals, first + lattices[-1].num_states)

    @property
    def first_arcs(self) -> NDArray[np.int64]:
        """Shape ``[num_states + 1]``: arcs of state ``s`` are ``first_arcs[s]`` and on."""
        return np.searchsorted(self.source, np.arange(self.num_states + 1))

    @classmethod
    def sorted_from(
        cls, arcs: Sequence[Arc], finals: dict[int, Weight], num_states: int, start: int
    ) -> "CompactLattice":
        """Build a lattice whose states are numbered in any way; they stay as they are where they are sorted.

        States that the start does not lead to are left out where they are numbered anew.

        Raises:
            ValueError: the arcs lead round in a circle.
        """
        if start == 0 and all(arc[1] > arc[0] for arc in arcs):
            return cls.of_arcs(arcs, finals, num_states)
        leaving: dict[int, list[Arc]] = {}
        for arc in arcs:
            leaving.setdefault(arc[0], []).append(arc)
        order = _topological_order(leaving, num_states, start)
        new = {state: number for number, state in enumerate(order)}
        rows = [(new[arc[0]], new[arc[1]], *arc[2:]) for state in order for arc in leaving.get(state, [])]
        kept = {new[state]: weight for state, weight in finals.items() if state in new}
        return cls.of_arcs(rows, kept, len(order))

    def rows(self) -> list[Arc]:
        """Return the arcs one by one."""
        costs = self.graph_cost.tolist(), self.acoustic_cost.tolist()
        labels = self.source.tolist(), self.target.tolist(), self.word.tolist()
        return list(zip(*labels, *costs, self.transition_ids, strict=True))

    def trimmed(self) -> "CompactLattice":
        """Leave out states from which no path ends; without any path it is the empty lattice."""
        ends = np.zeros(self.num_states, dtype=bool)
        ends[list(self.finals)] = True
        first = self.first_arcs.tolist()
        for state in range(self.num_states - 1, -1, -1):
            ends[state] |= ends[self.target[first[state] : first[state + 1]]].any()
        if not ends[:1].any():
            return CompactLattice.of_arcs([], {}, 0)
        new = (np.cumsum(ends) - 1).tolist()
        kept = [(new[arc[0]], new[arc[1]], *arc[2:]) for arc in self.rows() if ends[arc[0]] and ends[arc[1]]]
        return CompactLattice.of_arcs(
            kept, {new[state]: weight for state, weight in self.finals.items()}, int(ends.sum())
        )


def _topological_order(leaving: Mapping[int, Sequence[Arc]], num_states: int, start: int) -> list[int]:
    """Sort the states that ``start`` leads to, by depth first search."""
    if start < 0:
        return []
    finished: list[int] = []
    marks = bytearray(num_states)  # 1: on the way, 2: finished
    stack = [(start, iter(leaving.get(start, ())))]
    marks[start] = 1
    while stack:
        state, rest = stack[-1]
        target = next((arc[1] for arc in rest if marks[arc[1]] != 2), None)
        if target is None:
            marks[state] = 2
            finished.append(state)
            stack.pop()
        elif marks[target] == 1:
            raise ValueError("its arcs lead round in a circle")
        else:
            marks[target] = 1
            stack.append((target, iter(leaving.get(target, ()))))
    return finished[::-1]
