"""Scoring many utterances: batches of similar length, on all cores, in bounded memory, in input order."""

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from asr_bn.scoring.long import LayerwiseScorer, most_frames
from asr_bn.scoring.packed import batch_scorer
from asr_bn.scoring.scorer import AcousticScorer
from asr_bn.system.arrays import Floats

# Utterances are read ahead up to so many frames, or scores, and sorted by length among themselves.
WINDOW_FRAMES = 40_000
WINDOW_SCORES = 64_000_000
# A batch is at most so many utterances, and so many frames, or scores, with its padding.
BATCH_UTTERANCES = 8
BATCH_FRAMES = 8_000
BATCH_SCORES = 16_000_000
# The share of a batch that may be padding.
MAX_PADDING = 0.15

Item = tuple[str, Floats]
Batch = tuple[list[int], Future[list[Floats]] | None]


@dataclass(frozen=True)
class Scores:
    """An utterance's scores ``[num_frames, num_pdfs]``, in blocks of rows.

    The blocks of a recording with ``is_long`` are computed while they are taken, once and before the next
    utterance; others are one block.
    """

    utt_id: str
    num_frames: int
    blocks: Iterable[Floats]
    is_long: bool = False

    def mapped(self, function: Callable[[Floats], Floats]) -> "Scores":
        """Apply ``function`` to every block."""
        blocks = map(function, self.blocks) if self.is_long else [function(rows) for rows in self.blocks]
        return replace(self, blocks=blocks)

    def matrix(self) -> Floats:
        """Join all rows; those of a long recording may exceed memory."""
        blocks = list(self.blocks)
        return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)


def score_all(
    scorer: AcousticScorer,
    feats: Iterable[tuple[str, NDArray[np.floating]]],
    num_threads: int,
    skip: Callable[[str], None] | None = None,
) -> Iterator[tuple[str, Floats]]:
    """Yield utterance ids and log posteriors ``[num_frames, num_pdfs]`` as one matrix; see `score_blocks`."""
    for scores in score_blocks(scorer, feats, num_threads, skip):
        yield scores.utt_id, scores.matrix()


def score_blocks(
    scorer: AcousticScorer,
    feats: Iterable[tuple[str, NDArray[np.floating]]],
    num_threads: int,
    skip: Callable[[str], None] | None = None,
) -> Iterator[Scores]:
    """Score every utterance, in input order.

    Calls of ONNX Runtime run side by side in ``num_threads`` threads, which for one-thread sessions is
    faster than one call on several.

    Args:
        scorer: best loaded with ``num_threads=1``.
        feats: utterance ids with static or complete features.
        num_threads: calls at a time.
        skip: called with the id of an utterance without frames, which is left out; None prints a line.

    Raises:
        ValueError: features that do not fit the model; the message begins with the utterance id.
    """
    pending: deque[tuple[list[Item], list[Batch]]] = deque()
    long_recordings = _LongRecordings(scorer, num_threads)
    packed = batch_scorer(scorer)
    limits = Limits.of(scorer.metadata.num_pdfs)
    with ThreadPoolExecutor(num_threads) as pool:
        for window in _windows(_checked(scorer, feats, skip or _say_skipped), limits.window_frames):
            batches: list[Batch] = []
            for batch in batches_of_like_length([len(values) for _, values in window], limits.batch_frames):
                is_long = len(batch) == 1 and len(window[batch[0]][1]) > limits.long_frames
                inputs = [window[k][1] for k in batch]
                batches.append((batch, None if is_long else pool.submit(packed.log_posteriors, inputs)))
            pending.append((window, batches))
            if len(pending) > 1:
                yield from _in_order(*pending.popleft(), long_recordings)
        while pending:
            yield from _in_order(*pending.popleft(), long_recordings)


@dataclass(frozen=True)
class Limits:
    """Frames of a window, of a batch, and of an utterance in one call, for a number of pdfs."""

    window_frames: int
    batch_frames: int
    long_frames: int

    @classmethod
    def of(cls, num_pdfs: int) -> "Limits":
        """Compute the limits of a model with ``num_pdfs`` pdfs."""
        long_frames = most_frames(num_pdfs)
        # A batch is no longer than a single utterance may be, so that a longer one is in none.
        batch_frames = min(BATCH_FRAMES, BATCH_SCORES // num_pdfs, long_frames)
        return cls(min(WINDOW_FRAMES, WINDOW_SCORES // num_pdfs), batch_frames, long_frames)


class _LongRecordings:
    """Scores recordings too long for one call; prints once how far that may move answers."""

    def __init__(self, scorer: AcousticScorer, num_threads: int) -> None:
        self._scorer, self._num_threads = scorer, num_threads
        self._layers: LayerwiseScorer | None = None

    def scores(self, utt_id: str, feats: Floats) -> Scores:
        if self._layers is None:
            self._layers = LayerwiseScorer(self._scorer.path, self._num_threads)
            if not self._layers.is_exact:
                self._say_deviation(self._layers, utt_id, feats)
        return Scores(utt_id, len(feats), self._layers.log_posteriors(feats), is_long=True)

    def _say_deviation(self, layers: LayerwiseScorer, utt_id: str, feats: Floats) -> None:
        beginning = feats[: Limits.of(self._scorer.metadata.num_pdfs).long_frames]
        deviation = layers.deviation(beginning, self._scorer.log_posteriors([beginning])[0])
        print(
            f"{utt_id}: {len(feats)} frames are scored in pieces; at its beginning that moves {deviation}",
            file=sys.stderr,
        )


def batches_of_like_length(lengths: list[int], batch_frames: int = BATCH_FRAMES) -> list[list[int]]:
    """Batch indices into ``lengths``, longest first; a batch has up to ``batch_frames`` with padding."""
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda k: -lengths[k]):
        if batches and _fits(batches[-1], index, lengths, batch_frames):
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def _fits(batch: list[int], index: int, lengths: list[int], batch_frames: int) -> bool:
    longest, size = lengths[batch[0]], len(batch) + 1
    frames = sum(lengths[k] for k in batch) + lengths[index]
    padded = longest * size
    return size <= BATCH_UTTERANCES and padded <= batch_frames and padded - frames <= MAX_PADDING * padded


def _windows(items: Iterable[Item], window_frames: int) -> Iterator[list[Item]]:
    window: list[Item] = []
    frames = 0
    for utt_id, values in items:
        if window and frames + len(values) > window_frames:
            yield window
            window, frames = [], 0
        window.append((utt_id, values))
        frames += len(values)
    if window:
        yield window


def _checked(
    scorer: AcousticScorer, feats: Iterable[tuple[str, NDArray[np.floating]]], skip: Callable[[str], None]
) -> Iterator[Item]:
    for utt_id, values in feats:
        if len(values) == 0:
            skip(utt_id)
            continue
        yield utt_id, scorer.with_deltas(values, utt_id)


def _in_order(window: list[Item], batches: list[Batch], long_recordings: _LongRecordings) -> Iterator[Scores]:
    rows: dict[int, Floats] = {}
    for indices, future in batches:
        if future is not None:
            rows |= zip(indices, future.result(), strict=True)
    for index, (utt_id, feats) in enumerate(window):
        if index in rows:
            yield Scores(utt_id, len(feats), [rows.pop(index)])
        else:
            yield long_recordings.scores(utt_id, feats)


def _say_skipped(utt_id: str) -> None:
    print(f"{utt_id}: no frames (shorter than one frame), left out", file=sys.stderr)
