"""Traces: what OpenTelemetry's own in-memory exporter receives."""

import http.server
import importlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from serve.app import create_app
from serve.service.service import Service
from serve.service.tracing import Tracing, tracing_from
from serve.settings import load_settings
from tests.helpers.serving import chirp, npy, running_server, wav, write_model

sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="needs opentelemetry-sdk")
NPY = {"content-type": "application/x-npy", "accept": "application/x-npy"}
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("tracing") / "tiny.onnx")


@pytest.fixture
def exporter(model: Path) -> Any:
    memory = importlib.import_module("opentelemetry.sdk.trace.export.in_memory_span_exporter")
    return memory.InMemorySpanExporter()


@pytest.fixture
def client(model: Path, exporter: Any) -> Iterator[TestClient]:
    export = importlib.import_module("opentelemetry.sdk.trace.export")
    provider = sdk.TracerProvider()
    provider.add_span_processor(export.SimpleSpanProcessor(exporter))
    settings = load_settings(model=model, access_log=False, audio_processes=1)
    service = Service(settings, Tracing(provider))
    with TestClient(create_app(settings, service)) as client:
        yield client


def test_bad_fields_of_traces_are_not_written_to_the_log(client, exporter, caplog):
    """Their sender could fill it."""
    for field in ("traceparent", "tracestate", "baggage"):
        for value in ("x" * 5000, "k=%zz, =v, \xe9=1", ",".join(f"k{k}=v" for k in range(300))):
            headers = {"traceparent": PARENT, field: value.encode("latin-1")}
            assert client.get("/healthz", headers=headers).status_code == 200
    assert len(exporter.get_finished_spans()) == 9
    assert [one for one in caplog.records if one.name.startswith("opentelemetry")] == []


def test_a_request_has_a_span_with_its_stages_in_order(client, exporter):
    headers = {"traceparent": PARENT, "x-request-id": "r-1"}
    assert client.post("/v1/posteriors", content=wav(chirp()), headers=headers).status_code == 200
    *stages, request = exporter.get_finished_spans()
    assert request.name == "POST /v1/posteriors"
    assert request.kind.name == "SERVER"
    assert dict(request.attributes) == {
        "http.request.method": "POST",
        "url.path": "/v1/posteriors",
        "asr_bn.request_id": "r-1",
        "http.route": "/v1/posteriors",
        "http.response.status_code": 200,
    }
    assert f"{request.context.trace_id:032x}" == PARENT.split("-")[1]
    assert f"{request.parent.span_id:016x}" == PARENT.split("-")[2]
    expected = ["receive", "decode", "features", "queue", "inference", "serialize"]
    assert [stage.name for stage in stages] == expected
    for stage in stages:
        assert stage.parent.span_id == request.context.span_id
        assert request.start_time <= stage.start_time <= stage.end_time <= request.end_time
    starts = [stage.start_time for stage in stages]
    assert starts == sorted(starts)


def test_refusals_and_errors_of_ours_are_told_apart(client, exporter, monkeypatch):
    client.post("/v1/posteriors", content=b"not audio")
    *_, refused = exporter.get_finished_spans()
    assert refused.attributes["http.response.status_code"] == 415
    assert refused.status.status_code.name == "UNSET"
    exporter.clear()
    monkeypatch.setattr(Service, "score", None)
    broken = TestClient(client.app, raise_server_exceptions=False)
    answer = broken.post("/v1/posteriors", content=npy(np.zeros((3, 123), np.float32)), headers=NPY)
    assert answer.status_code == 500
    *_, failed = exporter.get_finished_spans()
    assert failed.status.status_code.name == "ERROR"


def test_a_path_that_a_client_makes_up_names_no_span(client, exporter):
    client.get("/made/up")
    (span,) = exporter.get_finished_spans()
    assert span.name == "GET other"


@pytest.mark.parametrize(
    ("environment", "asked"),
    [
        ({}, False),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, False),
        ({"OTEL_TRACES_EXPORTER": "console", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_TRACES_EXPORTER": "console"}, True),
    ],
)
def test_traces_are_made_where_the_environment_asks(environment, asked):
    tracing = tracing_from(environment)
    assert (tracing is not None) == asked
    if tracing:
        tracing.close()


def test_what_is_not_there_is_said():
    with pytest.raises(ValueError, match="OTEL_TRACES_EXPORTER is 'zipkin', expected otlp"):
        tracing_from({"OTEL_TRACES_EXPORTER": "zipkin"})


def test_the_server_sends_its_traces_to_a_collector(model):
    """A collector that takes OTLP over HTTP; what came is read with the protocol's own schema."""
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs the OTLP exporter")
    schema = importlib.import_module("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
    received: list[Any] = []

    class Collector(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            received.append(schema.ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Collector) as collector:
        thread = threading.Thread(target=collector.serve_forever, daemon=True)
        thread.start()
        endpoint = f"http://127.0.0.1:{collector.server_port}"
        with running_server(model, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint) as (url, process):
            import httpx

            answer = httpx.post(f"{url}/v1/posteriors", content=npy(np.zeros((3, 123), "f4")), headers=NPY)
            assert answer.status_code == 200
            process.terminate()
            assert process.wait(timeout=20) == 0
        collector.shutdown()
        thread.join()
    resources = [resource for request in received for resource in request.resource_spans]
    names = {span.name for resource in resources for scope in resource.scope_spans for span in scope.spans}
    assert {"POST /v1/posteriors", "inference"} <= names
    attributes = {item.key: item.value.string_value for item in resources[0].resource.attributes}
    assert attributes["service.name"] == "asr-bn"
