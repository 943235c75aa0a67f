"""The OpenAPI document against the server, by schemathesis: no server error, no undocumented answer."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from serve.app import create_app
from serve.settings import load_settings
from tests.serving import write_model

schemathesis = pytest.importorskip("schemathesis", reason="needs schemathesis")
from fastapi.testclient import TestClient  # noqa: E402
from schemathesis.specs.openapi.checks import (  # noqa: E402
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    model = write_model(tmp_path_factory.mktemp("openapi") / "tiny.onnx")
    app = create_app(load_settings(model=model, access_log=False))
    with TestClient(app):
        yield app


def test_every_answer_is_documented(app: Any) -> None:
    api = schemathesis.openapi.from_asgi("/openapi.json", app)
    operations = [result.ok() for result in api.get_all_operations()]
    assert len(operations) > 20
    for operation in operations:
        check(operation)


def check(operation: Any) -> None:
    @given(case=operation.as_strategy())
    @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    def answers_are_documented(case: Any) -> None:
        answer = case.call_and_validate(checks=CHECKS)
        assert answer.status_code != 500  # 503 and 504 are answers to a deadline of a millisecond

    answers_are_documented()


def test_the_document_is_complete(app: Any) -> None:
    paths = app.openapi()["paths"]
    posteriors = paths["/v1/posteriors"]["post"]
    assert set(posteriors["responses"]["200"]["content"]) == {
        "application/json",
        "application/x-npy",
        "application/x-kaldi-ark",
    }
    assert "application/x-npy" in posteriors["requestBody"]["content"]
    for path in ("/healthz", "/readyz", "/metrics", "/v2", "/v2/models/{name}/versions/{version}/infer"):
        assert path in paths
