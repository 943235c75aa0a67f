"""The processes that search, seen from the server."""

import pickle
import tempfile
from dataclasses import dataclass

import numpy as np

from asr_bn.scoring.metadata import ModelMetadata
from asr_bn.system.arrays import Floats
from serve.limits.refusal import Refusal
from serve.workers.pool import WorkerPool
from serve.workers.search_worker import SearchTask
from serve.workers.searcher import SearchFiles
from serve.workers.worker_process import Program


@dataclass(frozen=True)
class SearchLimits:
    """What one search may cost, beside what all of them search with."""

    timeout_s: float = 30.0
    memory_bytes: int = 1 << 30


class SearchWorkers(WorkerPool):
    """A pool of search processes, for the models of one Kaldi system.

    Args:
        size: how many.
        files: what is searched with.
        metadata: of a model of the system.
        limits: of each.

    Raises:
        OSError, ValueError: as `SearchFiles.open`.
    """

    def __init__(self, size: int, files: SearchFiles, metadata: ModelMetadata, limits: SearchLimits) -> None:
        searcher = files.open(metadata)
        # One file for all: what replaces a process searches with the same, whatever has become of the files.
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the pool
        pickle.dump(searcher, self._file, pickle.HIGHEST_PROTOCOL)
        self._file.flush()
        self._metadata = metadata
        program = Program(
            "serve.workers.search_worker",
            limits.memory_bytes,
            "search",
            "searched",
            "the audio",
            self._file.fileno(),
        )
        super().__init__(size, program, limits.timeout_s)

    def check(self, metadata: ModelMetadata) -> None:
        """Refuse a model of another system.

        Raises:
            Refusal: 422 it is one.
        """
        ours = self._metadata
        if metadata is not ours and not (
            metadata.system == ours.system
            and metadata.fbank == ours.fbank
            and np.array_equal(metadata.log_priors, ours.log_priors)
        ):
            raise Refusal(422, "the model is of another system than this server's lexicon and graph")

    async def search(self, text: list[str] | None, log_posteriors: Floats, client: str = "") -> bytes:
        """Align ``text`` with ``log_posteriors``, ``[num_frames, num_pdfs]``; None: find the words.

        Returns:
            A JSON object; see `serve.formats.schemas.Alignment`, `Transcript`.

        Raises:
            Refusal: as `serve.workers.searcher.Searcher`; 413 it needs too much time or memory, 503
                no process could search, through no fault of the client.
        """
        task: SearchTask = {"text": text}
        scores = np.ascontiguousarray(log_posteriors, dtype=np.float32).view(np.uint8).reshape(-1).data
        return (await self._ask(task, scores, client))[1]

    def close(self) -> None:
        """End the processes, and what is asked of them."""
        super().close()
        self._file.close()
