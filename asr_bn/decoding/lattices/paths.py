"""Paths through a compact lattice: the best under many weights at once, and the n best."""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from asr_bn.decoding.search_options import ScoreWeights
from asr_bn.kaldi_io.compact_lattice import CompactLattice
from asr_bn.system.arrays import Doubles, IntVector


@dataclass(frozen=True)
class LatticePath:
    """A path to the end of a lattice.

    Attributes:
        arcs: of the lattice, in their order.
        words: their numbers, without those that are none.
        transition_ids: int32 ``[num_frames]``, its alignment.
        graph_cost, acoustic_cost: their sums, the acoustic one not scaled.
    """

    arcs: tuple[int, ...]
    words: tuple[int, ...]
    transition_ids: IntVector
    graph_cost: float
    acoustic_cost: float

    @classmethod
    def of(cls, lattice: CompactLattice, arcs: Sequence[int]) -> "LatticePath":
        """Sum up a path of ``arcs`` from the start to a final state."""
        state = int(lattice.target[arcs[-1]]) if arcs else 0
        graph, acoustic, string = lattice.finals[state]
        indices = np.array(arcs, dtype=np.intp)
        words = lattice.word[indices]
        joined = b"".join([*(lattice.transition_ids[arc] for arc in arcs), string])
        return cls(
            tuple(arcs),
            tuple(words[words > 0].tolist()),
            np.frombuffer(joined, dtype="<i4").astype(np.int32, copy=False),
            float(lattice.graph_cost[indices].sum()) + graph,
            float(lattice.acoustic_cost[indices].sum()) + acoustic,
        )


def weighted_costs(lattice: CompactLattice, weights: Sequence[ScoreWeights]) -> tuple[Doubles, Doubles]:
    """Weigh the costs of arcs ``[num_arcs, num_weights]`` and of ends ``[num_states, num_weights]``.

    Where no path ends, the cost is infinite."""
    scales = np.array([each.acoustic_scale for each in weights])
    penalties = np.array([each.word_penalty for each in weights])
    arcs = lattice.graph_cost[:, None] + lattice.acoustic_cost[:, None] * scales
    arcs += (lattice.word > 0)[:, None] * penalties
    ends = np.full((lattice.num_states, len(weights)), np.inf)
    for state, (graph, acoustic, _) in lattice.finals.items():
        ends[state] = graph + acoustic * scales
    return arcs, ends


def costs_to_end(lattice: CompactLattice, arcs: Doubles, ends: Doubles) -> Doubles:
    """Compute the cost of the best path from each state to the end, ``[num_states, num_weights]``."""
    costs, first = ends.copy(), lattice.first_arcs.tolist()
    for state in range(lattice.num_states - 1, -1, -1):
        its = slice(first[state], first[state + 1])
        if its.start < its.stop:
            behind = arcs[its] + costs[lattice.target[its]]
            np.minimum(costs[state], behind.min(axis=0), out=costs[state])
    return costs


def best_paths(lattice: CompactLattice, weights: Sequence[ScoreWeights]) -> list[LatticePath]:
    """Find the best path under each of ``weights``; raises ``ValueError`` for an empty lattice."""
    if not lattice.num_states:
        raise ValueError("a lattice without states has no path")
    arcs, ends = weighted_costs(lattice, weights)
    costs = costs_to_end(lattice, arcs, ends)
    found: dict[tuple[int, ...], LatticePath] = {}
    paths = []
    for column in range(len(weights)):
        chosen = _descend(lattice, arcs[:, column], ends[:, column], costs[:, column])
        if chosen not in found:
            found[chosen] = LatticePath.of(lattice, chosen)
        paths.append(found[chosen])
    return paths


def _descend(lattice: CompactLattice, arcs: Doubles, ends: Doubles, costs: Doubles) -> tuple[int, ...]:
    first, state, chosen = lattice.first_arcs, 0, []
    while ends[state] > costs[state]:
        its = slice(first[state], first[state + 1])
        arc = int(its.start + (arcs[its] + costs[lattice.target[its]]).argmin())
        chosen.append(arc)
        state = int(lattice.target[arc])
    return tuple(chosen)


def n_best(lattice: CompactLattice, weights: ScoreWeights, most: int) -> Iterator[LatticePath]:
    """Yield up to ``most`` paths, the best first; in a determinized lattice no two have the same words."""
    if not lattice.num_states:
        return
    arcs, ends = (each[:, 0] for each in weighted_costs(lattice, [weights]))
    ahead = costs_to_end(lattice, arcs[:, None], ends[:, None])[:, 0]
    first = lattice.first_arcs.tolist()
    # The cost of the best path that begins so, a number that makes ties stable, cost so far, arcs, and state.
    queue: list[tuple[float, int, float, tuple[int, ...], int]] = [(float(ahead[0]), 0, 0.0, (), 0)]
    pushed = 1
    while queue and most > 0:
        _, _, cost, chosen, state = heapq.heappop(queue)
        if state < 0:
            most -= 1
            yield LatticePath.of(lattice, chosen)
            continue
        ways = [(arc, arcs[arc], int(lattice.target[arc])) for arc in range(first[state], first[state + 1])]
        for arc, its_cost, target in ways:
            so_far = cost + float(its_cost)
            heapq.heappush(queue, (so_far + float(ahead[target]), pushed, so_far, (*chosen, arc), target))
            pushed += 1
        if np.isfinite(ends[state]):
            heapq.heappush(queue, (cost + float(ends[state]), pushed, cost, chosen, -1))
            pushed += 1
