"""The OpenAPI document against the server, by schemathesis: no server error, no undocumented answer."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from serve.app import create_app
from serve.protocols.public import public_paths
from serve.settings import load_settings
from tests.helpers.graphs import lexicon_dir
from tests.helpers.serving import write_model, write_phone_model

schemathesis = pytest.importorskip("schemathesis", reason="needs schemathesis")
import jsonschema_rs  # noqa: E402
from fastapi.testclient import TestClient  # noqa: E402
from schemathesis.specs.openapi.checks import (  # noqa: E402
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("openapi")
    model, lang = write_phone_model(folder / "tiny.onnx"), lexicon_dir(folder / "dict")
    app = create_app(load_settings(model=model, access_log=False, lang=lang))
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


def references(node: Any) -> Iterator[str]:
    """Every ``$ref`` of a document."""
    if isinstance(node, dict):
        yield from ([node["$ref"]] if "$ref" in node else [])
        node = list(node.values())
    if isinstance(node, list):
        for item in node:
            yield from references(item)


def test_what_is_referred_to_is_there(app: Any) -> None:
    document = app.openapi()
    found = set(references(document))
    assert len(found) > 10
    for reference in found:
        where = document
        for name in reference.removeprefix("#/").split("/"):
            where = where[name]


def test_what_v2_takes_and_answers_is_said(app: Any) -> None:
    document = app.openapi()
    for path, operations in document["paths"].items():
        for operation in operations.values() if path.startswith("/v2") else ():
            assert "422" not in operation["responses"], path
            for status, answer in operation["responses"].items():
                schema = answer["content"]["application/json"]["schema"]
                refused = {"$ref": "#/components/schemas/InferenceError"}
                assert (schema == refused) == (status != "200"), (path, status)
                assert "X-Request-Id" in answer["headers"]
    infer = document["paths"]["/v2/models/{name}/infer"]["post"]
    assert set(infer["requestBody"]["content"]) == {"application/json", "application/octet-stream"}
    assert "application/octet-stream" in infer["responses"]["200"]["content"]
    assert "Inference-Header-Content-Length" in infer["responses"]["200"]["headers"]
    assert "Inference-Header-Content-Length" in [parameter["name"] for parameter in infer["parameters"]]
    assert "Retry-After" in infer["responses"]["429"]["headers"]
    assert "HTTPValidationError" not in document["components"]["schemas"]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Of another application: schemathesis starts and ends its own."""
    model = write_model(tmp_path_factory.mktemp("calls") / "tiny.onnx")
    with TestClient(create_app(load_settings(model=model, access_log=False))) as client:
        yield client


def call(num_frames: int, **changes: Any) -> dict[str, Any]:
    features = {"name": "features", "datatype": "FP32", "shape": [1, num_frames, 123]}
    lengths = {"name": "lengths", "datatype": "INT32", "shape": [1], "data": [num_frames]}
    return {"inputs": [features | {"data": [0.5] * 123 * num_frames}, lengths]} | changes


@pytest.mark.parametrize(
    "body",
    [
        call(1),
        call(2, id="r1"),
        call(1, parameters={"timeout": 10_000_000}),
        call(1, outputs=[{"name": "log_posteriors"}]),
        call(1, outputs=[{"name": "log_posteriors", "parameters": {"binary_data": False}}]),
    ],
)
def test_calls_that_are_answered_fit_the_document(client: Any, body: dict[str, Any]) -> None:
    document = client.app.openapi()

    def check_against(name: str, value: Any) -> None:
        schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        jsonschema_rs.validate(schema, value)

    check_against("InferRequest", body)
    answer = client.post("/v2/models/tiny/infer", json=body)
    assert answer.status_code == 200, answer.text
    check_against("InferResponse", answer.json())


@pytest.mark.parametrize("needs_key", [True, False])
def test_the_document_says_what_needs_a_key(app: Any, tmp_path: Path, needs_key: bool) -> None:
    (tmp_path / "keys").write_text("key\n")
    model = write_model(tmp_path / "tiny.onnx")
    keys = {"api_keys_file": tmp_path / "keys"} if needs_key else {}
    with TestClient(create_app(load_settings(model=model, audio_processes=1, **keys))) as client:
        document = client.app.openapi()
    assert ({} in document["security"]) == (not needs_key)
    asked = {name for one in document["security"] for name in one}
    assert asked == {"apiKey", "bearerKey"} <= set(document["components"]["securitySchemes"])
    for path, operations in document["paths"].items():
        for operation in operations.values():
            is_public = path in public_paths()
            assert (operation.get("security") == []) == is_public, path
            if path.startswith("/v2/repository/models/"):
                assert all("adminToken" in one for one in operation["security"])
    for word in ("X-API-Key", "X-Admin-Token", "Retry-After"):
        assert word in document["info"]["description"]
