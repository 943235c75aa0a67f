"""Keys and the admin token: only what is declared public answers without a key, under whatever prefix."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.routing import Mount

from serve.app import create_app
from serve.protocols.access import ADMIN_HEADER, KEY_HEADER, Secrets
from serve.protocols.public import public_paths
from serve.settings import load_settings
from tests.helpers.serving import write_model

KEY = {"x-api-key": "key"}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY", "PRI")
NONE: Mapping[str, str] = MappingProxyType({})
NEEDS_KEY = "a key is needed: Authorization: Bearer KEY, or X-API-Key: KEY"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    folder = tmp_path_factory.mktemp("access")
    model = write_model(folder / "tiny.onnx")
    (folder / "keys").write_text("key\nanother key\n")
    (folder / "admin").write_text("admin\n")
    settings = load_settings(
        model=model,
        api_keys_file=folder / "keys",
        admin_token_file=folder / "admin",
        access_log=False,
        audio_processes=1,
    )
    app = create_app(settings)
    with TestClient(app):
        yield app


def under(app: FastAPI, prefix: str, way: str) -> tuple[Any, str, str]:
    """``app`` under a root path, a mount, or a mount in a mount, what its paths begin with, its root path."""
    if way == "root path":
        return app, prefix, prefix
    outer = Starlette(routes=[Mount(prefix, app)])
    if way == "mount":
        return outer, prefix, ""
    return Starlette(routes=[Mount("/outer", outer)]), "/outer" + prefix, ""


PREFIXES = [
    ("", "root path"),
    ("/asr", "root path"),
    ("/v2", "root path"),
    ("/healthz", "root path"),
    ("/asr/v1", "root path"),
    ("/asr", "mount"),
    ("/v2/health/live", "mount"),
    ("/asr", "mount in a mount"),
]


def ask(
    app: Any, method: str, target: str, root_path: str = "", headers: Mapping[str, str] = NONE
) -> tuple[int, bytes]:
    """Status and body of an answer to ``target`` as it is: HTTP clients would normalize it."""
    path, _, query = target.partition("?")
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode(),
        "root_path": root_path,
        "query_string": query.encode(),
        "headers": [(b"host", b"x"), *((name.encode(), text.encode()) for name, text in headers.items())],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "state": {},
    }
    sent: list[Any] = []
    received = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> dict[str, Any]:
        return next(received, None) or await asyncio.Future()  # the client stays

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)


def routes(app: FastAPI) -> list[str]:
    """The path of every operation, with something in the place of its parameters."""
    paths = [path.format(name="tiny", version="1") for path in app.openapi()["paths"]]
    assert len(paths) > 20
    return paths


def test_what_is_public_is_known():
    health = {"/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"}
    assert public_paths() == health | {"/", "/docs", "/metrics"}


def variants(path: str) -> list[str]:
    """Ways to write ``path`` that some servers take for it."""
    head, _, last = path.rpartition("/")
    escaped = path[:-1] + f"%{ord(path[-1]):02x}"
    return [
        path,
        path + "/",
        "/" + path,
        f"{head}//{last}",
        f"{head}/./{last}",
        f"{head}/%2e/{last}",
        f"/static/..{path}",
        f"/static/%2e%2e{path}",
        f"/healthz/..{path}",
        f"/healthz%2f..{path}",
        path.upper(),
        escaped,
        path + ";x=/healthz",
        path + "%00",
        path + "?/healthz",
    ]


@pytest.mark.parametrize(("prefix", "way"), PREFIXES)
def test_no_route_but_the_public_ones_answers_without_a_key(app, prefix, way):
    outer, before, root_path = under(app, prefix, way)
    unknown = ["/v1", "/v3/x", "/nothing", "/metricsx", "/v2x", "/health", "/.", "/admin"]
    for path in set(routes(app)) - public_paths() | set(unknown):
        for method, variant in (*product(METHODS, [path]), *product(("GET", "POST"), variants(path))):
            status, body = ask(outer, method, before + variant, root_path)
            if "/static" not in variant and way == "root path":
                assert status == 401, (method, variant)
                assert NEEDS_KEY.encode() in body
            else:  # there may be no such file, or the path does not lead into the mount
                assert status in (401, 404, 405), (method, variant)


@pytest.mark.parametrize(("prefix", "way"), PREFIXES)
def test_public_routes_answer_without_a_key_and_all_with_one(app, prefix, way):
    outer, before, root_path = under(app, prefix, way)

    def status(method: str, path: str, headers: Mapping[str, str] = NONE) -> int:
        return ask(outer, method, before + path, root_path, headers)[0]

    for path in [*public_paths(), "/static/page.js", "/openapi.json"]:
        assert status("GET", path) == 200, path
    for path in ("/v2", "/v2/models/tiny", "/v2/models/stats"):
        assert status("GET", path, KEY) == 200, path
    assert status("POST", "/v1/posteriors", KEY) == 400  # an empty body


@pytest.mark.parametrize(("prefix", "way"), PREFIXES)
def test_errors_have_their_interface_s_shape(app, prefix, way):
    outer, before, root_path = under(app, prefix, way)

    def error(path: str, headers: dict[str, str]) -> Any:
        return json.loads(ask(outer, "GET", before + path, root_path, headers)[1])

    assert error("/v2/models/tiny", {}) == {"error": NEEDS_KEY}
    assert list(error("/v2/nothing", KEY)) == ["error"]
    assert error("/v1/nothing", {})["status"] == 401
    assert error("/v1/nothing", KEY)["status"] == 404


@pytest.mark.parametrize("path", ["/v1/stream", "/healthz", "/asr/v1/stream", "/"])
def test_no_web_socket_is_opened_without_a_key(app, path):
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": path, "root_path": "", "headers": [], "query_string": b""}
    asyncio.run(app(scope, receive, send))
    assert [message["type"] for message in sent] == ["websocket.close"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([], 401),
        ([("x-api-key", "")], 401),
        ([("x-api-key", "wrong")], 401),
        ([("x-api-key", "key ")], 200),
        ([("x-api-key", "KEY")], 401),
        ([("authorization", "Bearer")], 401),
        ([("authorization", "Bearer ")], 401),
        ([("authorization", "key")], 401),
        ([("authorization", "Basic key")], 401),
        ([("authorization", "Bearer key")], 200),
        ([("authorization", "bEARER  key")], 200),
        ([("authorization", "Bearer another key")], 200),
        ([("authorization", "Bearer key key")], 401),
        ([("authorization", "Basic dXNlcjo=, Bearer key")], 200),
        ([("authorization", "Basic dXNlcjo="), ("authorization", "Bearer key")], 200),
        ([("authorization", "Bearer wrong"), ("x-api-key", "key")], 200),
        ([("authorization", "Bearer key"), ("x-api-key", "")], 200),
        ([("x-admin-token", "admin")], 401),
        ([("authorization", "Bearer admin")], 401),
    ],
)
def test_who_holds_a_key(app, headers, status):
    answer = TestClient(app).get("/v2", headers=headers)
    assert answer.status_code == status
    assert ("www-authenticate" in answer.headers) == (status == 401)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([("x-api-key", "key"), ("x-admin-token", "admin")], 200),
        ([("x-api-key", "key"), ("authorization", "Bearer admin")], 200),
        ([("authorization", "Bearer key"), ("x-admin-token", "admin")], 200),
        ([("authorization", "Bearer key"), ("authorization", "Bearer admin")], 200),
        ([("authorization", "Bearer key"), ("x-admin-token", "")], 403),
        ([("authorization", "Bearer key"), ("x-admin-token", "key")], 403),
        ([("x-api-key", "key")], 403),
        ([("x-admin-token", "admin")], 401),
    ],
)
def test_key_and_admin_token_in_any_of_their_headers(app, headers, status):
    answer = TestClient(app).post("/v2/repository/models/tiny/load", headers=headers)
    assert answer.status_code == status


def test_secrets_are_compared_as_bytes_and_none_is_nobody_s(tmp_path: Path):
    (tmp_path / "keys").write_text("# comment\n\n schlüssel \n", encoding="utf-8")
    keys = Secrets(tmp_path / "keys")
    assert keys.find([(b"x-api-key", "schlüssel".encode())], KEY_HEADER) == 0
    assert keys.find([(b"x-api-key", "schlüssel".encode("latin-1"))], KEY_HEADER) is None
    assert keys.find([(b"x-api-key", b"# comment")], KEY_HEADER) is None
    assert Secrets(None).find([(b"x-admin-token", b"")], ADMIN_HEADER) is None
    (tmp_path / "empty").write_text("# nothing\n")
    with pytest.raises(ValueError, match="no key in it"):
        Secrets(tmp_path / "empty")
