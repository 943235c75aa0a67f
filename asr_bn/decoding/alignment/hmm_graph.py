"""The HMM states that an utterance can go through: a node for each, arcs between them, no empty steps.

Costs are those of Kaldi's training graphs: transitions and self-loops with the scales of `build_graph` and
`self_loops`, a state's self-loops after the transition that leaves it (``reorder``).
"""

import math
from collections import deque
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from asr_bn.decoding.alignment.word_graph import WordGraph
from asr_bn.decoding.build_graph import TRANSITION_SCALE
from asr_bn.decoding.context import HmmLabels, in_context
from asr_bn.decoding.fst_file import FstArrays
from asr_bn.decoding.hmms import Hmm, Hmms
from asr_bn.decoding.no_path import NoPath
from asr_bn.decoding.self_loops import SELF_LOOP_SCALE
from asr_bn.kaldi_io.context_dependency import ContextDependency
from asr_bn.kaldi_io.transition_model import TransitionModel
from asr_bn.system.arrays import Floats, IntVector

Indices = NDArray[np.int64]
# So many phones in context are remembered from text to text.
_MOST_WINDOWS = 1 << 17


@dataclass(frozen=True)
class HmmGraph:
    """Nodes that score a frame each, and the arcs into them; node ``num_nodes`` is before the first frame.

    Attributes:
        pdfs: int64 ``[num_nodes]``.
        entering, staying: transition-id of a frame that enters a node, or stays there; ``[num_nodes]``.
        final_costs: float32 ``[num_nodes]``, infinite where the utterance cannot end.
        first_arcs: int64 ``[num_nodes + 1]``; arcs into node ``k`` are ``first_arcs[k]`` to
            ``first_arcs[k + 1]``, at least one.
        sources, costs: of each arc.
        phones: number of the phone (instance) that a node belongs to, ``[num_nodes]``.
        labels: of `WordGraph`, read between two phones (-1: the beginning, the end); those of a whole path
            are its phones in order.
    """

    pdfs: Indices
    entering: IntVector
    staying: IntVector
    final_costs: Floats
    first_arcs: Indices
    sources: Indices
    costs: Floats
    phones: IntVector
    labels: dict[tuple[int, int], tuple[int, ...]]

    @property
    def num_nodes(self) -> int:
        """Nodes that score frames."""
        return len(self.pdfs)

    def least_frames(self) -> int:
        """Count the frames of the shortest way through.

        Raises:
            NoPath: no way leads through.
        """
        targets = np.repeat(np.arange(self.num_nodes), np.diff(self.first_arcs))
        possible = np.isfinite(self.costs)
        after: dict[int, list[int]] = {}
        for source, target in zip(self.sources[possible].tolist(), targets[possible].tolist(), strict=True):
            after.setdefault(source, []).append(target)
        is_final = np.isfinite(self.final_costs).tolist()
        frames = {self.num_nodes: 0}
        waiting = deque(frames)
        while waiting:
            node = waiting.popleft()
            for target in after.get(node, ()):
                if target not in frames:
                    frames[target] = frames[node] + 1
                    if is_final[target]:
                        return frames[target]
                    waiting.append(target)
        raise NoPath("no way leads through the HMMs of its words")


@dataclass(frozen=True)
class _Node:
    pdf: int
    entering: int
    staying: int
    cost_to_stay: float


@dataclass(frozen=True)
class _HmmNodes:
    """An HMM's nodes, numbered from 0; ``arcs``, ``entries`` and ``exits`` have costs of entering."""

    nodes: list[_Node]
    arcs: list[tuple[int, int, float]]
    entries: list[tuple[int, float]]
    exits: list[int]


@dataclass
class GraphBuilder:
    """Builds the graphs of utterances from their phones, for one transition model.

    Attributes:
        hmms: with their probabilities.
        model: maps transition-ids to pdfs.
        tree: None for phones without context.
    """

    hmms: Hmms
    model: TransitionModel
    tree: ContextDependency | None
    _alone: HmmLabels | None = field(default=None, init=False)
    _windows: dict[tuple[int, ...], Hmm] = field(default_factory=dict, init=False)
    _nodes: dict[Hmm, _HmmNodes] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        if self.tree is None or self.tree.context_width == 1:
            self._alone = HmmLabels(self.hmms.without_context(), [])

    def build(self, words: WordGraph) -> HmmGraph:
        """Build the graph of one utterance.

        Raises:
            ValueError: the tree is not the one of the model, or has no pdf for a phone.
        """
        if self._alone is not None:
            return _Assembly(words.fst, self._by_label(self._alone)).graph()
        if self.tree is None:
            raise ValueError("phones in context need a decision tree")
        if len(self._windows) > _MOST_WINDOWS:
            self._windows.clear()
            self._nodes.clear()
        fst, labels = in_context(words.fst, self.hmms, self.tree, [], self._windows)
        return _Assembly(fst, self._by_label(labels)).graph()

    def _by_label(self, labels: HmmLabels) -> dict[int, _HmmNodes]:
        for hmm in labels.hmms.values():
            if hmm not in self._nodes:
                self._nodes[hmm] = _nodes_of(hmm, self.model)
        return {label: self._nodes[hmm] for label, hmm in labels.hmms.items()}


