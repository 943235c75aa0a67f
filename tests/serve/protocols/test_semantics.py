"""What RFC 9110 asks of every resource of the server: HEAD, conditions, ranges, fields on several lines."""

import re
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from serve.app import EXPOSED_HEADERS, create_app
from serve.settings import Settings
from tests.helpers.serving import npy, running_server, write_model

BODY = npy(np.zeros((5, 123), np.float32))
NPY = ("content-type", "application/x-npy")
ORIGIN = "https://page.example"
# What a page of another origin may always read (Fetch, "CORS-safelisted response-header name"), what is said
# to its browser, and what has no meaning for it.
OTHERWISE_READ = {
    "cache-control",
    "content-language",
    "content-length",
    "content-type",
    "expires",
    "last-modified",
}
OTHERWISE_READ |= {"pragma", "vary", "date", "server", "connection", "transfer-encoding", "accept-ranges"}
OTHERWISE_READ |= {"content-security-policy", "x-content-type-options"}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    model = write_model(tmp_path_factory.mktemp("semantics") / "tiny.onnx")
    with (
        running_server(model, ASR_BN_CORS_ORIGINS=f'["{ORIGIN}"]') as (url, _),
        httpx.Client(base_url=url, headers={"origin": ORIGIN}) as client,
    ):
        yield client


def get_paths(client: httpx.Client) -> list[str]:
    """A path of every route that has GET."""
    described = client.get("/openapi.json").json()["paths"]
    paths = [path.format(name="tiny", version=1) for path, methods in described.items() if "get" in methods]
    return [*paths, "/", "/docs", "/static/page.js", "/openapi.json"]


def test_head_is_answered_like_get_without_the_body(client):
    paths = get_paths(client)
    assert len(paths) > 15
    for path in paths:
        got, head = client.get(path), client.head(path)
        status = 422 if path == "/v1/names" else 200  # the model has no phones
        assert (got.status_code, head.status_code, head.content) == (status, status, b""), path
        differ = {"date", "x-request-id"} | ({"content-length"} if path == "/metrics" else set())
        assert got.headers.keys() == head.headers.keys(), path
        assert [got.headers[key] for key in got.headers.keys() - differ] == [
            head.headers[key] for key in got.headers.keys() - differ
        ]
    assert client.head("/v2/models/other").status_code == client.get("/v2/models/other").status_code == 404
    counted = re.search(r'requests_total\{path="/healthz",status="200"\} (\d+)', client.get("/metrics").text)
    assert counted and int(counted[1]) == 2


def test_other_methods_are_refused_with_those_that_there_are(client):
    for path in get_paths(client):
        for method in ("OPTIONS", "TRACE", "PUT", "DELETE", "PATCH", "QUERY"):
            answer = client.request(method, path)
            assert answer.status_code == 405, (method, path)
            assert {"GET", "HEAD"} <= set(answer.headers["allow"].split(", ")), (method, path)
    assert client.head("/v1/posteriors").headers["allow"] == "POST"


# Fields on several lines: RFC 9110, 5.3


def post(
    client: httpx.Client, path: str = "/v1/posteriors?top_k=1", *fields: tuple[str, str], body: bytes = BODY
):
    return client.post(path, headers=[("origin", ORIGIN), *fields], content=body)


@pytest.mark.parametrize(
    ("accepts", "status", "answered"),
    [
        (["text/html", "application/x-npy"], 200, "application/x-npy"),
        (["application/x-npy;q=0.1", "application/json"], 200, "application/json"),
        (["application/json;q=0", "*/*;q=0.5"], 200, "application/x-npy"),
        (["", "application/x-npy"], 200, "application/x-npy"),
        (["text/html", "image/png"], 406, "application/problem+json"),
    ],
)
def test_accept_on_several_lines_is_one_list(client, accepts, status, answered):
    for fields in ([*accepts], [", ".join(accepts)]):
        answer = post(client, "/v1/posteriors?top_k=1", NPY, *(("accept", one) for one in fields))
        assert (answer.status_code, answer.headers["content-type"]) == (status, answered)


@pytest.mark.parametrize(
    ("fields", "statuses"),
    [
        ([NPY, ("content-encoding", "identity"), ("content-encoding", "gzip")], {400, 415}),
        ([NPY, ("x-timeout-ms", "1000"), ("x-timeout-ms", "2000")], {422}),
    ],
)
def test_a_second_value_where_there_is_one_is_a_bad_one(client, fields, statuses):
    assert post(client, "/v1/posteriors?top_k=1", *fields).status_code in statuses


def test_one_coding_is_asked_for_on_one_line_only(client):
    """Two are what HTTP libraries name that would take any (``serve.protocols.open_inference``)."""
    body = b'{"inputs": [{"name": "lengths", "datatype": "INT32", "shape": [1], "data": [1]}, '
    body += b'{"name": "features", "datatype": "FP32", "shape": [1, 1, 123], "data": [%s]}]}' % b",".join(
        [b"0"] * 123
    )
    for lines, coding in ((["gzip"], "gzip"), (["gzip", "deflate"], None)):
        fields = [("accept-encoding", line) for line in lines]
        answer = client.build_request("POST", "/v2/models/tiny/infer", headers=fields, content=body)
        assert client.send(answer).headers.get("content-encoding") == coding


# Ranges and conditions: RFC 9110, 13 and 14


