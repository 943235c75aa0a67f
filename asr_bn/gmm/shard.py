"""A share of the utterances in a process of its own: alignments and statistics."""

import multiprocessing
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

import numpy as np

from asr_bn.gmm.mixtures import Mixture, ModelStats, accumulate
from asr_bn.system.arrays import Floats, IntVector


class Shard:
    """Some utterances with their current alignments; lives in a worker process."""

    def __init__(self, words: Mapping[str, Sequence[int]], feats: Mapping[str, Floats]) -> None:
        self.words, self.feats = words, feats
        self.alignments: dict[str, IntVector] = {}

    def accumulate(self, mixtures: Sequence[Mixture], tid_to_pdf: IntVector) -> ModelStats:
        """Do the E step over the current alignments (``gmm-acc-stats-ali``)."""
        by_pdf, transition_ids = self.frames_by_pdf(len(mixtures), mixtures[0].means.shape[1], tid_to_pdf)
        stats = [accumulate(mixture, frames) for mixture, frames in zip(mixtures, by_pdf, strict=True)]
        return ModelStats(stats, np.bincount(transition_ids, minlength=len(tid_to_pdf)).astype(np.float64))

    def frames_by_pdf(
        self, num_pdfs: int, dim: int, tid_to_pdf: IntVector
    ) -> tuple[Iterator[Floats], IntVector]:
        """Return the aligned frames of each pdf, ``[num_frames, dim]``, and the transition-ids of all."""
        utt_ids = sorted(self.alignments)
        # Empty arrays first, for a shard without utterances.
        transition_ids = np.concatenate([np.zeros(0, np.int32), *map(self.alignments.__getitem__, utt_ids)])
        feats = np.concatenate([np.zeros((0, dim), np.float32), *map(self.feats.__getitem__, utt_ids)])
        pdf_ids = tid_to_pdf[transition_ids]
        order = np.argsort(pdf_ids, kind="stable")
        bounds = np.searchsorted(pdf_ids[order], np.arange(num_pdfs + 1)).tolist()
        return (feats[order[start:stop]] for start, stop in pairwise(bounds)), transition_ids

    def current(self) -> dict[str, IntVector]:
        """Return the transition-ids of each aligned utterance."""
        return self.alignments


class Shards:
    """Shards in their processes; a call goes to all of them, and the answers come in the shards' order."""

    def __init__(self, kind: type[Shard], arguments: Sequence[tuple[object, ...]]) -> None:
        """Start a process for each element, the arguments of its ``kind``."""
        context = multiprocessing.get_context("spawn")
        self._connections: list[Connection] = []
        self._processes = []
        # One thread each: there are as many processes as cores, and sums must not depend on the threads.
        saved = os.environ.get("OMP_NUM_THREADS")
        os.environ["OMP_NUM_THREADS"] = "1"
        try:
            for _ in arguments:
                ours, theirs = context.Pipe()
                process = context.Process(target=_serve, args=(theirs,), daemon=True)
                process.start()
                theirs.close()
                self._connections.append(ours)
                self._processes.append(process)
        finally:
            os.environ.pop("OMP_NUM_THREADS")
            if saved is not None:
                os.environ["OMP_NUM_THREADS"] = saved
        for connection, shard_arguments in zip(self._connections, arguments, strict=True):
            connection.send((kind, shard_arguments))
        self._receive()

    def __enter__(self) -> "Shards":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for connection in self._connections:
            connection.close()
        for process in self._processes:
            process.join()

    def call(self, method: str, *arguments: Any) -> list[Any]:
        """Call a method of every shard with the same arguments."""
        for connection in self._connections:
            connection.send((method, arguments))
        return self._receive()

    def _receive(self) -> list[Any]:
        try:
            answers = [connection.recv() for connection in self._connections]
        except EOFError as error:
            raise ValueError("a process of the training has ended (out of memory?)") from error
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return answers


def _serve(connection: Connection) -> None:
    try:
        kind, own = connection.recv()
        shard = kind(*own)
        connection.send(None)
        while True:
            method, arguments = connection.recv()
            connection.send(getattr(shard, method)(*arguments))
    except EOFError:
        return  # the parent has finished, or was killed
    except Exception as error:
        connection.send(error)


def deal(utt_ids: Iterable[str], num_jobs: int) -> list[list[str]]:
    """Cut sorted utterances into runs of about equal length, one for each job."""
    ordered = sorted(utt_ids)
    bounds = [len(ordered) * job // num_jobs for job in range(num_jobs + 1)]
    return [ordered[start:stop] for start, stop in pairwise(bounds)]
