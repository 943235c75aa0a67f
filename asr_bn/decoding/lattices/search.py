"""Beam search that keeps the alternatives: log likelihoods in, state-level lattice out.

The beam, ``max_active`` and ``min_active`` cut as Kaldi's ``FasterDecoder`` does, and the alternatives within
``lattice_beam`` of the best path stay, as in ``LatticeFasterDecoder``.  All states of a frame are one array.

Source: Kaldi ``src/decoder/faster-decoder.cc`` (``GetCutoff``), ``lattice-faster-decoder.cc``; Povey et al.
2012, "Generating exact lattices in the WFST framework".
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asr_bn.decoding.lattices.arcs import FrameArcs, StartArcs, spread
from asr_bn.decoding.no_path import NoPath
from asr_bn.decoding.search_options import BeamOptions
from asr_bn.system.arrays import Doubles, Floats, IntVector

MIN_ACTIVE = 20
_BEAM_DELTA = 0.5
# Up to so many arcs, all of them are looked at in every frame: that is quicker than choosing.
_FEW_ARCS = 20_000
# Frames after which what lies outside the lattice's beam is dropped, with some frames before them once more.
_WINDOW_FRAMES, _OVERLAP_FRAMES = 500, 100
# From so many frames on an utterance is cut; bounds memory.
_LONG_FRAMES = 3000
_NO_WAY = StartArcs(np.zeros(1, np.int32), np.zeros(1), np.zeros(1, np.int32))


@dataclass
class Frame:
    """States that are alive after a frame, and the arcs that lead to them.

    Attributes:
        states, costs: sorted states, and the cost of the best path to each.
        arcs: numbers of arcs.
        sources, targets: their places in the states of the frame before, and of this one.
        acoustic: their acoustic costs, not scaled.
    """

    states: NDArray[np.intp]
    costs: Doubles
    arcs: NDArray[np.intp]
    sources: NDArray[np.intp]
    targets: NDArray[np.intp]
    acoustic: Floats

    def keep(self, kept: NDArray[np.bool_]) -> None:
        """Leave out all arcs but those ``kept``, bool ``[num_arcs]``."""
        self.arcs, self.sources, self.targets = self.arcs[kept], self.sources[kept], self.targets[kept]
        self.acoustic = self.acoustic[kept]


@dataclass(frozen=True)
class StateLattice:
    """The arcs within the beam: nodes are states after a frame, numbered frame by frame.

    Attributes:
        first_nodes: int64 ``[num_frames + 2]``; the nodes after ``t`` frames are ``first_nodes[t]`` and on.
        best_to, best_from: float64 ``[num_nodes]``, cost of the best path to a node, and on to the end.
        source, target: nodes, ``[num_arcs]``, sorted by source.
        transition_id, chain: of the arcs.
        graph_cost, acoustic_cost: of the arcs; the acoustic one is not scaled.
        start_graph_costs, start_chains: of the nodes before the first frame.
        final_costs: graph costs of ending in the nodes of the last frame.
        is_complete: a final state was reached; otherwise every path may end.
    """

    scale: float
    first_nodes: NDArray[np.int64]
    best_to: Doubles
    best_from: Doubles
    source: NDArray[np.intp]
    target: NDArray[np.intp]
    transition_id: IntVector
    chain: IntVector
    graph_cost: Doubles
    acoustic_cost: Doubles
    start_graph_costs: Doubles
    start_chains: IntVector
    final_costs: Doubles
    is_complete: bool

    @property
    def best_cost(self) -> float:
        """Cost of the best path, the acoustic costs scaled."""
        first = self.best_to[: self.first_nodes[1]] + self.best_from[: self.first_nodes[1]]
        return float(first.min())


class LatticeSearch:
    """Searches utterance by utterance.

    Args:
        arcs: of the graph.
        columns: the pdf of each transition-id.
        options: how wide to search.
        lattice_beam: how much worse than the best path an alternative may be.
    """

    def __init__(
        self, arcs: FrameArcs, columns: IntVector, options: BeamOptions, lattice_beam: float
    ) -> None:
        self._arcs, self._options, self._lattice_beam = arcs, options, lattice_beam
        self._pdfs = columns[arcs.transition_id]
        self._place = np.full(len(arcs.finals), -1, dtype=np.intp)

    def search(self, blocks: Iterable[Floats], scale: float) -> Iterator[StateLattice]:
        """Search an utterance's consecutive pieces ``[num_frames, num_pdfs]``; without frames yield nothing.

        A long utterance is cut where all alternatives meet in one state: the lattices follow each other.
        """
        start = self._arcs.start
        frames = [_beginning(start.target.astype(np.intp), start.graph_cost)]
        for block in blocks:
            for row in block:
                frames.append(self._advance(frames[-1], row, scale))
                if len(frames) % _WINDOW_FRAMES == 0:
                    # As if every state that is alive were on a best path: the future may make it so.
                    recent = frames[-_WINDOW_FRAMES - _OVERLAP_FRAMES :]
                    _drop_states(recent, self._prune(recent, -recent[-1].costs, 0.0, scale))
                    if len(frames) >= _LONG_FRAMES and (cut := _last_meeting(frames)):
                        yield self._finished(frames[: cut + 1], np.zeros(1), start, scale)
                        start, frames = _NO_WAY, _continued(frames[cut:])
        if len(frames) > 1:
            yield self._finished(frames, self._arcs.finals[frames[-1].states], start, scale)

    def _finished(self, frames: list[Frame], finals: Doubles, start: StartArcs, scale: float) -> StateLattice:
        is_complete = bool(np.isfinite(finals).any())
        if not is_complete:
            finals = np.zeros(len(finals))
        best = float((frames[-1].costs + finals).min())
        costs_from = self._prune(frames, finals, best, scale)
        return self._lattice(frames, costs_from, finals, start, scale, is_complete)

    def _advance(self, before: Frame, row: Floats, scale: float) -> Frame:
        alive, width = self._alive(before.costs)
        arcs, sources = self._arcs_from(before, alive)
        acoustic = -row[self._pdfs[arcs]]
        costs = before.costs[sources] + self._arcs.graph_cost[arcs] + scale * acoustic.astype(np.float64)
        kept = costs <= (costs.min() if len(costs) else 0.0) + width
        if not kept.all():
            arcs, sources, costs, acoustic = arcs[kept], sources[kept], costs[kept], acoustic[kept]
        target = self._arcs.target[arcs]
        is_first = np.empty(len(target), dtype=bool)
        is_first[:1] = True
        np.not_equal(target[1:], target[:-1], out=is_first[1:])
        firsts = np.flatnonzero(is_first)
        if not len(firsts):
            raise NoPath("the graph has no path as long as the utterance")
        best = np.minimum.reduceat(costs, firsts)
        return Frame(target[firsts].astype(np.intp), best, arcs, sources, np.cumsum(is_first) - 1, acoustic)

    def _alive(self, costs: Doubles) -> tuple[NDArray[np.intp], float]:
        """Return the places of the states that are followed, and the beam for the next frame's."""
        beam, best, size = self._options.beam, float(costs.min()), len(costs)
        if size > self._options.max_active:
            most = float(np.partition(costs, self._options.max_active)[self._options.max_active])
            if most < best + beam:
                return np.flatnonzero(costs < most), most - best + _BEAM_DELTA
        alive = np.flatnonzero(costs < best + beam)
        if len(alive) > MIN_ACTIVE:
            return alive, beam
        least = float(np.partition(costs, MIN_ACTIVE)[MIN_ACTIVE]) if size > MIN_ACTIVE else math.inf
        return np.flatnonzero(costs < least), max(beam, least - best + _BEAM_DELTA)

    def _arcs_from(self, before: Frame, alive: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Find the arcs of the states at places ``alive``, sorted by target, and their sources' places."""
        chosen, its = before.states[alive], self._arcs
        if len(its.source) <= _FEW_ARCS and len(before.arcs):
            self._place[chosen] = alive
            try:
                places = self._place[its.source]
            finally:  # also where memory runs out: another utterance comes
                self._place[chosen] = -1
            arcs = np.flatnonzero(places >= 0)
            return arcs, places[arcs]
        rows, nth = spread(its.first_by_source[chosen], its.first_by_source[chosen + 1])
        arcs = its.by_source[nth].astype(np.intp)
        order = np.argsort(arcs)  # arcs are numbered by their targets
        return arcs[order], alive[rows[order]]

    def _prune(self, frames: list[Frame], ends: Doubles, best: float, scale: float) -> list[Doubles]:
        """Drop arcs outside the lattice's beam; return the costs from each frame's states to the end."""
        limit = best + self._lattice_beam + 1e-6
        costs_from = [ends]
        for before, frame in zip(frames[-2::-1], frames[:0:-1], strict=True):
            arc_costs = self._arcs.graph_cost[frame.arcs] + scale * frame.acoustic.astype(np.float64)
            behind = arc_costs + costs_from[-1][frame.targets]
            kept = before.costs[frame.sources] + behind <= limit
            if not kept.all():
                frame.keep(kept)
                behind = behind[kept]
            here = np.full(len(before.states), np.inf)
            np.minimum.at(here, frame.sources, behind)
            costs_from.append(here)
        costs_from.reverse()
        return costs_from

    def _lattice(
        self,
        frames: list[Frame],
        costs_from: list[Doubles],
        finals: Doubles,
        start: StartArcs,
        scale: float,
        is_complete: bool,
    ) -> StateLattice:
        alive = [np.isfinite(costs) for costs in costs_from]
        counts = [int(each.sum()) for each in alive]
        first_nodes = np.concatenate([[0], np.cumsum(counts)])
        numbers = [
            np.cumsum(each) - 1 + first for each, first in zip(alive, first_nodes[:-1].tolist(), strict=True)
        ]
        source = np.concatenate([numbers[t][frame.sources] for t, frame in enumerate(frames[1:])])
        target = np.concatenate([numbers[t][frame.targets] for t, frame in enumerate(frames[1:], start=1)])
        arcs = np.concatenate([frame.arcs for frame in frames[1:]])
        acoustic = np.concatenate([frame.acoustic for frame in frames[1:]]).astype(np.float64)
        order = np.argsort(source, kind="stable")
        arcs = arcs[order]
        its = self._arcs
        return StateLattice(
            scale,
            first_nodes,
            np.concatenate([frame.costs[each] for frame, each in zip(frames, alive, strict=True)]),
            np.concatenate([costs[each] for costs, each in zip(costs_from, alive, strict=True)]),
            source[order],
            target[order],
            its.transition_id[arcs],
            its.chain[arcs],
            its.graph_cost[arcs],
            acoustic[order],
            start.graph_cost[alive[0]],
            start.chain[alive[0]],
            finals[alive[-1]],
            is_complete,
        )


def _beginning(states: NDArray[np.intp], costs: Doubles) -> Frame:
    """Make what stands before the first frame; a state stands there for each way that leads to it."""
    nothing = np.zeros(0, dtype=np.intp)
    return Frame(states, costs, nothing, nothing, nothing, np.zeros(0, np.float32))


def _last_meeting(frames: list[Frame]) -> int:
    """Find the last frame, the newest aside, that has a single state; 0 where there is none."""
    return next((k for k in range(len(frames) - 2, 0, -1) if len(frames[k].states) == 1), 0)


def _continued(frames: list[Frame]) -> list[Frame]:
    """Begin anew with the only state of the first frame, at no cost."""
    paid = float(frames[0].costs[0])
    for frame in frames[1:]:
        frame.costs = frame.costs - paid
    return [_beginning(frames[0].states, np.zeros(1)), *frames[1:]]


def _drop_states(frames: list[Frame], costs_from: list[Doubles]) -> None:
    """Forget states from which nothing goes on, ``costs_from`` being infinite; the last frame's stay."""
    for frame, after, costs in zip(frames[:-1], frames[1:], costs_from[:-1], strict=True):
        alive = np.isfinite(costs)
        if alive.all() or not len(frame.arcs):  # the first frame's states keep their places
            continue
        places = np.cumsum(alive) - 1
        kept = alive[frame.targets]
        frame.keep(kept)
        frame.targets = places[frame.targets]
        frame.states, frame.costs = frame.states[alive], frame.costs[alive]
        after.sources = places[after.sources]
