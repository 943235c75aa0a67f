"""Query parameters and headers are taken as they are meant, or refused by name."""

from collections.abc import Iterator

import numpy as np
import pytest
from fastapi.testclient import TestClient

from serve.app import create_app
from serve.formats import parameters
from serve.settings import load_settings
from tests.helpers.serving import npy, write_model

BODY = npy(np.random.default_rng(0).standard_normal((4, 123)).astype(np.float32))
NPY = {"content-type": "application/x-npy"}
NUMBERS = ["1_0", "+3", " 3", "3 ", "3.0", "1e1", "٣", "３", "²", "0x3", "-1", "", "three", "9" * 19, "3\n"]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    model = write_model(tmp_path_factory.mktemp("parameters") / "tiny.onnx")
    app = create_app(load_settings(model=model, access_log=False, audio_processes=1))
    with TestClient(app) as client:
        yield client


@pytest.mark.parametrize("value", NUMBERS)
@pytest.mark.parametrize("name", ["top_k", "channel"])
def test_numbers_are_digits(client, name, value):
    answer = client.post("/v1/posteriors", content=BODY, headers=NPY, params={name: value})
    assert answer.status_code == 422
    assert answer.json()["detail"] == f"query.{name}: expected a whole number, written as 1 to 18 digits"


@pytest.mark.parametrize("value", ["1_0", "+3", "3.0", "1e1", "0x3", "-1", "9" * 19])
def test_numbers_of_headers_are_digits(client, value):
    answer = client.post("/v1/posteriors", content=BODY, headers=NPY | {"x-timeout-ms": value})
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("header.x-timeout-ms: expected a whole number")


@pytest.mark.parametrize("value", ["1", "3", "003", "20", "9" * 18])
def test_what_is_a_number_is_taken(client, value):
    answer = client.post("/v1/posteriors", content=BODY, headers=NPY, params={"top_k": value})
    assert answer.status_code == 200
    assert len(answer.json()["pdf_ids"][0]) == min(20, int(value))


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("topk=3", "unknown query parameter 'topk', expected output, top_k, utt_id, channel, model"),
        ("top_k=3&Top_K=3", "unknown query parameter 'Top_K'"),
        ("top_k", "query.top_k: expected a whole number"),
        ("x", "unknown query parameter 'x'"),
        ("=3", "unknown query parameter ''"),
        ("top_k=3&top_k=3", "query parameter top_k: given more than once"),
        ("output=posterior&output=log_posterior", "query parameter output: given more than once"),
        ("top_k=0", "query.top_k: Input should be greater than or equal to 1"),
        ("channel=256", "query.channel: Input should be less than or equal to 255"),
    ],
)
def test_what_is_unknown_or_given_twice_is_refused_by_name(client, query, says):
    answer = client.post(f"/v1/posteriors?{query}", content=BODY, headers=NPY)
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith(says)


def test_v1_features_has_fewer_parameters(client):
    answer = client.post("/v1/features?top_k=3", content=BODY)
    assert answer.json()["detail"] == "unknown query parameter 'top_k', expected channel, model"


@pytest.mark.parametrize("path", ["/v2", "/v2/models/tiny", "/v2/models/tiny/versions/1/ready"])
def test_v2_knows_no_query_parameter(client, path):
    assert client.get(path).status_code == 200
    answer = client.get(f"{path}?x=1")
    assert answer.status_code == 400
    assert answer.json() == {"error": "unknown query parameter 'x', expected none"}


def test_headers_given_twice_are_refused(client):
    headers = [("content-type", "application/x-npy"), ("x-timeout-ms", "1000"), ("x-timeout-ms", "2000")]
    answer = client.post("/v1/posteriors", content=BODY, headers=headers)
    assert answer.status_code == 422
    assert "x-timeout-ms" in answer.json()["detail"]


def test_probes_and_pages_do_not_mind(client):
    for path in ("/healthz", "/readyz", "/", "/docs", "/v2/health/ready"):
        assert client.get(f"{path}?t=123").status_code == 200


def test_an_error_s_text_is_no_python(client):
    answers = [
        client.post("/v1/posteriors?top_k=x", content=BODY, headers=NPY),
        client.post("/v1/posteriors?output=words", content=BODY, headers=NPY),
        client.post("/v1/posteriors", content=BODY, headers=NPY | {"x-timeout-ms": "soon"}),
        client.post("/v2/models/tiny/versions/x/infer", content=b"{}"),
        client.post("/v2/models/tiny/infer", content=b"[1, null, true]"),
    ]
    for answer in answers:
        assert answer.status_code in (400, 422)
        for word in ("0x", "object at", "<class", "Value error", "None", "Traceback"):
            assert word not in answer.text


def test_what_is_remembered_of_earlier_requests_changes_no_answer(client):
    """Each request means what it says, the first time and later, beside others that were refused."""
    asked: list[tuple[str, dict[str, str], int, int | str]] = [
        ("", {}, 200, 20),
        ("top_k=3", {}, 200, 3),
        ("top_k=3", {"x-timeout-ms": "x"}, 422, "header.x-timeout-ms: expected a whole number"),
        ("top_k=3&utt_id=a", {}, 200, 3),
        ("top_k=4", {"x-timeout-ms": "5000"}, 200, 4),
        ("top_k=4x", {}, 422, "query.top_k: expected a whole number"),
        ("", {"x-timeout-ms": "x"}, 422, "header.x-timeout-ms: expected a whole number"),
        ("model=other", {}, 404, "model 'other' is not loaded"),
    ]
    for query, headers, status, expected in asked * 3:
        answer = client.post(f"/v1/posteriors?{query}", content=BODY, headers=NPY | headers)
        assert answer.status_code == status
        if isinstance(expected, str):
            assert answer.json()["detail"].startswith(expected)
            continue
        assert len(answer.json()["values"][0]) == expected
        assert answer.json()["utt_id"] == ("a" if "utt_id" in query else "utterance")
    names = [(f"/v2/models/{name}", status) for name, status in (("tiny", 200), ("other", 404))]
    assert [client.get(path).status_code for path, _ in names * 2] == [status for _, status in names * 2]


def test_no_more_is_remembered_than_is_bounded(client, monkeypatch):
    monkeypatch.setattr(parameters, "_MOST_REMEMBERED", 2)
    route = next(route for route in client.app.routes if getattr(route, "path", "") == "/v1/posteriors")
    route.remembered.clear()
    names = ["a" * 200, *(f"u{number}" for number in range(5))]
    for name in names:
        answer = client.post(f"/v1/posteriors?top_k=1&utt_id={name}", content=BODY, headers=NPY)
        assert answer.json()["utt_id"] == name
        assert len(route.remembered) <= 2
    assert route.remembered
    assert all(len(query) < 30 for query, *_ in route.remembered)
