"""The server's moving parts, started and stopped together."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from asr_bn.decoding.search_options import ScoreWeights
from asr_bn.system.arrays import Floats
from serve.batching.batch_policy import BatchLimits, Scored
from serve.batching.batcher import Announcement, Batcher, DeadlinePassed
from serve.limits.estimates import CallTimes
from serve.limits.fairness import FairThreads
from serve.limits.refusal import Refusal
from serve.service.admission import Admission, Shares, full
from serve.service.metrics import Metrics
from serve.service.models import LoadOptions, ModelStore, ServedModel
from serve.service.tracing import RequestTrace, Tracing, tracing_from
from serve.settings import Settings
from serve.workers.audio_workers import AudioLimits, AudioWorkers
from serve.workers.search_workers import SearchLimits, SearchWorkers
from serve.workers.searcher import SearchFiles

T = TypeVar("T")
_SHORT_WRITE_S = 0.0005


@dataclass
class Timing:
    """Seconds that a request of ``client`` spent in each of `metrics.STAGES`, and its trace, if any."""

    client: str
    trace: RequestTrace | None = None
    stages: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    def server_timing(self) -> str:
        """Write the ``Server-Timing`` header's value, in milliseconds."""
        return ", ".join(f"{stage};dur={1000 * seconds:.2f}" for stage, seconds in self.stages.items())


async def before(deadline: float, work: Awaitable[T], what: str) -> T:
    """Await ``work``, until ``deadline`` (`time.monotonic`) at most, and return what it gives.

    Raises:
        Refusal: 504 the deadline came first, before ``what`` was done.
    """
    try:
        async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
            return await work
    except TimeoutError as error:
        raise Refusal(504, f"the request's deadline passed before {what}") from error


def search_form(text: list[str] | None) -> str:
    """Name what decides how long a search takes, for `Service.score`."""
    return "transcript" if text is None else "alignment"