def _nodes_of(hmm: Hmm, model: TransitionModel) -> _HmmNodes:
    """Make a node of each transition that leaves a state, with the frames of the self-loop after it.

    Where the self-loop has a pdf of its own (chain models), its frames are a second node.
    """
    loops = {t.source: t for t in hmm.transitions if t.source == t.target}
    nodes, arcs = list[_Node](), list[tuple[int, int, float]]()
    entered: dict[int, list[tuple[int, float]]] = {}  # HMM state: nodes that begin there
    left: list[tuple[int, int]] = []  # node, HMM state that it leads to
    for t in hmm.transitions:
        if t.source == t.target:
            continue
        loop, pdf = loops.get(t.source), int(model.tid_to_pdf[t.transition_id])
        leave = 0.0 if loop is None else math.log1p(-math.exp(loop.log_prob))
        cost = TRANSITION_SCALE * (leave - t.log_prob) - SELF_LOOP_SCALE * leave
        stay = math.inf if loop is None else -SELF_LOOP_SCALE * loop.log_prob
        loop_tid = t.transition_id if loop is None else loop.transition_id
        loop_pdf = int(model.tid_to_pdf[loop_tid])
        entered.setdefault(t.source, []).append((len(nodes), cost))
        left.append((len(nodes), t.target))
        if loop_pdf == pdf:
            nodes.append(_Node(pdf, t.transition_id, loop_tid, stay))
            continue
        left.append((len(nodes) + 1, t.target))
        arcs.append((len(nodes), len(nodes) + 1, stay))
        nodes += [_Node(pdf, t.transition_id, 0, math.inf), _Node(loop_pdf, loop_tid, loop_tid, stay)]
    arcs += [(node, after, cost) for node, state in left for after, cost in entered.get(state, ())]
    exits = [node for node, state in left if state == hmm.end_state]
    return _HmmNodes(nodes, arcs, entered.get(0, []), exits)


class _Assembly:
    """Puts the nodes of all HMM arcs of a transducer together."""

    def __init__(self, fst: FstArrays, hmms: dict[int, _HmmNodes]) -> None:
        self._arcs: list[tuple[int, int, float, int]] = fst.arcs.tolist()
        self._first: list[int] = fst.first_arcs.tolist()
        self._finals: list[float] = fst.finals.tolist()
        self._phones = [k for k, (label, *_) in enumerate(self._arcs) if label]
        self._number = {arc: number for number, arc in enumerate(self._phones)}
        self._hmms = {arc: hmms[self._arcs[arc][0]] for arc in self._phones}
        sizes = [len(self._hmms[arc].nodes) for arc in self._phones]
        self._offset = dict(zip(self._phones, accumulate(sizes, initial=0), strict=False))
        self._num_nodes = sum(sizes)
        self._final_costs = np.full(self._num_nodes, np.inf, dtype=np.float32)
        self._followers: dict[int, dict[int, _Step]] = {}
        self._joined: list[tuple[int, int, float]] = []  # source, target, cost
        self._labels: dict[tuple[int, int], tuple[int, ...]] = {}
        self._start = fst.start

    def graph(self) -> HmmGraph:
        nodes = [node for arc in self._phones for node in self._hmms[arc].nodes]
        self._connect([self._num_nodes], -1, self._start)
        for arc in self._phones:
            hmm, offset = self._hmms[arc], self._offset[arc]
            self._joined += [(offset + source, offset + target, cost) for source, target, cost in hmm.arcs]
            self._connect([offset + node for node in hmm.exits], self._number[arc], self._arcs[arc][3])
        # Of infinite cost too, so that every node has an arc.
        self._joined += [(number, number, node.cost_to_stay) for number, node in enumerate(nodes)]
        sources, targets, costs = map(np.array, zip(*self._joined, strict=True))
        order = np.argsort(targets, kind="stable")
        counts = np.bincount(targets, minlength=len(nodes))
        phones = [number for number, arc in enumerate(self._phones) for _ in self._hmms[arc].nodes]
        return HmmGraph(
            np.array([node.pdf for node in nodes], dtype=np.int64),
            np.array([node.entering for node in nodes], dtype=np.int32),
            np.array([node.staying for node in nodes], dtype=np.int32),
            self._final_costs,
            np.concatenate([[0], np.cumsum(counts)]),
            sources[order],
            costs[order].astype(np.float32),
            np.array(phones, dtype=np.int32),
            self._labels,
        )

    def _connect(self, ends: list[int], phone: int, state: int) -> None:
        """Lead from nodes where a phone ends, before ``state``, into the phones that follow."""
        if state not in self._followers:
            self._followers[state] = self._follow(state)
        for arc, (cost, labels) in self._followers[state].items():
            if arc == _END:
                if phone >= 0:
                    self._final_costs[ends] = cost
                self._labels[phone, -1] = labels
                continue
            self._labels[phone, self._number[arc]] = labels
            offset, entries = self._offset[arc], self._hmms[arc].entries
            self._joined += [(end, offset + node, cost + more) for node, more in entries for end in ends]

    def _follow(self, state: int) -> dict[int, "_Step"]:
        """Find the arcs with an HMM after ``state``, and its end, past arcs without one."""
        best: dict[int, _Step] = {state: (0.0, ())}
        waiting = [state]
        found: dict[int, _Step] = {}
        while waiting:
            at = waiting.pop()
            cost, labels = best[at]
            if cost + self._finals[at] < found.get(_END, _NOWHERE)[0]:
                found[_END] = cost + self._finals[at], labels
            for arc in range(self._first[at], self._first[at + 1]):
                label, output, weight, target = self._arcs[arc]
                reached = cost + weight, (*labels, output) if output else labels
                if label:
                    if reached[0] < found.get(arc, _NOWHERE)[0]:
                        found[arc] = reached
                elif reached[0] < best.get(target, _NOWHERE)[0]:
                    best[target] = reached
                    waiting.append(target)
        return found


_Step = tuple[float, tuple[int, ...]]
"""Cost of the way to an arc, and the labels that are read on it."""
_END = -1
_NOWHERE: _Step = (math.inf, ())
