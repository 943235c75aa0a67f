"""Calls of the Open Inference Protocol that its clients would not make: malformed, or of another size."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.helpers.serving import running_server, write_model


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("models")
    write_model(folder / "wsj" / "1" / "model.onnx", seed=1)
    with running_server(folder, ASR_BN_MAX_BODY_BYTES="3000000") as (url, _):
        yield url


def raw_call(**changes: Any) -> dict[str, Any]:
    features = {"name": "features", "datatype": "FP32", "shape": [1, 1, 123], "data": [0.0] * 123}
    lengths = {"name": "lengths", "datatype": "INT32", "shape": [1], "data": [1]}
    return {"inputs": [features | changes, lengths]}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "parse"),
        (b"[]", "expected a JSON object"),
        (b"[" * 100_000, "parse"),
        (b"{}", "inputs"),
        (json.dumps({"inputs": [3]}), "inputs"),
        (json.dumps(raw_call() | {"outputs": [{"name": "log_posteriors"}] * 2}), "twice"),
        (json.dumps({"inputs": []}), "features, lengths missing"),
        (json.dumps(raw_call(datatype="FP64")), "datatype 'FP64'"),
        (json.dumps(raw_call(shape=[1, 2, 123])), "123 values of data"),
        (json.dumps(raw_call(shape=[1, 1, 41])), "unexpected shape"),
        (json.dumps(raw_call(shape=[1, 1, -123])), "list of sizes"),
        (
            json.dumps(raw_call(shape=[0, 2_000_000_000, 123], data=[])),
            "0 utterances in features, 1 in lengths",
        ),
        (json.dumps(raw_call(data="AAAA")), "data missing"),
        (json.dumps(raw_call(data=["a"] * 123)), "no FP32 number"),
        (json.dumps(raw_call(data=[[1.0], [2.0, 3.0]])), "unevenly"),
        (json.dumps(raw_call(parameters={"binary_data_size": 492})), "both data"),
        (json.dumps(raw_call(parameters={"shared_memory_region": "x"})), "shared memory"),
        (json.dumps(raw_call()).replace("0.0", "NaN", 1), "parse"),
        (json.dumps(raw_call(data=[1e39] * 123)), "does not fit FP32"),
        (json.dumps(raw_call() | {"parameters": {"timeout": "soon"}}), "timeout"),
    ],
)
def test_malformed_calls_get_an_error(url, body, says):
    answer = httpx.post(f"{url}/v2/models/wsj/infer", content=body)
    assert answer.status_code == 400, answer.text
    assert says in answer.json()["error"]


@pytest.mark.parametrize(
    ("size", "tail", "says"),
    [
        ("x", b"", "Inference-Header-Content-Length"),
        ("-1", b"", "Inference-Header-Content-Length"),
        ("999999", b"", "Inference-Header-Content-Length"),
        (None, b"\0" * 4, "unexpected size for input 'features'"),
        (None, b"\0" * 492, ""),
        (None, b"\0" * 496, "unexpected additional input data: 4 bytes"),
    ],
)
def test_binary_data_of_another_size(url, size, tail, says):
    call = raw_call(parameters={"binary_data_size": 492})
    del call["inputs"][0]["data"]
    text = json.dumps(call).encode()
    headers = {"Inference-Header-Content-Length": size or str(len(text))}
    answer = httpx.post(f"{url}/v2/models/wsj/infer", content=text + tail, headers=headers)
    assert answer.status_code == (400 if says else 200), answer.text
    assert says in answer.json().get("error", "")


def test_framework_errors_have_the_protocol_s_shape(url):
    for answer, status in (
        (httpx.get(f"{url}/v2/nothing"), 404),
        (httpx.get(f"{url}/v2/models/wsj/infer"), 405),
        (httpx.get(f"{url}/v2/models/wsj/versions/x"), 400),
        (httpx.post(f"{url}/v2/models/wsj/infer", content=b"x" * 3_000_001), 413),
    ):
        assert answer.status_code == status
        assert list(answer.json()) == ["error"]
