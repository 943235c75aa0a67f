"""Word confidences: how likely a word of the hypothesis stands at its place, over the paths of a lattice.

Every path is matched to the hypothesis with the fewest edits, on average over the paths that share a state.
Source: Xu et al. 2011, "Minimum Bayes Risk decoding and system combination based on a recursion for edit
distance"; Kaldi ``src/lat/sausages.cc`` (``AccStats``).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asr_bn.decoding.lattices.paths import LatticePath, weighted_costs
from asr_bn.decoding.search_options import ScoreWeights
from asr_bn.kaldi_io.compact_lattice import CompactLattice
from asr_bn.system.arrays import Doubles, IntVector

# An insertion costs a little more than a substitution, as in Kaldi, so that ties are matched.
_INSERTION = 1 + 1e-5


def word_confidences(
    lattice: CompactLattice, path: LatticePath, weights: ScoreWeights, posterior_scale: float
) -> list[float]:
    """Compute the confidence of each word of ``path``, from 0 to 1.

    States that all paths go through cut the lattice into pieces, each of which is matched by itself, so that
    an hour of speech takes no more memory than its longest piece.

    Args:
        weights: of the lattice's costs.
        posterior_scale: a factor of the weighted costs; below 1 the alternatives count for more.
    """
    arcs, ends = (-posterior_scale * each[:, 0] for each in weighted_costs(lattice, [weights]))
    chosen = np.array(path.arcs, dtype=np.intp)
    confidences: list[float] = []
    for first, last in _pieces(lattice):
        sources = lattice.source[chosen]
        words = lattice.word[chosen[(sources >= first) & ((sources < last) | (last == lattice.num_states))]]
        if (words > 0).any():
            piece = _Piece.of(lattice, first, last, arcs, ends)
            confidences += _Match(piece, words[words > 0]).confidences().tolist()
    return confidences


def _pieces(lattice: CompactLattice) -> Iterator[tuple[int, int]]:
    """Yield first and last states of consecutive pieces; the last piece ends with the lattice."""
    first, farthest = 0, 0
    first_arcs, targets = lattice.first_arcs.tolist(), lattice.target.tolist()
    for state in range(lattice.num_states):
        if state == farthest > first:
            yield first, state
            first = state
        farthest = max([farthest, *targets[first_arcs[state] : first_arcs[state + 1]]])
        if state in lattice.finals:  # a path ends here, so that no later state is on all
            break
    yield first, lattice.num_states


@dataclass(frozen=True)
class _Piece:
    """Arcs between nodes, sorted by target; node 0 is the beginning, the last one the end.

    ``share`` is the probability of an arc among all paths that lead to its target.
    """

    source: IntVector
    word: IntVector
    share: Doubles
    first_arcs: NDArray[np.int64]

    @classmethod
    def of(cls, lattice: CompactLattice, first: int, last: int, arcs: Doubles, ends: Doubles) -> "_Piece":
        its = slice(*np.searchsorted(lattice.source, [first, last]))
        source, target, word = (each[its] - first for each in (lattice.source, lattice.target, lattice.word))
        word, weight = word + first, arcs[its]
        if last == lattice.num_states:
            finals = np.array([state for state in lattice.finals if state >= first], dtype=np.int32)
            source = np.concatenate([source, finals - first])
            target = np.concatenate([target, np.full(len(finals), last - first)])
            word = np.concatenate([word, np.zeros(len(finals), dtype=np.int32)])
            weight = np.concatenate([weight, ends[finals]])
        order = np.argsort(target, kind="stable")
        source, target, word, weight = source[order], target[order], word[order], weight[order]
        first_arcs = np.searchsorted(target, np.arange(last - first + 2))
        return cls(source, word, _shares(source, weight, first_arcs.tolist()), first_arcs)


def _shares(source: IntVector, weight: Doubles, first_arcs: list[int]) -> Doubles:
    sums, shares = np.zeros(len(first_arcs) - 1), np.zeros(len(source))
    for node in range(1, len(sums)):
        its = slice(first_arcs[node], first_arcs[node + 1])
        terms = sums[source[its]] + weight[its]
        highest = terms.max()
        likely = np.exp(terms - highest)
        sums[node] = highest + np.log(likely.sum())
        shares[its] = likely / likely.sum()
    return shares


class _Match:
    """Matches all paths of a piece to the words of the hypothesis, of which there are ``Q``."""

    def __init__(self, piece: _Piece, words: IntVector) -> None:
        self._piece, self._words = piece, words
        self._places = np.arange(len(words) + 1)
        self._is_same = piece.word[:, None] == words
        first = piece.first_arcs.tolist()
        self._incoming = [slice(*each) for each in zip(first[:-1], first[1:], strict=True)]

    def confidences(self) -> Doubles:
        """Sum the probabilities of the paths whose word at each place is the hypothesis's, ``[Q]``."""
        shape = len(self._piece.source), len(self._places)
        self._is_deletion, self._is_match = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
        self._measure()
        return self._collect()

    def _measure(self) -> None:
        """Compute expected edit distances from node to node, and which edit is best on each arc."""
        its, places = self._piece, self._places
        distances = np.zeros((len(self._incoming), len(places)))
        distances[0] = places
        for node, arcs in enumerate(self._incoming[1:], start=1):
            before = distances[its.source[arcs]]
            inserted = before + np.where(its.word[arcs] > 0, _INSERTION, 0.0)[:, None]
            matched = np.full_like(before, np.inf)
            matched[:, 1:] = before[:, :-1] + ~self._is_same[arcs]
            best = np.minimum(inserted, matched)
            # A deletion costs 1 a place: the lowest of all places before.
            after = np.minimum.accumulate(best - places, axis=1) + places
            self._is_match[arcs], self._is_deletion[arcs] = matched <= inserted, after < best - 1e-9
            distances[node] = its.share[arcs] @ after

    def _collect(self) -> Doubles:
        """Follow the probability of all paths back through the best edits."""
        its, found = self._piece, np.zeros(len(self._words))
        mass = np.zeros((len(self._incoming), len(self._places)))
        mass[-1, -1] = 1.0
        for node in range(len(self._incoming) - 1, 0, -1):
            arcs = self._incoming[node]
            its_mass = its.share[arcs, None] * mass[node]
            kept = np.maximum.accumulate(np.where(self._is_deletion[arcs], 0, self._places), axis=1)
            moved = np.zeros_like(its_mass)
            np.add.at(moved, (np.arange(len(moved))[:, None], kept), its_mass)
            matched = np.where(self._is_match[arcs], moved, 0.0)
            found += (matched[:, 1:] * self._is_same[arcs]).sum(axis=0)
            before = moved - matched
            before[:, :-1] += matched[:, 1:]
            np.add.at(mass, its.source[arcs], before)
        return np.minimum(found, 1.0)
