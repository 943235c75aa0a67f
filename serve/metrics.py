"""What the server counts, for Prometheus to scrape."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

STAGES = ("receive", "decode", "features", "queue", "inference", "serialize")
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
_REAL_TIME_FACTORS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2)


class Metrics:
    """One server's metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.requests = Counter(
            "asr_bn_requests",
            "Requests answered, by path template and status",
            ["path", "status"],
            registry=registry,
        )
        self.request_seconds = Histogram(
            "asr_bn_request_seconds",
            "From first byte in to last byte out",
            ["path"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.in_flight = Gauge("asr_bn_requests_in_flight", "Requests being answered", registry=registry)
        self.queue_depth = Gauge("asr_bn_queue_depth", "Utterances that wait for a call", registry=registry)
        self.accepted = Gauge("asr_bn_requests_accepted", "Requests that hold a place", registry=registry)
        self.stage_seconds = Histogram(
            "asr_bn_stage_seconds",
            "Time of a request by stage",
            ["stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.batch_size = Histogram(
            "asr_bn_batch_size", "Utterances in a call", buckets=_SIZES, registry=registry
        )
        self.frames = Counter("asr_bn_frames", "Frames scored", registry=registry)
        self.padded_frames = Counter(
            "asr_bn_padded_frames", "Frames computed, padding included", registry=registry
        )
        self.audio_seconds = Counter("asr_bn_audio_seconds", "Seconds of audio decoded", registry=registry)
        self.real_time_factor = Histogram(
            "asr_bn_real_time_factor",
            "Time of a request over the time its frames span",
            buckets=_REAL_TIME_FACTORS,
            registry=registry,
        )
        for stage in STAGES:
            self.stage_seconds.labels(stage)

    def observe_batch(self, size: int, frames: int, padded_frames: int, seconds: float) -> None:
        """Note one call (a `serve.batching.BatchObserver`)."""
        self.batch_size.observe(size)
        self.frames.inc(frames)
        self.padded_frames.inc(padded_frames)

    def observe_stage(self, stage: str, seconds: float) -> None:
        """Note what a request spent in one of `STAGES`."""
        self.stage_seconds.labels(stage).observe(seconds)

    def exposition(self) -> bytes:
        """The text format that Prometheus reads."""
        return generate_latest(self.registry)
