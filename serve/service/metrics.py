"""What the server counts, for Prometheus to scrape.

Of several processes any may be asked: each writes what it counts into the folder that
``PROMETHEUS_MULTIPROC_DIR`` names (prometheus_client's way), and answers with the sums.
"""

import os
from collections.abc import Callable
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from serve.transport.standard_error import report_drops

MULTIPROCESS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
STAGES = ("receive", "decode", "features", "queue", "inference", "search", "serialize")
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
_REAL_TIME_FACTORS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2)


class Metrics:
    """One server's metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._one_of_several = MULTIPROCESS_VARIABLE in os.environ
        self._watched: list[tuple[Gauge, Callable[[], float]]] = []
        counter = partial(Counter, registry=self.registry)
        histogram = partial(Histogram, registry=self.registry)
        self.requests = counter(
            "asr_bn_requests", "Requests answered, by path template and status", ["path", "status"]
        )
        self.request_seconds = histogram(
            "asr_bn_request_seconds", "From first byte in to last byte out", ["path"], buckets=_SECONDS
        )
        self.in_flight = self._gauge("asr_bn_requests_in_flight", "Requests being answered")
        self.queue_depth = self._gauge("asr_bn_queue_depth", "Utterances that wait for a call")
        self.accepted = self._gauge("asr_bn_requests_accepted", "Requests that hold a place")
        self.stage_seconds = histogram(
            "asr_bn_stage_seconds", "Time of a request by stage", ["stage"], buckets=_SECONDS
        )
        self.batch_size = histogram("asr_bn_batch_size", "Utterances in a call", buckets=_SIZES)
        self.frames = counter("asr_bn_frames", "Frames scored")
        self.padded_frames = counter("asr_bn_padded_frames", "Frames computed, padding included")
        self.audio_seconds = counter("asr_bn_audio_seconds", "Seconds of audio decoded")
        self.real_time_factor = histogram(
            "asr_bn_real_time_factor",
            "Time of a request over the time its frames span",
            buckets=_REAL_TIME_FACTORS,
        )
        self.log_lines_dropped = counter(
            "asr_bn_log_lines_dropped", "Lines that standard error took too slowly, or not at all"
        )
        report_drops(self.log_lines_dropped.inc)
        self._stages = {stage: self.stage_seconds.labels(stage) for stage in STAGES}

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, registry=self.registry, multiprocess_mode="livesum")

    def watch(self, gauge: Gauge, value: Callable[[], float]) -> None:
        """Set ``gauge`` to ``value()`` when it is read, or, of several processes, at every request."""
        if self._one_of_several:
            self._watched.append((gauge, value))
        else:
            gauge.set_function(value)

    def begin_request(self) -> None:
        """Count a request in."""
        self.in_flight.inc()
        self._refresh()

    def end_request(self, path: str, status: int, seconds: float) -> None:
        """Count an answer of the route ``path`` (a template), given after ``seconds``."""
        self.in_flight.dec()
        self.requests.labels(path, str(status)).inc()
        self.request_seconds.labels(path).observe(seconds)
        self._refresh()

    def _refresh(self) -> None:
        for gauge, value in self._watched:
            gauge.set(value())

    def observe_batch(self, size: int, frames: int, padded_frames: int, seconds: float) -> None:
        """Count one call (a `serve.batching.batcher.BatchObserver`)."""
        self.batch_size.observe(size)
        self.frames.inc(frames)
        self.padded_frames.inc(padded_frames)

    def observe_stage(self, stage: str, seconds: float) -> None:
        """Record the seconds that a request spent in one of `STAGES`."""
        self._stages[stage].observe(seconds)

    def exposition(self) -> bytes:
        """Write the text format that Prometheus reads."""
        if not self._one_of_several:
            return generate_latest(self.registry)
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)
