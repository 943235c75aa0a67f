"""Viterbi search of forced alignment: the best path through the graph of an utterance's text.

It goes frame by frame over all nodes that are near the best.

A graph of a text is long and thin, with its nodes in the order of the text.  So the nodes within the beam
are an interval, and a frame is a few array operations over it.  Scores that all surviving paths have agreed
on are forgotten, so that memory does not grow with a recording.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from asr_bn.decoding.alignment.hmm_graph import HmmGraph
from asr_bn.system.arrays import Floats, IntVector

# The interval of nodes is chosen anew after so many frames.
CHUNK_FRAMES = 32
# Scores are kept for the way back up to this number (64 MiB), then those that are agreed on are forgotten.
MAX_SCORES = 1 << 24


@dataclass(frozen=True)
class Path:
    """The best path.

    Attributes:
        nodes: int32 ``[num_frames]``.
        log_likelihood: of the path, scaled, with the graph's costs subtracted.
    """

    nodes: IntVector
    log_likelihood: float

    def transition_ids(self, graph: HmmGraph) -> IntVector:
        """Map to transition-ids, int32 ``[num_frames]``."""
        enters = np.diff(self.nodes, prepend=-1) != 0
        tids: IntVector = np.where(enters, graph.entering[self.nodes], graph.staying[self.nodes])
        return tids


@dataclass
class _Chunk:
    """Scores of nodes ``first`` and on, for some frames; row ``k`` is before the frame ``start + k``."""

    start: int
    first: int
    scores: Floats

    @property
    def end(self) -> int:
        """The frame after its last."""
        return self.start + len(self.scores)


def best_path(
    graph: HmmGraph, num_frames: int, log_likelihoods: Callable[[int, int], Floats], beam: float
) -> Path | None:
    """Search with a beam; None if no path within it ends where the utterance does.

    Args:
        log_likelihoods: scaled, ``[end - start, num_pdfs]`` of frames ``start`` to ``end``.
        beam: nodes further below the best one are given up, but for those between others.
    """
    search = _Forward(graph, beam)
    for start in range(0, num_frames, CHUNK_FRAMES):
        if not search.advance(log_likelihoods(start, min(start + CHUNK_FRAMES, num_frames))):
            return None
    return search.finish()


class _Forward:
    def __init__(self, graph: HmmGraph, beam: float) -> None:
        self._graph, self._beam = graph, beam
        size = graph.num_nodes
        targets = np.repeat(np.arange(size), np.diff(graph.first_arcs))
        places = np.arange(len(targets)) - graph.first_arcs[targets]
        # A plane for the first arc into each node, one for the second, ...: much faster than `reduceat`.
        self._sources = np.full((int(places.max()) + 1, size), size)
        self._costs = np.full(self._sources.shape, np.inf, dtype=np.float32)
        self._sources[places, targets], self._costs[places, targets] = graph.sources, graph.costs
        is_inner = graph.sources < size
        self._reach = np.zeros(size, dtype=np.int64)
        np.maximum.at(self._reach, graph.sources[is_inner], targets[is_inner] + 1)
        self._reach = np.maximum.accumulate(self._reach)
        # Scores of the nodes from `first` on, after the last frame; before the first one there are none.
        self._first, self._scores = 0, np.full(int(targets[~is_inner].max()) + 1, -np.inf, dtype=np.float32)
        self._frame, self._offset = 0, 0.0
        self._trellis = _Trellis(graph)

    def advance(self, log_likelihoods: Floats) -> bool:
        """Take some frames; False if no node is left."""
        first, end = self._interval(len(log_likelihoods))
        size = end - first
        costs = np.ascontiguousarray(self._costs[:, first:end])
        # Two places more: for sources outside, and for the beginning.
        sources = self._sources[:, first:end] - first
        is_start = sources == self._graph.num_nodes - first
        sources[(sources < 0) | (sources >= size)] = size
        sources[is_start] = size + 1
        rows = log_likelihoods.take(self._graph.pdfs[first:end], axis=1)
        scores = np.full((len(rows) + 1, size + 2), -np.inf, dtype=np.float32)
        scores[0, : len(self._scores)] = self._scores
        scores[0, size + 1] = -np.inf if self._frame else 0.0
        incoming = np.empty_like(costs)
        for row, before, after in zip(rows, scores, scores[1:, :size], strict=False):
            before.take(sources, out=incoming, mode="clip")
            np.subtract(incoming, costs, out=incoming)
            np.maximum.reduce(incoming, axis=0, out=after)
            np.add(after, row, out=after)
        self._trellis.keep(_Chunk(self._frame, first, scores[:-1, :size]))
        self._frame += len(rows)
        self._first, self._scores = first, scores[-1, :size]
        best = float(self._scores.max())
        if best == -np.inf:
            return False
        self._scores = self._scores - np.float32(best)
        self._offset += best
        if self._trellis.is_full():
            self._trellis.forget(first + np.flatnonzero(self._scores >= -self._beam), self._frame - 1)
        return True

    def _interval(self, num_frames: int) -> tuple[int, int]:
        """Keep the nodes within the beam and those between; end behind all that can be reached from them."""
        if self._frame:
            near = np.flatnonzero(self._scores >= -self._beam)
            self._scores = self._scores[near[0] : near[-1] + 1]
            self._first += int(near[0])
        end = self._first + len(self._scores)
        for _ in range(num_frames if self._frame else num_frames - 1):
            if end == (end := max(end, int(self._reach[end - 1]))):
                break
        return self._first, end

    def finish(self) -> Path | None:
        """Trace the best path that ends where the utterance does."""
        here = slice(self._first, self._first + len(self._scores))
        ends = self._scores - self._graph.final_costs[here]
        last = int(ends.argmax())
        if ends[last] == -np.inf:
            return None
        nodes = np.concatenate(self._trellis.trace(self._first + last, self._frame - 1))
        return Path(nodes, self._offset + float(ends[last]))


class _Trellis:
    """The scores that lead back along the best path to any node; those agreed on are forgotten."""

    def __init__(self, graph: HmmGraph) -> None:
        self._chunks: list[_Chunk] = []
        self._num_scores = 0
        self._known: list[IntVector] = []
        self._num_known = 0
        self._limit = MAX_SCORES
        self._first_arcs: list[int] = graph.first_arcs.tolist()
        self._sources: list[int] = graph.sources.tolist()
        self._costs: list[float] = graph.costs.tolist()

    def keep(self, chunk: _Chunk) -> None:
        """Add the scores of the next frames."""
        self._chunks.append(chunk)
        self._num_scores += chunk.scores.size

    def is_full(self) -> bool:
        """True if it is time to forget."""
        return self._num_scores > self._limit

    def forget(self, nodes: Iterable[int], frame: int) -> None:
        """Keep only what the best paths to ``nodes`` at ``frame`` do not agree on."""
        current = set(nodes)
        for chunk in reversed(self._chunks):
            while frame >= max(chunk.start, self._num_known):
                if len(current) == 1:
                    self._known = self.trace(current.pop(), frame)
                    self._num_known = frame + 1
                    self._chunks = [kept for kept in self._chunks if kept.end > frame]
                    self._num_scores = sum(kept.scores.size for kept in self._chunks)
                    return
                current = {self._before(node, frame, chunk) for node in current}
                frame -= 1
        self._limit *= 2

    def trace(self, node: int, frame: int) -> list[IntVector]:
        """Return the nodes of frames 0 to ``frame`` of the best path to ``node`` there, in pieces."""
        nodes = [node]
        for chunk in reversed(self._chunks):
            for at in range(frame, max(chunk.start, self._num_known + 1) - 1, -1):
                nodes.append(node := self._before(node, at, chunk))
            frame = min(frame, chunk.start - 1)
        return [*self._known, np.array(nodes[::-1], dtype=np.int32)]

    def _before(self, node: int, frame: int, chunk: _Chunk) -> int:
        """Find the node at the frame before, on the best path to ``node`` at ``frame``."""
        row, first = chunk.scores[frame - chunk.start], chunk.first
        best, found, num_scores = -math.inf, -1, chunk.scores.shape[1]
        for arc in range(self._first_arcs[node], self._first_arcs[node + 1]):
            place = self._sources[arc] - first
            if 0 <= place < num_scores and (score := row.item(place) - self._costs[arc]) > best:
                best, found = score, place + first
        return found
