"""From a state-level lattice to a graph of words: the best path between each two places where words begin."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asr_bn.decoding.lattices.arcs import WordChains, spread
from asr_bn.decoding.lattices.search import StateLattice
from asr_bn.system.arrays import Doubles, IntVector

Link = tuple[int, int, float, float, float, bytes]
"""Word, node it leads to, graph cost, acoustic cost, both with the scale, and transition-ids (int32)."""
Ending = tuple[float, float, float, bytes]
"""Graph cost, acoustic cost, both with the scale, and transition-ids of the best path to the end."""


@dataclass(frozen=True)
class WordGraph:
    """Words between nodes, without arcs that have none.

    Attributes:
        scale: of the acoustic costs.
        start: node, cost (of the graph) and words before the first frame.
        links: by node.
        endings: by node, where no other word needs to come.
        best_from: cost of the best path from a node to the end.
        best_cost: of all.
    """

    scale: float
    start: list[tuple[int, float, tuple[int, ...]]]
    links: dict[int, list[Link]]
    endings: dict[int, Ending]
    best_from: dict[int, float]
    best_cost: float

    @classmethod
    def of(cls, lattice: StateLattice, chains: WordChains, beam: float) -> "WordGraph":
        """Drop arcs without words; only paths within ``beam`` of the best stay."""
        return _Builder(lattice, chains, beam).build()


@dataclass
class _Paths:
    """Paths from sources, which are nodes behind words, to nodes after the same number of frames."""

    source: NDArray[np.intp]
    node: NDArray[np.intp]
    graph: Doubles
    acoustic: Doubles
    number: NDArray[np.intp]

    def taken(self, kept: NDArray[np.intp] | NDArray[np.bool_]) -> "_Paths":
        return _Paths(*(column[kept] for column in vars(self).values()))

    @staticmethod
    def joined(parts: "list[_Paths]") -> "_Paths":
        columns = zip(*(vars(part).values() for part in parts), strict=True)
        return _Paths(*(np.concatenate(column) for column in columns))


class _Builder:
    def __init__(self, lattice: StateLattice, chains: WordChains, beam: float) -> None:
        self._lattice, self._chains = lattice, chains
        self._limit = lattice.best_cost + beam + 1e-6
        self._first_arc = np.searchsorted(lattice.source, np.arange(len(lattice.best_to) + 1))
        self._is_source = np.zeros(len(lattice.best_to), dtype=bool)
        self._is_source[lattice.target[lattice.chain > 0]] = True
        self._is_source[: lattice.first_nodes[1]] = True
        sums = np.concatenate([[0], np.cumsum(self._is_source)])[lattice.first_nodes]
        self._begins = np.diff(sums).tolist()
        # Of every path: the one that it continues, and its last transition-id.
        self._previous: list[NDArray[np.intp]] = []
        self._ids: list[IntVector] = []
        self._num_paths = 0

    def build(self) -> WordGraph:
        its, ended, chains = self._lattice, [], []
        paths = self._beginning_at(0)
        for frame in range(len(its.first_nodes) - 2):
            paths, chain = self._advance(paths)
            has_words = chain > 0
            if has_words.any():
                words, chain = paths.taken(has_words), chain[has_words]
                best = _best_of_each([chain, words.node, words.source], self._costs(words))
                ended.append(words.taken(best))
                chains.append(chain[best])
                paths = paths.taken(~has_words)
            pairs = paths.source * len(its.best_to) + paths.node
            if len(pairs) > 1:
                paths = paths.taken(_best_of_each([pairs], self._costs(paths)))
            if self._begins[frame + 1]:
                paths = _Paths.joined([paths, self._beginning_at(frame + 1)])
        finals = its.final_costs[paths.node - its.first_nodes[-2]]
        paths.graph = paths.graph + finals
        ends = paths.taken(_best_of_each([paths.source], self._costs(paths)))
        ended.append(paths.taken(np.zeros(0, dtype=np.intp)))  # where there is no word at all
        chains.append(np.zeros(0, dtype=np.int32))
        return self._collected(_Paths.joined(ended), np.concatenate(chains), ends)

    def _costs(self, paths: _Paths) -> Doubles:
        return paths.graph + self._lattice.scale * paths.acoustic

    def _beginning_at(self, frame: int) -> _Paths:
        first, end = self._lattice.first_nodes[frame : frame + 2]
        nodes = first + np.flatnonzero(self._is_source[first:end])
        zeros = np.zeros(len(nodes))
        nothing = np.full(len(nodes), -1, dtype=np.intp)
        return _Paths(nodes, nodes, zeros, zeros, nothing)

    def _advance(self, paths: _Paths) -> tuple[_Paths, IntVector]:
        its = self._lattice
        rows, arcs = spread(self._first_arc[paths.node], self._first_arc[paths.node + 1])
        graph = paths.graph[rows] + its.graph_cost[arcs]
        acoustic = paths.acoustic[rows] + its.acoustic_cost[arcs]
        source, node = paths.source[rows], its.target[arcs]
        total = its.best_to[source] + graph + its.scale * acoustic + its.best_from[node]
        kept = np.flatnonzero(total <= self._limit)
        rows, arcs = rows[kept], arcs[kept]
        self._previous.append(paths.number[rows])
        self._ids.append(its.transition_id[arcs])
        numbers = np.arange(self._num_paths, self._num_paths + len(kept))
        self._num_paths += len(kept)
        return _Paths(source[kept], node[kept], graph[kept], acoustic[kept], numbers), its.chain[arcs]

    def _collected(self, words: _Paths, chains: IntVector, ends: _Paths) -> WordGraph:
        its = self._lattice
        nodes = np.flatnonzero(self._is_source).tolist()
        best_from = dict(zip(nodes, its.best_from[nodes].tolist(), strict=True))
        links = self._links(words, chains, nodes, best_from)
        columns = ends.graph.tolist(), ends.acoustic.tolist(), self._costs(ends).tolist()
        weights = zip(*columns, self._strings(ends.number), strict=True)
        endings = dict(zip(ends.source.tolist(), weights, strict=True))
        begins = map(self._chains.words, its.start_chains.tolist())
        start = list(zip(range(len(its.start_chains)), its.start_graph_costs.tolist(), begins, strict=True))
        return WordGraph(its.scale, start, links, endings, best_from, its.best_cost)

    def _links(
        self, words: _Paths, chains: IntVector, nodes: list[int], best_from: dict[int, float]
    ) -> dict[int, list[Link]]:
        """Collect words by source; several words on an arc get nodes in between, at the same time."""
        links: dict[int, list[Link]] = {node: [] for node in nodes}
        spelled = {chain: self._chains.words(chain) for chain in np.unique(chains).tolist()}
        places = words.source.tolist(), words.node.tolist(), chains.tolist()
        costs = words.graph.tolist(), words.acoustic.tolist(), self._costs(words).tolist()
        extra = len(self._lattice.best_to)
        rows = zip(*places, *costs, self._strings(words.number), strict=True)
        for source, node, chain, graph, acoustic, cost, string in rows:
            first, *rest = spelled[chain]
            for word in reversed(rest):
                links[extra] = [(word, node, 0.0, 0.0, 0.0, b"")]
                best_from[extra] = best_from[node]
                node, extra = extra, extra + 1
            links[source].append((first, node, graph, acoustic, cost, string))
        return links

    def _strings(self, numbers: NDArray[np.intp]) -> list[bytes]:
        """Transition-ids of paths, all followed back at once."""
        previous, ids = np.concatenate(self._previous), np.concatenate(self._ids)
        num_strings, rows = len(numbers), np.arange(len(numbers))
        found: list[tuple[NDArray[np.intp], IntVector]] = []
        while not found or len(rows):
            alive = numbers >= 0
            rows, numbers = rows[alive], numbers[alive]
            found.append((rows, ids[numbers]))
            numbers = previous[numbers]
        row, tid = (np.concatenate(each) for each in zip(*reversed(found), strict=True))
        order = np.argsort(row, kind="stable")
        ends = np.cumsum(np.bincount(row, minlength=num_strings))
        data = tid[order].astype("<i4").tobytes()
        return [data[4 * a : 4 * b] for a, b in zip([0, *ends.tolist()], ends.tolist(), strict=False)]


def _best_of_each(keys: list[NDArray[Any]], costs: Doubles) -> NDArray[np.intp]:
    """Choose the cheapest of those that have all of the keys in common."""
    order = np.lexsort([costs, *keys])
    changes = np.zeros(len(order), dtype=bool)
    changes[:1] = True
    for key in keys:
        ordered = key[order]
        changes[1:] |= ordered[1:] != ordered[:-1]
    return order[changes]
