"""Small lattices, and decoding graphs with all of their paths enumerated."""

import itertools
from collections.abc import Sequence

import numpy as np

from asr_bn.decoding.fst_file import ARC, FstArrays
from asr_bn.kaldi_io.compact_lattice import Arc, CompactLattice
from asr_bn.system.arrays import Floats


def ids(*transition_ids: int) -> bytes:
    """Encode transition-ids as a lattice holds them."""
    return np.array(transition_ids, dtype="<i4").tobytes()


def chain(words: Sequence[int], costs: tuple[float, float] = (0.0, 0.0)) -> CompactLattice:
    """Build a lattice of one path, a frame a word, which costs ``costs`` (graph, acoustic) in all."""
    arcs: list[Arc] = [(k, k + 1, word, 0.0, 0.0, ids(k + 1)) for k, word in enumerate(words)]
    return CompactLattice.of_arcs(arcs, {len(words): (*costs, b"")}, len(words) + 1)


def slots(*alternatives: dict[int, float]) -> CompactLattice:
    """Build a lattice of which every path takes a word of each slot at its graph cost; 0 is no word."""
    arcs: list[Arc] = [
        (k, k + 1, word, cost, 0.0, ids(k + 1))
        for k, words in enumerate(alternatives)
        for word, cost in words.items()
    ]
    end = len(alternatives)
    return CompactLattice.of_arcs(arcs, {end: (0.0, 0.0, b"")}, end + 1)


def random_graph(seed: int, num_states: int = 4, num_ids: int = 3, num_words: int = 3) -> FstArrays:
    """Make a graph whose arcs without a frame lead to higher states, so that they make no circle."""
    rng = np.random.default_rng(seed)
    sources, arcs = [], []
    for source, target in itertools.product(range(num_states), repeat=2):
        for _ in range(int(rng.choice(3, p=[0.4, 0.5, 0.1]))):
            ilabel = int(rng.integers(0 if target > source else 1, num_ids + 1))
            word = int(rng.integers(0, num_words + 1)) if rng.random() < 0.5 else 0
            sources.append(source)
            arcs.append((ilabel, word, rng.random() * 3, target))
    finals = np.where(rng.random(num_states) < 0.5, rng.random(num_states), np.inf).astype(np.float32)
    finals[-1] = 0.5
    return FstArrays.from_arcs(0, finals, np.array(sources, np.int64), np.array(arcs, dtype=ARC))


def all_sentences(fst: FstArrays, log_likelihoods: Floats, scale: float) -> dict[tuple[int, ...], float]:
    """Enumerate all paths of a graph, one after the other; return the cost of each sequence of words.

    Transition-id ``k`` is scored by column ``k - 1``.
    """
    best: dict[tuple[int, ...], float] = {}

    def follow(state: int, frame: int, words: tuple[int, ...], cost: float) -> None:
        if frame == len(log_likelihoods) and np.isfinite(fst.finals[state]):
            total = cost + float(fst.finals[state])
            best[words] = min(total, best.get(words, np.inf))
        for arc in fst.arcs[fst.first_arcs[state] : fst.first_arcs[state + 1]]:
            behind = (*words, int(arc["olabel"])) if arc["olabel"] else words
            its_cost = cost + float(arc["weight"])
            if arc["ilabel"] == 0:
                follow(int(arc["nextstate"]), frame, behind, its_cost)
            elif frame < len(log_likelihoods):
                acoustic = -scale * float(log_likelihoods[frame, arc["ilabel"] - 1])
                follow(int(arc["nextstate"]), frame + 1, behind, its_cost + acoustic)

    follow(fst.start, 0, (), 0.0)
    return best