@pytest.mark.parametrize("path", ["/", "/docs", "/static/page.js"])
def test_ranges_of_pages(client, path):
    whole = client.get(path).content
    for asked in (
        "items=0-5",
        "bytes",
        "bytes=",
        "bytes=x",
        "bytes=1-x",
        "bytes=0-5,x",
        "bytes=0-" + "9" * 5000,
        "=0-5",
        "bytes=5-2",
        "bytes=0-1,5-2",
    ):
        answer = client.get(path, headers={"range": asked})
        assert (answer.status_code, answer.content) == (200, whole), asked
    for asked, part in (("bytes=0-9", whole[:10]), ("Bytes=10-", whole[10:]), ("bytes=-7", whole[-7:])):
        answer = client.get(path, headers={"range": asked})
        assert (answer.status_code, answer.content) == (206, part), asked
        assert answer.headers["content-range"].endswith(f"/{len(whole)}")
    for asked in (f"bytes={len(whole)}-", "bytes=-0", f"bytes=-0,{len(whole)}-{len(whole) + 5}"):
        answer = client.get(path, headers={"range": asked})
        assert answer.status_code == answer.json()["status"] == 416, asked
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["content-range"] == f"bytes */{len(whole)}"
        # If-Range of another version, or a condition that fails, comes first (13.2.2).
        for field, value, status in (("if-range", '"other"', 200), ("if-none-match", "*", 304)):
            assert client.get(path, headers={"range": asked, field: value}).status_code == status
    for asked in ("bytes=0-1,999999-", "bytes=-0, 0-1", f"bytes= {len(whole)}-, 0-1 ,999999-9999999"):
        answer = client.get(path, headers={"range": asked})
        assert (answer.status_code, answer.content) == (206, whole[:2]), asked
        assert answer.headers["content-range"] == f"bytes 0-1/{len(whole)}"
    answer = client.get(path, headers={"range": "bytes=0-1,4-5,999999-"})
    assert answer.status_code == 206
    assert answer.headers["content-type"].startswith("multipart/byteranges")
    assert answer.content.count(b"Content-Range: bytes ") == 2
    assert client.head(path, headers={"range": "bytes=0-9"}).status_code == 200
    for lines in (["bytes=0-1", "bytes=4-5"], ["bytes=0-1", "items=4-5"]):
        answer = client.get(path, headers=[("range", line) for line in lines])
        assert (answer.status_code, answer.content) == (200, whole)


@pytest.mark.parametrize("path", ["/", "/docs", "/static/page.js"])
def test_conditions_of_pages(client, path):
    whole = client.get(path)
    tag, modified = whole.headers["etag"], whole.headers["last-modified"]
    early, late = "Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 31 Dec 2100 00:00:00 GMT"
    cases: list[tuple[dict[str, Any], int]] = [
        ({"if-none-match": tag}, 304),
        ({"if-none-match": f'"other", W/{tag}'}, 304),
        ({"if-none-match": "*"}, 304),
        ({"if-none-match": '"other"', "if-modified-since": late}, 200),
        ({"if-modified-since": modified}, 304),
        ({"if-modified-since": early}, 200),
        ({"if-modified-since": "yesterday"}, 200),
        ({"if-match": tag}, 200),
        ({"if-match": f'"other", {tag}'}, 200),
        ({"if-match": "*"}, 200),
        ({"if-match": f"W/{tag}"}, 412),
        ({"if-match": '"other"'}, 412),
        ({"if-match": tag, "if-unmodified-since": early}, 200),
        ({"if-unmodified-since": early}, 412),
        ({"if-unmodified-since": modified}, 200),
        ({"if-unmodified-since": "yesterday"}, 200),
        ({"range": "bytes=0-9", "if-range": tag}, 206),
        ({"range": "bytes=0-9", "if-range": '"other"'}, 200),
        ({"range": "bytes=0-9", "if-range": modified}, 206),
    ]
    for headers, status in cases:
        for method in ("GET", "HEAD"):
            expected = 200 if (method, status) == ("HEAD", 206) else status
            answer = client.request(method, path, headers=headers)
            assert answer.status_code == expected, (method, headers)
            assert bool(answer.content) == (method == "GET" and status < 300), (method, headers)
    lines = [("if-none-match", '"other"'), ("if-none-match", tag)]
    assert client.get(path, headers=lines).status_code == 304


# Other origins: what answers say has to be exposed to them


def test_every_field_of_an_answer_can_be_read_by_pages_of_allowed_origins(client):
    answers = [client.get(path) for path in get_paths(client)]
    answers += [post(client, "/v1/posteriors", NPY, ("accept", "application/x-npy"))]
    answers += [client.put("/healthz"), client.get("/", headers={"range": "bytes=0-1"}), post(client)]
    seen = set()
    for answer in answers:
        assert answer.headers["access-control-expose-headers"] == ", ".join(EXPOSED_HEADERS)
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        seen |= {name for name in answer.headers if not name.startswith("access-control-")}
    assert seen - OTHERWISE_READ <= set(EXPOSED_HEADERS)
    assert "x-frame-shift-ms" in seen


def test_binary_answers_can_be_taken_apart_by_pages_of_allowed_origins(tmp_path):
    """``Inference-Header-Content-Length`` says where the tensors begin."""
    assert "inference-header-content-length" in EXPOSED_HEADERS
    app = create_app(Settings(model=write_model(tmp_path / "tiny.onnx")))
    assert all(
        "expose_headers" not in one.kwargs for one in app.user_middleware
    )  # where no origin is allowed
    app.state.service.audio_workers.close()