class Service:
    """Models, batcher, audio processes and metrics of one server process.

    Args:
        settings: the server's settings.
        tracing: what makes traces; None: what OpenTelemetry's variables in the environment ask for.

    Raises:
        ValueError, OSError: as `serve.service.models.ModelStore`, `serve.service.tracing.tracing_from`.
    """

    def __init__(self, settings: Settings, tracing: Tracing | None = None) -> None:
        self.settings = settings
        self.tracing = tracing or tracing_from()
        self.metrics = Metrics()
        self.models = ModelStore(
            settings.model,
            settings.model_name,
            LoadOptions(
                device=settings.device,
                num_threads=settings.compute_threads,
                max_batch_size=settings.max_batch_size,
            ),
        )
        limits = BatchLimits(
            num_threads=settings.compute_threads,
            max_batch_frames=settings.max_batch_frames,
            long_frames=settings.long_frames,
        )
        self.batcher = Batcher(limits, self.metrics.observe_batch)
        self.audio_workers = AudioWorkers(
            settings.num_audio_processes,
            AudioLimits(settings.max_audio_seconds, settings.decode_timeout_s, settings.decode_memory_bytes),
        )
        self.search_workers: SearchWorkers | None = None
        self.metrics.watch(self.metrics.queue_depth, lambda: self.batcher.num_waiting)
        self.shares = Shares(settings)
        self.metrics.watch(self.metrics.accepted, lambda: self.shares.places.held)
        self.readers = FairThreads(settings.num_audio_processes, "read")
        self.encoders = FairThreads(2, "encode")
        self._write_times: defaultdict[str, CallTimes] = defaultdict(CallTimes)
        self.models_loaded = False
        self.draining = False

    @property
    def ready(self) -> bool:
        """Say whether new requests are accepted."""
        return self.models_loaded and not self.draining

    def load(self) -> None:
        """Load every model, lexicon and graph, and wait for the processes.

        Raises:
            ValueError, OSError: as `ModelStore.load_all` and `SearchWorkers`; a process cannot start.
        """
        try:
            self.models.load_all()
            self.search_workers = self._searchers()
            self.audio_workers.wait_until_ready()
            if self.search_workers is not None:
                self.search_workers.wait_until_ready()
        except (ValueError, OSError):
            self._close_workers()
            raise
        self.models_loaded = True

    def _searchers(self) -> SearchWorkers | None:
        its = self.settings
        if its.lang is None and its.graph is None:
            return None
        weights = ScoreWeights(its.acoustic_scale, its.word_penalty)
        files = SearchFiles(its.lang, its.graph, weights, its.posterior_scale, its.max_alignment_cells)
        limits = SearchLimits(its.search_timeout_s, its.search_memory_bytes)
        return SearchWorkers(its.num_search_processes, files, self.models.get().metadata, limits)

    def _close_workers(self) -> None:
        self.audio_workers.close()
        if self.search_workers is not None:
            self.search_workers.close()

    async def score(
        self,
        model: ServedModel,
        feats: Sequence[Floats],
        deadline: float,
        timing: Timing,
        announced: Announcement | None = None,
        form: str = "",
    ) -> list[Scored]:
        """Compute log posteriors of ``feats``, each ``[num_frames, num_features]``.

        The time that writing an answer in ``form`` takes (see `write`) is kept of the time to ``deadline``.

        Raises:
            Refusal: 504 ``deadline`` came first, 422 a score is not a number.
        """
        num_values = sum(map(len, feats)) * model.metadata.num_pdfs
        latest = deadline - self._writing_s(form, num_values, deadline)
        try:
            scored = await self.batcher.score(model, feats, latest, announced, timing.client)
        except DeadlinePassed as error:
            raise Refusal(504, "the request's deadline passed while it waited") from error
        for result in scored:
            # The softmax makes all scores of a frame NaN, or none.
            if np.isnan(result.log_posteriors[:, 0].sum()):
                raise Refusal(422, "the features are so large that the model's scores are not finite")
            self.note(timing, "queue", result.queue_s, before_s=result.inference_s)
            self.note(timing, "inference", result.inference_s)
        return scored

    def _writing_s(self, form: str, num_values: int, deadline: float) -> float:
        """Seconds to keep for writing an answer: twice those expected, at most half of the time there is."""
        expected = self._write_times[form].expected(num_values) if form else 0.0
        return min(2 * expected, max(0.0, deadline - time.monotonic()) / 2)

    async def write(
        self, timing: Timing, deadline: float, form: str, num_values: int, make: Callable[[], T]
    ) -> T:
        """Return ``make()``, the answer or how it begins.

        It is made in a thread, unless that takes less time than to hand it over to one.

        Args:
            timing: of the request.
            deadline: when (`time.monotonic`) the answer has to begin.
            form: one of a few, in each of which a value takes about the same time to write.
            num_values: scores in the answer.
            make: what to call.

        Raises:
            Refusal: 504 the deadline came first.
        """

        def timed() -> tuple[T, float]:
            begun = time.monotonic()
            return make(), time.monotonic() - begun

        started, times = time.monotonic(), self._write_times[form]
        if 0 < times.expected(num_values) < _SHORT_WRITE_S:
            answer, seconds = timed()
        else:
            writing = self.encoders.run(timing.client, timed)
            answer, seconds = await before(deadline, writing, "its answer was written")
        times.observe(num_values, seconds)
        self.note(timing, "serialize", time.monotonic() - started)
        return answer

    async def search(
        self, timing: Timing, deadline: float, text: list[str] | None, log_posteriors: Floats
    ) -> bytes:
        """Align ``text`` with an utterance's scores; None: find the words (see `SearchWorkers.search`).

        Raises:
            Refusal: as there; 504 ``deadline`` came first.
        """
        assert self.search_workers is not None  # looked at before the body was read
        started = time.monotonic()
        searching = self.search_workers.search(text, log_posteriors, timing.client)
        found = await before(deadline, searching, "its words were found")
        self._write_times[search_form(text)].observe(log_posteriors.size, time.monotonic() - started)
        self.note(timing, "search", time.monotonic() - started)
        return found

    def deadline(self, timing: Timing, timeout_s: float | None) -> float:
        """Return when (`time.monotonic`) an answer has to begin: ``timeout_s`` on, at most ``deadline_s``."""
        most = self.settings.deadline_s
        return timing.started + (most if timeout_s is None else min(most, timeout_s))

    def note(self, timing: Timing, stage: str, seconds: float, before_s: float = 0.0) -> None:
        """Record that a request spent ``seconds`` in one of `metrics.STAGES`, until ``before_s`` ago."""
        if timing.trace is not None:
            timing.trace.stage(stage, seconds, before_s)
        timing.stages[stage] = seconds
        self.metrics.observe_stage(stage, seconds)

    @contextmanager
    def admit(self, client: str, deadline: float, num_bytes: int) -> Iterator[Admission]:
        """Hold one of the places for accepted requests, of which there are ``max_queue``, and their bodies.

        Raises:
            Refusal: 503 the models are not loaded yet, 429 there is no place for this client, or so many wait
                that an answer before ``deadline`` is not to be expected.
        """
        self.check_admission(client, deadline)
        admission = Admission(self.shares, client)
        try:
            admission.take(self.shares.places, 1)
            admission.take(self.shares.bodies, num_bytes)
            yield admission
        finally:
            admission.release()

    def check_admission(self, client: str, deadline: float) -> None:
        """Refuse what `admit` would refuse, before reading a body.

        Raises:
            Refusal: as `admit`.
        """
        if not self.models_loaded:
            raise Refusal(503, "the models are not loaded yet", {"retry-after": "1"})
        self.shares.make_room(self.shares.places, client, 1)
        # Where nothing waits, the time that a call takes is no reason to refuse: it may be out of date.
        if self.batcher.num_waiting:
            wait_s = self.batcher.wait_s(client)
            if 0 < deadline - time.monotonic() < wait_s + self.batcher.call_s:
                raise full(wait_s)

    async def close(self) -> None:
        """Answer what was accepted, then end threads and processes."""
        await self.batcher.close()
        self._close_workers()
        self.readers.shutdown()
        self.encoders.shutdown()
        if self.tracing is not None:
            await asyncio.to_thread(self.tracing.close)
