"""Scoring many utterances: batches of similar length, on all cores, in bounded memory, in input order."""

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from asr_bn.posteriors import AcousticScorer, Features

# Utterances are read ahead up to so many frames, and sorted by length among themselves.
WINDOW_FRAMES = 40_000
# Longer utterances are scored layer by layer, whose memory a call's would be a multiple of.
LONG_FRAMES = 30_000
# A batch is at most so many utterances, and so many frames with its padding.
BATCH_UTTERANCES = 8
BATCH_FRAMES = 8_000
# The share of a batch that may be padding.
MAX_PADDING = 0.15

Item = tuple[str, Features]


def score_all(
    scorer: AcousticScorer,
    feats: Iterable[tuple[str, NDArray[np.floating]]],
    num_threads: int,
    skip: Callable[[str], None] | None = None,
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Log posteriors ``[num_frames, num_pdfs]`` of every utterance, in the order they come.

    Calls of ONNX Runtime run side by side in ``num_threads`` threads, which for one-thread sessions is
    faster than one call on several.

    Args:
        scorer: best loaded with ``num_threads=1``.
        feats: utterance ids with static or complete features.
        num_threads: calls at a time.
        skip: told the id of an utterance without frames, which is left out; None prints a line.

    Raises:
        ValueError: features that do not fit the model; the message begins with the utterance id.
    """
    skip = skip or _say_skipped
    pending: deque[list[tuple[list[int], Future[list[NDArray[np.float32]]], list[str]]]] = deque()
    with ThreadPoolExecutor(num_threads) as pool:
        for window in _windows(_checked(scorer, feats, skip)):
            batches = batches_of_like_length([len(values) for _, values in window])
            pending.append(
                [
                    (
                        batch,
                        pool.submit(_score, scorer, [window[k][1] for k in batch]),
                        [window[k][0] for k in batch],
                    )
                    for batch in batches
                ]
            )
            if len(pending) > 1:
                yield from _in_order(pending.popleft())
        while pending:
            yield from _in_order(pending.popleft())


def _score(scorer: AcousticScorer, feats: list[Features]) -> list[NDArray[np.float32]]:
    if len(feats) > 1 or len(feats[0]) <= LONG_FRAMES or scorer.path is None or scorer.is_quantized:
        return scorer.log_posteriors(feats)
    from asr_bn.long_recordings import LayerwiseScorer

    scores = np.empty((len(feats[0]), scorer.metadata.num_pdfs), dtype=np.float32)
    start = 0
    for piece in LayerwiseScorer(scorer.path).log_posteriors(feats[0]):
        scores[start : start + len(piece)] = piece
        start += len(piece)
    return [scores]


def batches_of_like_length(lengths: list[int]) -> list[list[int]]:
    """Indices into ``lengths``, batch by batch, the longest first."""
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda k: -lengths[k]):
        if batches and _fits(batches[-1], index, lengths):
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def _fits(batch: list[int], index: int, lengths: list[int]) -> bool:
    longest, size = lengths[batch[0]], len(batch) + 1
    frames = sum(lengths[k] for k in batch) + lengths[index]
    padded = longest * size
    return size <= BATCH_UTTERANCES and padded <= BATCH_FRAMES and padded - frames <= MAX_PADDING * padded


def _windows(items: Iterable[Item]) -> Iterator[list[Item]]:
    window: list[Item] = []
    frames = 0
    for utt_id, values in items:
        if window and frames + len(values) > WINDOW_FRAMES:
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
        try:
            complete = scorer.with_deltas(values)
        except ValueError as error:
            raise ValueError(f"{utt_id}: {error}") from error
        yield utt_id, complete


def _in_order(
    batches: list[tuple[list[int], Future[list[NDArray[np.float32]]], list[str]]],
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    scores: dict[int, tuple[str, NDArray[np.float32]]] = {}
    for indices, future, utt_ids in batches:
        for index, utt_id, rows in zip(indices, utt_ids, future.result(), strict=True):
            scores[index] = (utt_id, rows)
    for index in range(len(scores)):
        yield scores.pop(index)


def _say_skipped(utt_id: str) -> None:
    print(f"{utt_id}: no frames (shorter than one frame), left out", file=sys.stderr)
