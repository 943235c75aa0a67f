"""Several utterances of any lengths in a call, without computing padding; on the CPU.

An LSTM node computes every row of a padded batch to the end of the longest.  Here the utterances lie in
order of length, as in PyTorch's ``PackedSequence``, and are cut into chunks in which the same utterances go
on.  A layer's recurrences run from chunk to chunk with their states handed over.
Every answer is that of a call of the whole model with the utterance alone, bit for bit.
"""

import logging
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from asr_bn.scoring.layer_sessions import Direction, ModelLayers
from asr_bn.scoring.scorer import AcousticScorer
from asr_bn.system.arrays import Floats

_log = logging.getLogger(__name__)


class BatchScorer(Protocol):
    """What scores several utterances in a call."""

    def log_posteriors(self, feats: Sequence[Floats]) -> list[Floats]:
        """Score ``feats``, ``[num_frames, num_features]`` each, as ``[num_frames, num_pdfs]``."""
        ...


def batch_scorer(scorer: AcousticScorer, num_threads: int = 1) -> BatchScorer:
    """Make a `PackedScorer` of the same model, or return ``scorer`` itself, which pads.

    Only float32 models on the CPU are packed, and only if a trial gives the bits of the whole model: a graph
    altered after its export may not.
    """
    if scorer.on_cuda or scorer.is_quantized:
        return scorer
    try:
        layers = ModelLayers(scorer.path)
    except ValueError as error:
        _log.warning("%s; batches are padded", error)
        return scorer
    if not layers.is_exact:
        return scorer
    packed = PackedScorer(layers, num_threads)
    if not _answers_agree(scorer, packed):
        _log.warning("%s: its layers alone give other answers; batches are padded", scorer.path)
        return scorer
    return packed


def _answers_agree(scorer: AcousticScorer, packed: "PackedScorer") -> bool:
    rng = np.random.default_rng(0)
    size = scorer.metadata.num_features
    feats = [rng.standard_normal((length, size), dtype=np.float32) for length in (7, 12, 3)]
    try:
        answers = packed.log_posteriors(feats)
    except Exception:  # ONNX Runtime's own errors share no base class
        return False
    return all(map(np.array_equal, answers, scorer.log_posteriors(feats)))


class PackedScorer:
    """A `BatchScorer` that computes real frames only.

    Args:
        model: with ``is_exact``.
        num_threads: of a call; from two on, both directions run at a time.
    """

    def __init__(self, model: ModelLayers, num_threads: int = 1) -> None:
        self._layers = model.sessions(num_threads)
        self._is_parallel = num_threads > 1
        self._of_thread = threading.local()

    def log_posteriors(self, feats: Sequence[Floats]) -> list[Floats]:
        """Score as `BatchScorer.log_posteriors`; every utterance has at least one frame."""
        if not feats:
            return []
        order = sorted(range(len(feats)), key=lambda k: -len(feats[k]))
        packing = Packing.of([len(feats[k]) for k in order])
        hidden = packing.pack([feats[k] for k in order])
        for sessions in self._layers.directions:
            hidden = self._layer(*sessions, hidden, packing)
        answers: list[Floats] = [np.empty(0, np.float32)] * len(feats)
        for row, k in enumerate(order):
            scores = self._layers.output.run(None, {"X": packing.utterance(hidden, row)[:, None]})[0]
            answers[k] = scores[:, 0]
        return answers

    def _layer(self, forward: Direction, backward: Direction, hidden: Floats, packing: "Packing") -> Floats:
        if not self._is_parallel:
            outputs = [self._forward(forward, hidden, packing), self._backward(backward, hidden, packing)]
        else:
            beside = self._helper().submit(self._backward, backward, hidden, packing)
            outputs = [self._forward(forward, hidden, packing), beside.result()]
        return np.concatenate(outputs, axis=1)

    def _helper(self) -> ThreadPoolExecutor:
        """A thread beside each that calls: made by it, so that on Linux it has the same priority."""
        if not hasattr(self._of_thread, "helper"):
            self._of_thread.helper = ThreadPoolExecutor(1, "backward")
        helper: ThreadPoolExecutor = self._of_thread.helper
        return helper

    def _forward(self, direction: Direction, hidden: Floats, packing: "Packing") -> Floats:
        output = np.empty((len(hidden), self._layers.hidden_size), np.float32)
        h = c = self._zeros(packing.chunks[0].size)
        for chunk in packing.chunks:
            h, c = h[:, : chunk.size], c[:, : chunk.size]  # the shortest have ended
            y, h, c = direction.run(None, {"X": chunk.rows(hidden), "h": h, "c": c})
            chunk.rows(output)[:] = y[:, 0]
        return output

    def _backward(self, direction: Direction, hidden: Floats, packing: "Packing") -> Floats:
        output = np.empty((len(hidden), self._layers.hidden_size), np.float32)
        h = c = self._zeros(0)
        for chunk in reversed(packing.chunks):
            beginning = self._zeros(chunk.size - h.shape[1])  # shorter ones join at their last frame
            h, c = np.concatenate([h, beginning], axis=1), np.concatenate([c, beginning], axis=1)
            y, h, c = direction.run(None, {"X": chunk.rows(hidden), "h": h, "c": c})
            chunk.rows(output)[:] = y[:, 0]
        return output

    def _zeros(self, size: int) -> Floats:
        return np.zeros((1, size, self._layers.hidden_size), np.float32)


@dataclass(frozen=True)
class Chunk:
    """Frames ``start`` to ``stop`` of the ``size`` longest utterances, at ``offset`` of the packed rows."""

    start: int
    stop: int
    size: int
    offset: int

    def rows(self, packed: Floats) -> Floats:
        """View its rows of ``packed`` ``[total_frames, size]`` as ``[num_frames, batch, size]``."""
        num_frames = self.stop - self.start
        rows = packed[self.offset : self.offset + num_frames * self.size]
        return rows.reshape(num_frames, self.size, -1)


@dataclass(frozen=True)
class Packing:
    """Where the frames of utterances lie, which come longest first.

    >>> Packing.of([3, 1]).chunks
    [Chunk(start=0, stop=1, size=2, offset=0), Chunk(start=1, stop=3, size=1, offset=2)]
    """

    lengths: list[int]
    chunks: list[Chunk]

    @classmethod
    def of(cls, lengths: list[int]) -> "Packing":
        """Cut utterances of descending ``lengths`` into chunks."""
        chunks, start, offset = [], 0, 0
        for stop in sorted(set(lengths)):
            size = sum(length >= stop for length in lengths)
            chunks.append(Chunk(start, stop, size, offset))
            start, offset = stop, offset + (stop - start) * size
        return cls(lengths, chunks)

    def pack(self, utterances: list[Floats]) -> Floats:
        """Pack utterances, ``[num_frames, size]`` each, as ``[total_frames, size]``."""
        packed = np.empty((sum(self.lengths), utterances[0].shape[1]), np.float32)
        for chunk in self.chunks:
            rows = chunk.rows(packed)
            for row in range(chunk.size):
                rows[:, row] = utterances[row][chunk.start : chunk.stop]
        return packed

    def utterance(self, packed: Floats, row: int) -> Floats:
        """Gather the frames ``[num_frames, size]`` of an utterance."""
        chunks = [chunk for chunk in self.chunks if chunk.stop <= self.lengths[row]]
        return np.concatenate([chunk.rows(packed)[:, row] for chunk in chunks])
