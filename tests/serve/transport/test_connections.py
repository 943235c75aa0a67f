"""Connections that mean harm, over plain sockets: slow, endless and too many heads; idle ones."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import numpy as np
import pytest

from tests.helpers.serving import connect, npy, running_server, until_closed, write_model

HEAD = b"POST /v1/posteriors HTTP/1.1\r\nhost: x\r\n"
TIMEOUT_S = 0.6


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    model = write_model(tmp_path_factory.mktemp("connections") / "tiny.onnx")
    limits = {"ASR_BN_HEAD_TIMEOUT_S": str(TIMEOUT_S), "ASR_BN_MAX_CONNECTIONS": "20"}
    with running_server(model, ASR_BN_BODY_TIMEOUT_S="1", **limits) as (url, _):
        yield url


def crawl(connection: socket.socket, seconds: float) -> bytes:
    """Send a byte of a head now and then; what the server says, which closes long before ``seconds``."""
    started = time.monotonic()
    connection.sendall(HEAD)
    connection.setblocking(False)
    said = b""
    while time.monotonic() - started < seconds:
        try:
            connection.send(b"x")
            data = connection.recv(65536)
            if not data:
                return said
            said += data
        except BlockingIOError:
            pass
        except ConnectionError:
            return said
        time.sleep(0.05)
    raise AssertionError(f"still open after {seconds} s")


def test_a_head_at_a_crawl_is_cut_off(server):
    with connect(server) as connection:
        assert b"408 Request Timeout" in crawl(connection, 5)


def test_a_later_head_at_a_crawl_is_cut_off(server):
    with connect(server) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b"200 OK" in connection.recv(65536)
        assert b"408 Request Timeout" in crawl(connection, 5)


def test_a_connection_that_says_nothing_is_closed(server):
    with connect(server) as connection:
        assert until_closed(connection) == b""


def test_a_connection_that_says_only_new_lines_is_closed(server):
    """Which come before no request, but end the wait of an idle connection for one."""
    with connect(server) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b"200 OK" in connection.recv(65536)
        started = time.monotonic()
        with pytest.raises(ConnectionError):
            while time.monotonic() - started < 5:
                connection.sendall(b"\r\n")
                time.sleep(0.05)


def test_an_idle_connection_is_kept_between_requests(server):
    """Longer than a head may take: it is the head that is timed, not the pause before it."""
    with httpx.Client(base_url=server) as client:
        assert client.get("/healthz").status_code == 200
        time.sleep(TIMEOUT_S * 1.5)
        answer = client.get("/healthz")
        assert answer.status_code == 200


@pytest.mark.parametrize(
    "lines",
    [
        b"x: y\r\n" * 200,
        b"x: " + b"y" * 40_000 + b"\r\n",
        b"".join(b"x%d: %s\r\n" % (k, b"y" * 1000) for k in range(50)),
    ],
    ids=["many", "one long", "long together"],
)
@pytest.mark.parametrize("end", [b"\r\n", b""], ids=["whole", "unfinished"])
def test_large_heads_are_refused(server, lines, end):
    with connect(server) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\n" + lines + end)
        said = until_closed(connection)
        assert b"431 Request Header Fields Too Large" in said


def test_a_head_just_within_the_limits_is_served(server):
    headers = {f"x-{k}": "y" * 300 for k in range(90)}
    assert httpx.get(f"{server}/healthz", headers=headers).status_code == 200


def test_large_bodies_behind_one_another_are_not_taken_for_heads(server):
    body = npy(np.zeros((200, 123), np.float32))
    request = HEAD + b"content-type: application/x-npy\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    with connect(server) as connection:
        connection.sendall(request * 3 + b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert until_closed(connection).count(b"HTTP/1.1 200 OK") == 4


def test_what_is_still_sent_after_the_answer_does_not_hold_the_connection(server):
    with connect(server) as connection:
        connection.sendall(b"POST /v1/nothing HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000000\r\n\r\n")
        assert b"404 Not Found" in connection.recv(65536)
        started = time.monotonic()
        with pytest.raises(ConnectionError):
            while time.monotonic() - started < 10:
                connection.sendall(b"x" * 100)
                time.sleep(0.05)


@pytest.mark.parametrize("megabytes", [0.2, 8, 40])
def test_an_answer_before_the_end_of_the_body_arrives(server, megabytes):
    """To close with a part of the body unread resets the connection, and with it the answer on its way."""
    size = int(megabytes * 1e6)
    for _ in range(5):
        with connect(server) as connection:
            head = (
                HEAD
                + b"connection: close\r\ncontent-type: text/x-nothing\r\ncontent-length: %d\r\n\r\n" % size
            )
            connection.sendall(head)
            time.sleep(0.05)  # it has been refused meanwhile
            connection.sendall(bytes(size))
            said = until_closed(connection)
        status = 413 if size > 32 << 20 else 415
        assert said.startswith(b"HTTP/1.1 %d" % status)
        assert said.endswith(b"}")


def test_a_client_that_leaves_while_it_sends_is_no_error_of_ours(server):
    with connect(server) as connection:
        connection.sendall(HEAD + b"content-length: 1000\r\n\r\nsome")
        time.sleep(0.1)
    until = time.monotonic() + 10
    gone = 'asr_bn_requests_total{path="/v1/posteriors",status="499"}'
    while gone not in (metrics := httpx.get(f"{server}/metrics").text):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert 'status="500"' not in metrics


def test_one_connection_too_many_is_refused_and_the_others_go_on(server):
    with ExitStack() as stack:
        held = [stack.enter_context(connect(server)) for _ in range(20)]
        time.sleep(0.1)
        with connect(server) as one_more:
            assert b"503 Service Unavailable" in until_closed(one_more)
        held[0].sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert b"200 OK" in until_closed(held[0])
        assert [until_closed(connection) for connection in held[1:]] == [b""] * 19  # their time is over
    assert httpx.get(f"{server}/healthz").status_code == 200


def test_a_client_with_many_connections_keeps_no_other_out(server):
    """Its idle ones end for those of others; one that waits for its answer does not."""
    port = int(server.rsplit(":", 1)[1])
    ask = b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    with ExitStack() as stack:
        held = [stack.enter_context(connect(server)) for _ in range(20)]
        body = npy(np.zeros((5, 123), np.float32))
        half = HEAD + b"content-type: application/x-npy\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
        held[0].sendall(half % len(body) + body[:-1])
        time.sleep(0.1)
        others = [
            stack.enter_context(
                socket.create_connection(("127.0.0.1", port), source_address=("127.0.0.2", 0))
            )
            for _ in range(9)
        ]
        time.sleep(0.1)
        for other in others:
            other.settimeout(10)
            other.sendall(ask)
            assert b"200 OK" in until_closed(other)
        held[0].sendall(body[-1:])
        assert b"200 OK" in until_closed(held[0])


def test_what_is_not_http_is_answered_400(server):
    with connect(server) as connection:
        connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 tls hello\r\n\r\n")
        assert b"400 Bad Request" in until_closed(connection)
