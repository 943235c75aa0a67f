"""The decision tree of phones in context (Kaldi's ``acc-tree-stats`` and ``build-tree``).

Source: Young, Odell and Woodland 1994; Kaldi ``src/tree/build-tree-utils.cc``.  Unlike Kaldi's, questions
come from clustering bottom-up, and leaves are not clustered again.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asr_bn.gmm.mixtures import MIN_VARIANCE, Mixture
from asr_bn.kaldi_io.context_dependency import PDF_CLASS, ContextDependency, Leaf, Node, Split, Table
from asr_bn.system.arrays import Doubles, Floats, IntVector

LEFT, CENTRE, RIGHT = 0, 1, 2
_STATE = 3  # column of the state in the keys of statistics
# build-tree --thresh, and the floor of its variances.
MIN_GAIN, VARIANCE_FLOOR = 300.0, 0.01
_MIDDLE_STATE = 1


@dataclass(frozen=True)
class ContextStats:
    """Frames of states in context.

    Attributes:
        keys: int32 ``[num_contexts, 4]``: phone before (0: none), phone, phone after, HMM state.
        moments: ``[num_contexts, 1 + 2 * dim]``: count, sum and sum of squares of the frames.
    """

    keys: NDArray[np.int32]
    moments: Doubles

    @classmethod
    def of(cls, keys: NDArray[np.int32], feats: Floats) -> "ContextStats":
        """Collect frames, ``[num_frames, dim]``, with a key each."""
        frames = feats.astype(np.float64)
        return cls._grouped(keys, np.concatenate([np.ones((len(frames), 1)), frames, frames**2], axis=1))

    @classmethod
    def merge(cls, parts: Sequence["ContextStats"]) -> "ContextStats":
        """Add those of several shards."""
        return cls._grouped(
            np.concatenate([part.keys for part in parts]), np.concatenate([part.moments for part in parts])
        )

    @classmethod
    def _grouped(cls, keys: NDArray[np.int32], moments: Doubles) -> "ContextStats":
        unique, inverse = np.unique(keys, axis=0, return_inverse=True)
        order = np.argsort(inverse.reshape(-1), kind="stable")
        starts = np.searchsorted(inverse.reshape(-1)[order], np.arange(len(unique)))
        return cls(unique, np.add.reduceat(moments[order], starts, axis=0) if len(keys) else moments)


def log_likelihood(moments: Doubles) -> Doubles:
    """Return that of frames under a Gaussian of their own, ``[...]`` for moments ``[..., 1 + 2 * dim]``."""
    dim = moments.shape[-1] // 2
    counts = np.maximum(moments[..., :1], 1e-10)
    means = moments[..., 1 : 1 + dim] / counts
    variances = np.maximum(moments[..., 1 + dim :] / counts - means**2, VARIANCE_FLOOR)
    result: Doubles = -0.5 * moments[..., 0] * (np.log(2 * np.pi * variances) + 1).sum(axis=-1)
    return result


def cluster_questions(stats: ContextStats, sets: Sequence[Sequence[int]]) -> list[frozenset[int]]:
    """Merge the two sets of phones that cost the least likelihood, again and again; return all sets met."""
    middle = stats.keys[:, _STATE] == _MIDDLE_STATE
    seen = [middle & np.isin(stats.keys[:, CENTRE], phones) for phones in sets]
    clusters = [frozenset(phones) for phones, rows in zip(sets, seen, strict=True) if rows.any()]
    moments = np.array([stats.moments[rows].sum(axis=0) for rows in seen if rows.any()])
    questions = list(clusters)
    while len(clusters) > 1:
        alone = log_likelihood(moments)
        joint = np.array([log_likelihood(moments + one) for one in moments])
        losses = alone[:, None] + alone - joint
        losses[np.tril_indices(len(clusters))] = np.inf
        first, second = divmod(int(losses.argmin()), len(clusters))
        clusters.append(clusters[first] | clusters[second])
        moments = np.concatenate([moments, moments[[first]] + moments[[second]]])
        kept = [k for k in range(len(clusters)) if k not in (first, second)]
        clusters, moments = [clusters[k] for k in kept], moments[kept]
        questions.append(clusters[-1])
    return questions


@dataclass
class _Growing:
    """A node: its contexts, as rows of the statistics, and once it is split the question and two nodes."""

    rows: NDArray[np.int64]
    split: tuple[int, frozenset[int], "_Growing", "_Growing"] | None = None


def grow_tree(
    stats: ContextStats,
    sets: Sequence[Sequence[int]],
    questions: Sequence[frozenset[int]],
    num_leaves: int,
) -> tuple[ContextDependency, list[Mixture]]:
    """Split the roots, one for each of ``sets``, where it gains most, up to ``num_leaves`` in all.

    A root is of all states of its phones (Kaldi's ``shared split``).

    Returns:
        The tree, and a Gaussian for each of its leaves.

    Raises:
        ValueError: no frames.
    """
    if not len(stats.keys):
        raise ValueError("no utterance is aligned, expected some to grow a decision tree from")
    roots = [_Growing(np.flatnonzero(np.isin(stats.keys[:, CENTRE], phones))) for phones in sets]
    splitter = _Splitter(stats, questions)
    heap = [(gain, number, node) for number, node in enumerate(roots) if (gain := -splitter.gain(node))]
    heapq.heapify(heap)
    for number in range(len(roots), num_leaves):
        if not heap or -heap[0][0] < MIN_GAIN:
            break
        _, _, node = heapq.heappop(heap)
        node.split = splitter.best(node)[1]
        for k, child in enumerate(node.split[2:] if node.split else ()):
            heapq.heappush(heap, (-splitter.gain(child), 2 * number + k, child))
    leaves: list[Mixture] = []
    subtrees = [_finished(root, stats, leaves) for root in roots]
    children: list[Node] = [None] * (1 + max(max(phones) for phones in sets))
    for phones, subtree in zip(sets, subtrees, strict=True):
        for phone in phones:
            children[phone] = subtree
    return ContextDependency(3, CENTRE, Table(CENTRE, tuple(children))), leaves


_Question = tuple[int, frozenset[int], _Growing, _Growing]


class _Splitter:
    """Finds the question that gains most likelihood."""

    def __init__(self, stats: ContextStats, questions: Sequence[frozenset[int]]) -> None:
        self._stats = stats
        size = 1 + int(stats.keys.max())
        asked = np.zeros((len(questions), size))
        for row, phones in zip(asked, questions, strict=True):
            row[[phone for phone in phones if phone < size]] = 1
        states = range(1, 1 + int(stats.keys[:, _STATE].max()))
        of_states = np.array([np.arange(size) < state for state in states], dtype=float).reshape(-1, size)
        self._asked = {LEFT: asked, CENTRE: asked, RIGHT: asked, _STATE: of_states}
        self._best: dict[int, tuple[float, _Question | None]] = {}

    def gain(self, node: _Growing) -> float:
        """Return the gain of the best question; 0 where none splits the node."""
        return self.best(node)[0]

    def best(self, node: _Growing) -> tuple[float, _Question | None]:
        """Return the gain of the best question, and the question."""
        if id(node) not in self._best:
            self._best[id(node)] = self._search(node)
        return self._best[id(node)]

    def _search(self, node: _Growing) -> tuple[float, _Question | None]:
        keys, moments = self._stats.keys[node.rows], self._stats.moments[node.rows]
        whole = moments.sum(axis=0)
        before = log_likelihood(whole)
        found, key, best = 0.0, -1, -1
        for column, asked in self._asked.items():
            values, inverse = np.unique(keys[:, column], return_inverse=True)
            if len(values) < 2 or not len(asked):
                continue
            by_value = np.zeros((len(values), moments.shape[1]))
            np.add.at(by_value, inverse.reshape(-1), moments)
            yes = asked[:, values] @ by_value
            gains = log_likelihood(yes) + log_likelihood(whole - yes) - before
            if gains.max() > found:
                found, key, best = float(gains.max()), column, int(gains.argmax())
        if key < 0:
            return 0.0, None
        question = frozenset(np.flatnonzero(self._asked[key][best]).tolist())
        is_yes = np.isin(keys[:, key], list(question))
        place = PDF_CLASS if key == _STATE else key
        return found, (place, question, _Growing(node.rows[is_yes]), _Growing(node.rows[~is_yes]))


def _finished(node: _Growing, stats: ContextStats, leaves: list[Mixture]) -> Node:
    """Number the leaves of a subtree and append their Gaussians; one without frames gets those of all."""
    if node.split is not None:
        key, values, yes, no = node.split
        return Split(key, values, _finished(yes, stats, leaves), _finished(no, stats, leaves))
    moments = stats.moments[node.rows if len(node.rows) else slice(None)].sum(axis=0)
    dim = len(moments) // 2
    means = moments[1 : 1 + dim] / moments[0]
    variances = np.maximum(moments[1 + dim :] / moments[0] - means**2, MIN_VARIANCE)
    leaves.append(Mixture(np.ones(1), means[None], variances[None]))
    return Leaf(len(leaves) - 1)


def context_keys(
    phones: IntVector, starts: NDArray[np.int64], states: IntVector, silences: Sequence[int]
) -> NDArray[np.int32]:
    """Return the key of each frame, ``[num_frames, 4]``; silence has no context.

    Args:
        phones, starts: of the utterance.
        states: HMM state of each frame.
    """
    around = np.pad(phones, 1)
    windows = np.stack([around[:-2], phones, around[2:]], axis=1)
    windows[:, [LEFT, RIGHT]] *= ~np.isin(phones, silences)[:, None]
    spans = np.diff(starts, append=len(states))
    return np.concatenate([windows.repeat(spans, axis=0), states[:, None]], axis=1).astype(np.int32)
