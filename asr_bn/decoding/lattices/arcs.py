"""A decoding graph without epsilon arcs, as arrays: what a search over whole frames wants."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asr_bn.decoding.fst_file import FstArrays
from asr_bn.system.arrays import Doubles, IntVector

_MOST_EPSILONS = 1000


@dataclass(frozen=True)
class WordChains:
    """Sequences of words, each a word behind another sequence; number 0 is the empty one."""

    previous: IntVector
    word: IntVector

    def words(self, chain: int) -> tuple[int, ...]:
        """Return the words of a sequence, in their order."""
        found: list[int] = []
        while chain:
            found.append(int(self.word[chain]))
            chain = int(self.previous[chain])
        return tuple(reversed(found))


@dataclass(frozen=True)
class FrameArcs:
    """Arcs that take a frame each, with the epsilon arcs behind them; sorted by the states they lead to.

    Attributes:
        source, target: states, int32 ``[num_arcs]``.
        transition_id: their input labels.
        graph_cost: float64.
        chain: their words, as a number in ``chains``.
        finals: float64 ``[num_states]``, infinite where a state is not final.
        start: ways to states before the first frame.
        by_source, first_by_source: arcs of a state ``s`` are ``by_source[first_by_source[s]]`` and on.
    """

    source: IntVector
    target: IntVector
    transition_id: IntVector
    graph_cost: Doubles
    chain: IntVector
    chains: WordChains
    finals: Doubles
    start: "StartArcs"
    by_source: IntVector
    first_by_source: NDArray[np.int64]

    @classmethod
    def of(cls, fst: FstArrays) -> "FrameArcs":
        """Join each arc that takes a frame with every path of epsilon arcs behind it.

        Raises:
            ValueError: epsilon arcs lead round in a circle.
        """
        paths = _Paths(fst)
        emitting = np.flatnonzero(fst.arcs["ilabel"] > 0)
        sources = np.repeat(np.arange(len(fst.finals)), np.diff(fst.first_arcs))
        root, target, cost, chain = paths.follow(emitting, fst.arcs[emitting])
        order = np.argsort(target, kind="stable")
        root, target, cost, chain = root[order], target[order], cost[order], chain[order]
        source = sources[root].astype(np.int32)
        by_source = np.argsort(source, kind="stable").astype(np.int32)
        counts = np.bincount(source, minlength=len(fst.finals))
        begin = np.zeros(1, dtype=fst.arcs.dtype)
        begin["nextstate"] = fst.start
        _, begins_at, begin_cost, begin_chain = paths.follow(np.zeros(1, dtype=np.int64), begin)
        return cls(
            source,
            target,
            fst.arcs["ilabel"][root].astype(np.int32),
            cost,
            chain,
            paths.chains(),
            fst.finals.astype(np.float64),
            StartArcs(begins_at, begin_cost, begin_chain),
            by_source,
            np.concatenate([[0], np.cumsum(counts)]),
        )


@dataclass(frozen=True)
class StartArcs:
    """Ways from the start state over epsilon arcs: where they lead, their costs and words."""

    target: IntVector
    graph_cost: Doubles
    chain: IntVector


class _Paths:
    """Paths of epsilon arcs, and the sequences of words that they make."""

    def __init__(self, fst: FstArrays) -> None:
        is_epsilon = fst.arcs["ilabel"] == 0
        self._arcs = fst.arcs[is_epsilon]
        sums = np.concatenate([[0], np.cumsum(is_epsilon)])
        self._first = sums[fst.first_arcs]
        # A state that neither takes a frame nor ends a path is only passed through.
        self._is_useful = (np.diff(fst.first_arcs) > np.diff(self._first)) | np.isfinite(fst.finals)
        self._numbers: dict[tuple[int, int], int] = {}

    def follow(
        self, roots: NDArray[np.int64], arcs: NDArray[np.void]
    ) -> tuple[NDArray[np.int64], IntVector, Doubles, IntVector]:
        """Return roots, states, costs and words of ``arcs`` and of all paths of epsilon arcs behind them."""
        found = []
        root, target = roots, arcs["nextstate"].astype(np.int32)
        cost, chain = arcs["weight"].astype(np.float64), self._extend(np.zeros(len(arcs), np.int32), arcs)
        for _ in range(_MOST_EPSILONS):
            kept = self._is_useful[target]
            found.append((root[kept], target[kept], cost[kept], chain[kept]))
            rows, nth = spread(self._first[target], self._first[target + 1])
            if not len(rows):
                roots, targets, costs, chains = (np.concatenate(each) for each in zip(*found, strict=True))
                return roots, targets, costs, chains
            behind = self._arcs[nth]
            root, target = root[rows], behind["nextstate"].astype(np.int32)
            cost, chain = cost[rows] + behind["weight"], self._extend(chain[rows], behind)
        raise ValueError("the graph has a circle of arcs that take no frame")

    def _extend(self, chain: IntVector, arcs: NDArray[np.void]) -> IntVector:
        chain = chain.copy()
        for k in np.flatnonzero(arcs["olabel"]).tolist():
            pair = int(chain[k]), int(arcs["olabel"][k])
            chain[k] = self._numbers.setdefault(pair, len(self._numbers) + 1)
        return chain

    def chains(self) -> WordChains:
        pairs = np.array([(0, 0), *self._numbers], dtype=np.int32)
        return WordChains(pairs[:, 0].copy(), pairs[:, 1].copy())


def spread(first: NDArray[np.int64], end: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Write out ranges: for each of their members the number of the range, and the member."""
    counts = end - first
    rows = np.repeat(np.arange(len(counts)), counts)
    starts = first - (np.cumsum(counts) - counts)
    return rows, np.arange(len(rows)) + starts[rows]
