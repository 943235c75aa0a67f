"""OpenTelemetry traces: a span for each request, within it one for each stage; needs ``asr-bn[otel]``.

Off, and nothing of OpenTelemetry imported, unless its own variables ask: ``OTEL_TRACES_EXPORTER`` (``otlp``
or ``console``) or an ``OTEL_EXPORTER_OTLP_ENDPOINT``.  Its other variables (``OTEL_SERVICE_NAME``,
``OTEL_TRACES_SAMPLER`` ...) mean what they always do.
"""

import logging
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from starlette.types import Scope

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
# What they would log of a request's bad fields its client could fill the log with.
for _name in ("opentelemetry.baggage", "opentelemetry.trace"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)


class RequestTrace:
    """The span of a request and those of its stages.

    Args:
        tracer: makes the spans.
        scope: of the request; its ``traceparent`` header says what the span is a part of.
        request_id: becomes an attribute.
    """

    def __init__(self, tracer: "Tracer", scope: Scope, request_id: str) -> None:
        from opentelemetry.propagate import extract
        from opentelemetry.trace import SpanKind

        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        attributes = {
            "http.request.method": scope["method"],
            "url.path": scope["path"],
            "asr_bn.request_id": request_id,
        }
        self._tracer = tracer
        self._span: Span = tracer.start_span(
            scope["method"], extract(headers), kind=SpanKind.SERVER, attributes=attributes
        )

    def stage(self, name: str, seconds: float, before_s: float) -> None:
        """Record a stage that took ``seconds`` and ended ``before_s`` ago."""
        from opentelemetry.trace import set_span_in_context

        end = time.time_ns() - int(1e9 * before_s)
        span = self._tracer.start_span(
            name, set_span_in_context(self._span), start_time=end - int(1e9 * seconds)
        )
        span.end(end)

    def end(self, scope: Scope, route: str, status: int) -> None:
        """Record the answer's route and status, and end the span."""
        from opentelemetry.trace import StatusCode

        self._span.update_name(f"{scope['method']} {route}")
        self._span.set_attributes({"http.route": route, "http.response.status_code": status})
        if status >= 500:
            self._span.set_status(StatusCode.ERROR)
        self._span.end()


class Tracing:
    """Makes the traces of requests and sends them off.

    Args:
        provider: of OpenTelemetry's SDK.
    """

    def __init__(self, provider: "TracerProvider") -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("asr_bn.serve")

    def begin(self, scope: Scope, request_id: str) -> RequestTrace:
        """Begin the span of a request."""
        return RequestTrace(self._tracer, scope, request_id)

    def close(self) -> None:
        """Send the spans that wait; blocks."""
        self._provider.shutdown()


def tracing_from(environment: Mapping[str, str] = os.environ) -> Tracing | None:
    """Make the tracing that OpenTelemetry's variables ask for; None if they ask for none.

    Raises:
        ValueError: what they ask for is unknown or not installed.
    """
    name = environment.get("OTEL_TRACES_EXPORTER") or (
        "otlp" if any(environment.get(variable) for variable in _ENDPOINTS) else "none"
    )
    if name == "none" or environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    try:
        return _exporting_tracing(name, environment)
    except ImportError as error:
        raise ValueError(
            f"the environment asks for OpenTelemetry traces: pip install 'asr-bn[otel]' ({error})"
        ) from error


def _exporting_tracing(name: str, environment: Mapping[str, str]) -> Tracing:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    named = {} if environment.get("OTEL_SERVICE_NAME") else {"service.name": "asr-bn"}
    provider = TracerProvider(resource=Resource.create(named))
    provider.add_span_processor(BatchSpanProcessor(_exporter(name)))
    return Tracing(provider)


def _exporter(name: str) -> Any:
    if name == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter()
    if name == "otlp":
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        return OTLPSpanExporter()
    raise ValueError(f"OTEL_TRACES_EXPORTER is {name!r}, expected otlp, console or none")
