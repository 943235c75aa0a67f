"""Beam search in several processes, in order and in bounded memory."""

import multiprocessing
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from asr_bn.decoding.beam_search import BeamOptions, BeamSearch, Hypothesis
from asr_bn.decoding.graph import DecodingGraph, find_transition_model
from asr_bn.kaldi_io.transition_model import TransitionModel

# Utterances handed out for each process: enough to keep it busy, few enough to bound memory.
_AHEAD = 3
_search: BeamSearch | None = None


@dataclass(frozen=True)
class SearchJob:
    """What a process needs to begin: where the graph is, and how wide to search."""

    graph_dir: Path
    mdl: Path | None
    options: BeamOptions

    def check(self, num_pdfs: int, model: Path) -> None:
        """Refuse a graph whose transition model has another number of pdfs than the acoustic ``model``.

        Raises:
            ValueError: it has.
        """
        path = self.mdl or find_transition_model(self.graph_dir)
        expected = TransitionModel.read(path).num_pdfs
        if expected != num_pdfs:
            raise ValueError(
                f"{self.graph_dir}: {path} has {expected} pdfs, {model} has {num_pdfs}: "
                "a graph of another model"
            )

    def open(self) -> BeamSearch:
        """Load the graph."""
        return BeamSearch(DecodingGraph.load(self.graph_dir, self.mdl), self.options)


def decode_all(
    job: SearchJob, scores: Iterable[tuple[str, NDArray[np.float32]]], scales: Sequence[float], num_jobs: int
) -> Iterator[tuple[str, list[Hypothesis]]]:
    """Best path of every utterance with each acoustic scale, in the order they come.

    Args:
        job: opened once in each process.
        scores: utterance ids and log likelihoods ``[num_frames, num_pdfs]``.
        scales: acoustic scales.
        num_jobs: processes; 1 is this one.

    Raises:
        ValueError: the graph cannot be loaded, scores do not fit it (the message begins with the
            utterance id), or a process died.
    """
    if num_jobs == 1:
        search = job.open()
        for utt_id, log_likelihoods in scores:
            yield utt_id, _decode(search, utt_id, log_likelihoods, scales)
        return
    # Not forked: this process runs ONNX Runtime's threads.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(num_jobs, mp_context=context, initializer=_start, initargs=(job,))
    pending: deque[tuple[str, Future[list[Hypothesis]]]] = deque()
    try:
        for utt_id, log_likelihoods in scores:
            pending.append((utt_id, pool.submit(_work, utt_id, log_likelihoods, scales)))
            if len(pending) > num_jobs * _AHEAD:
                yield _finished(pending)
        while pending:
            yield _finished(pending)
    except BrokenProcessPool as error:
        raise ValueError("a process that decoded died (out of memory?)") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _finished(pending: deque[tuple[str, Future[list[Hypothesis]]]]) -> tuple[str, list[Hypothesis]]:
    utt_id, future = pending.popleft()
    return utt_id, future.result()


def _start(job: SearchJob) -> None:
    global _search
    _search = job.open()


def _work(utt_id: str, log_likelihoods: NDArray[np.float32], scales: Sequence[float]) -> list[Hypothesis]:
    if _search is None:
        raise ValueError("this process was not started by decode_all")
    return _decode(_search, utt_id, log_likelihoods, scales)


def _decode(
    search: BeamSearch, utt_id: str, log_likelihoods: NDArray[np.float32], scales: Sequence[float]
) -> list[Hypothesis]:
    try:
        return [search.decode(log_likelihoods, scale) for scale in scales]
    except ValueError as error:
        raise ValueError(f"{utt_id}: {error}") from error
