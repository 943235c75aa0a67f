"""Decoding in several processes, in order and in bounded memory."""

import multiprocessing
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path

from asr_bn.decoding.graph import DecodingGraph, find_transition_model
from asr_bn.decoding.lattices.decoder import Decoded, GrammarFiles, LatticeDecoder, LatticeOptions
from asr_bn.decoding.search_options import BeamOptions, ScoreWeights
from asr_bn.kaldi_io.transition_model import TransitionModel
from asr_bn.kaldi_io.utterance_id import prefix_errors
from asr_bn.scoring.corpus import Scores
from asr_bn.system.arrays import Floats

# Utterances handed out for each process: enough to keep it busy, few enough to bound memory.
_AHEAD = 3
_decoder: LatticeDecoder | None = None


@dataclass(frozen=True)
class SearchJob:
    """What a process is started with: the graph's folder, the search's options, and other language models."""

    graph_dir: Path
    mdl: Path | None
    options: BeamOptions
    lattices: LatticeOptions = field(default_factory=LatticeOptions)
    grammars: GrammarFiles | None = None

    def transition_model(self) -> Path:
        """Return the file of the transition model; see `find_transition_model`."""
        return self.mdl or find_transition_model(self.graph_dir)

    def check(self, num_pdfs: int, model: Path) -> None:
        """Raise ``ValueError`` unless the transition model has as many pdfs as the acoustic ``model``."""
        path = self.transition_model()
        expected = TransitionModel.read(path).num_pdfs
        if expected != num_pdfs:
            raise ValueError(
                f"{self.graph_dir}: {path} has {expected} pdfs, {model} has {num_pdfs}: "
                "a graph of another model"
            )

    def open(self) -> LatticeDecoder:
        """Load the graph, and the word graphs."""
        graph = DecodingGraph.load(self.graph_dir, self.mdl)
        grammars = None if self.grammars is None else self.grammars.load()
        return LatticeDecoder(graph, self.options, self.lattices, grammars)


def decode_all(
    job: SearchJob, scores: Iterable[Scores], weights: Sequence[ScoreWeights], num_jobs: int
) -> Iterator[tuple[str, Decoded]]:
    """Decode every utterance, in input order, and find its best words under each of ``weights``.

    Args:
        job: opened once in each process.
        scores: log likelihoods; long recordings are decoded in this process, as their blocks come.
        weights: acoustic scales and word penalties.
        num_jobs: processes; 1 is this one.

    Raises:
        ValueError: the graph cannot be loaded, scores do not fit it (the message begins with the
            utterance id), or a process died.
    """
    decoder = job.open() if num_jobs == 1 else None
    # Not forked: this process runs ONNX Runtime's threads.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(num_jobs, mp_context=context, initializer=_start, initargs=(job,))
    pending: deque[tuple[str, Future[Decoded]]] = deque()
    try:
        for item in scores:
            if num_jobs == 1 or item.is_long:
                while pending:
                    yield _finished(pending)
                decoder = decoder or job.open()
                yield item.utt_id, _decode(decoder, item.utt_id, item.blocks, weights)
                continue
            pending.append((item.utt_id, pool.submit(_work, item.utt_id, item.matrix(), weights)))
            if len(pending) > num_jobs * _AHEAD:
                yield _finished(pending)
        while pending:
            yield _finished(pending)
    except BrokenProcessPool as error:
        raise ValueError("a process that decoded died (out of memory?)") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _finished(pending: deque[tuple[str, Future[Decoded]]]) -> tuple[str, Decoded]:
    utt_id, future = pending.popleft()
    return utt_id, future.result()


def _start(job: SearchJob) -> None:
    global _decoder
    _decoder = job.open()


def _work(utt_id: str, log_likelihoods: Floats, weights: Sequence[ScoreWeights]) -> Decoded:
    if _decoder is None:
        raise ValueError("this process was not started by decode_all")
    return _decode(_decoder, utt_id, [log_likelihoods], weights)


def _decode(
    decoder: LatticeDecoder, utt_id: str, blocks: Iterable[Floats], weights: Sequence[ScoreWeights]
) -> Decoded:
    with prefix_errors(utt_id):
        return decoder.decode(blocks, weights)
