"""Determinization of word lattices: each sequence of words once, with its best path.

Source: Povey et al. 2012, "Generating exact lattices in the WFST framework"; Kaldi
``src/lat/determinize-lattice-pruned.cc``.  Here subsets of nodes are taken up best first, so that stopping
early keeps the best paths.
"""

import heapq
import math
from dataclasses import dataclass, field

import numpy as np

from asr_bn.decoding.lattices.word_graph import WordGraph
from asr_bn.kaldi_io.compact_lattice import CompactLattice, Weight

MOST_STATES = 20_000
# Costs of subsets that differ less are the same, as Kaldi's ``delta``.
_DELTA = 1 / 1024

Element = tuple[int, float, float, bytes]
"""A node, and what remains to be paid on the way there: graph cost, acoustic cost, transition-ids."""
Subset = tuple[Element, ...]


def determinize(words: WordGraph, beam: float, most_states: int = MOST_STATES) -> CompactLattice:
    """Determinize a graph of words.

    Args:
        words: the graph of words.
        beam: how much worse than the best path a path may be.
        most_states: subsets that are followed; the best are.
    """
    return _Determinizer(words, beam).run(most_states)


@dataclass
class _State:
    """A subset of nodes, the cost of the best path to it, and the arcs and end that were found for it."""

    subset: Subset
    cost: float
    arcs: list[tuple[int, int, float, float, bytes]] = field(default_factory=list)
    final: Weight | None = None
    is_done: bool = False


class _Determinizer:
    def __init__(self, words: WordGraph, beam: float) -> None:
        self._words, self._limit = words, words.best_cost + beam + 1e-6
        self._scale = words.scale
        self._states: list[_State] = []
        self._numbers: dict[tuple[tuple[int, int, bytes], ...], int] = {}
        self._queue: list[tuple[float, int]] = []

    def run(self, most_states: int) -> CompactLattice:
        self._begin()
        num_done = 0
        while self._queue and num_done < most_states:
            number = heapq.heappop(self._queue)[1]
            state = self._states[number]
            if state.is_done:
                continue
            state.is_done, num_done = True, num_done + 1
            state.final = self._final(state)
            for word, elements in self._successors(state).items():
                self._add_arc(state, word, elements)
        arcs = [(number, *arc) for number, state in enumerate(self._states) for arc in state.arcs]
        finals = {k: final for k, state in enumerate(self._states) if (final := state.final) is not None}
        return CompactLattice.sorted_from(arcs, finals, len(self._states), 0).trimmed()

    def _begin(self) -> None:
        """Words before the first frame become arcs from the start, without transition-ids."""
        its, extra = self._words, -1
        start: dict[int, Element] = {}
        for node, cost, spelled in its.start:
            for word in reversed(spelled):
                its.links[extra] = [(word, node, 0.0, 0.0, 0.0, b"")]
                its.best_from[extra] = its.best_from[node]
                node, extra = extra, extra - 1
            start[node] = (node, cost, 0.0, b"")
        self._states.append(_State(tuple(start.values()), 0.0))
        self._queue.append((0.0, 0))

    def _final(self, state: _State) -> Weight | None:
        best: tuple[float, Weight] | None = None
        for node, graph, acoustic, string in state.subset:
            ending = self._words.endings.get(node)
            if ending is None:
                continue
            total = graph + self._scale * acoustic + ending[2]
            if state.cost + total <= self._limit and (best is None or total < best[0]):
                best = total, (graph + ending[0], acoustic + ending[1], string + ending[3])
        return None if best is None else best[1]

    def _successors(self, state: _State) -> dict[int, dict[int, tuple[float, float, float, bytes]]]:
        """By word and node that it leads to: the best total, graph cost, acoustic cost and transition-ids."""
        found: dict[int, dict[int, tuple[float, float, float, bytes]]] = {}
        links, best_from, limit = self._words.links, self._words.best_from, self._limit - state.cost
        for node, graph, acoustic, string in state.subset:
            before = graph + self._scale * acoustic
            for word, target, its_graph, its_acoustic, cost, ids in links[node]:
                total = before + cost
                if total + best_from[target] > limit:
                    continue
                by_node = found.setdefault(word, {})
                known = by_node.get(target)
                if known is None or total < known[0]:
                    by_node[target] = total, graph + its_graph, acoustic + its_acoustic, string + ids
        return found

    def _add_arc(
        self, state: _State, word: int, by_node: dict[int, tuple[float, float, float, bytes]]
    ) -> None:
        """Pay on the arc what all elements have in common, and leave them the rest."""
        lowest, graph, acoustic, _ = min(by_node.values())
        common = _common_prefix([string for *_, string in by_node.values()])
        size = len(common)
        subset, key, ahead = [], [], math.inf
        for node in sorted(by_node):
            total, its_graph, its_acoustic, string = by_node[node]
            subset.append((node, its_graph - graph, its_acoustic - acoustic, string[size:]))
            key.append((node, round((total - lowest) / _DELTA), string[size:]))
            ahead = min(ahead, total - lowest + self._words.best_from[node])
        number = self._numbers.setdefault(tuple(key), len(self._states))
        cost = state.cost + lowest
        if number == len(self._states):
            self._states.append(_State(tuple(subset), cost))
            heapq.heappush(self._queue, (cost + ahead, number))
        elif cost < self._states[number].cost and not self._states[number].is_done:
            self._states[number].cost = cost
            heapq.heappush(self._queue, (cost + ahead, number))
        state.arcs.append((number, word, graph, acoustic, common))


def _common_prefix(strings: list[bytes]) -> bytes:
    """The transition-ids with which all begin."""
    low, high = min(strings), max(strings)  # whatever these have in common, all have
    if high.startswith(low):
        return low
    size = min(len(low), len(high)) // 4
    differ = np.frombuffer(low, "<i4", size) != np.frombuffer(high, "<i4", size)
    return low[: 4 * int(differ.argmax() if differ.any() else size)]
