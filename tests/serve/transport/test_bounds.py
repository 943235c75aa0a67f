"""Bounds of a connection: nothing that it sends grows without one, and errors leave earlier answers alone."""

import contextlib
import time
import zlib

import psutil
import pytest

from tests.helpers.http_text import BODY, CLOSE, GET, POST, UPGRADE, chunked, said_to, sized, statuses
from tests.helpers.serving import connect, until_closed


def memory_mb(pid: int) -> float:
    return psutil.Process(pid).memory_info().rss / 1e6


def flood(running: tuple[str, int], head: bytes, unit: bytes, megabytes: int = 20) -> tuple[bytes, float]:
    """What the server says to megabytes of ``unit`` behind ``head``, and by how much its memory grew."""
    url, pid = running
    before = memory_mb(pid)
    with connect(url) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(head)
        piece = unit * (65536 // len(unit) + 1)
        for _ in range(megabytes * 16):
            connection.sendall(piece)
        return connection.recv(65536), memory_mb(pid) - before
    return b"", memory_mb(pid) - before


ENDLESS = {
    "trailers": chunked()[:-2] + b"a: b\r\n",
    "a trailer": chunked()[:-2] + b"a: ",
    "a chunk's extension": b"transfer-encoding: chunked\r\n\r\n1;x=",
    "a chunk's zeros": b"transfer-encoding: chunked\r\n\r\n0",
    "tiny chunks": b"transfer-encoding: chunked\r\n\r\n",
}
UNITS = {"trailers": b"a: b\r\n", "a chunk's zeros": b"0", "tiny chunks": b"1\r\nx\r\n"}


@pytest.mark.parametrize("path", [b"/v1/posteriors", b"/nothing"])
@pytest.mark.parametrize("kind", ENDLESS)
def test_what_frames_a_body_is_bounded(running, kind, path):
    head = b"POST " + path + b" HTTP/1.1\r\nhost: x\r\n" + ENDLESS[kind]
    said, grown_mb = flood(running, head, UNITS.get(kind, b"x"))
    assert grown_mb < 30
    assert statuses(said) in ([431], [404], [])


def test_chunks_of_any_size_are_taken_while_they_are_few(server):
    framed = b"connection: close\r\n" + chunked(*(BODY[k : k + 1] for k in range(len(BODY))))
    assert statuses(said_to(server, POST + framed)) == [200]


def test_trailers_are_no_headers(server):
    """Had this one been one, the body would be no deflated data."""
    for trailers in (b"content-encoding: deflate\r\n", b"x-request-id: mine\r\n"):
        head = POST + b"connection: close\r\n" + chunked(BODY, trailers=trailers)
        said = said_to(server, head[:-10], head[-10:])
        assert statuses(said) == [200]
        assert b"mine" not in said
    whole = said_to(
        server, POST + b"connection: close\r\ncontent-encoding: deflate\r\n" + sized(zlib.compress(BODY))
    )
    assert statuses(whole) == [200]


def test_trailers_are_no_part_of_the_next_request(server):
    for trailers in (UPGRADE, b"upgrade: h2c\r\nconnection: upgrade\r\nx: y\r\n"):
        said = said_to(server, POST + chunked(BODY, trailers=trailers) + GET + CLOSE)
        assert statuses(said) == [200, 200]


def test_requests_that_wait_for_an_answer_are_bounded_and_answered_in_order(running):
    url, pid = running
    paths = [b"/healthz", b"/nothing", b"/readyz"]
    some = b"".join(b"GET %s HTTP/1.1\r\nhost: x\r\n\r\n" % paths[k % 3] for k in range(51))
    assert statuses(said_to(url, some + GET + CLOSE)) == [200, 404, 200] * 17 + [200]
    before = memory_mb(pid)
    with connect(url) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(POST + sized(BODY) + some * 200)
        said = until_closed(connection)
        answered = statuses(said)
        assert answered == ([200] + [200, 404, 200] * len(answered))[: len(answered)]
        assert 50 < len(answered) < 1000
        assert said.count(b"connection: close") == 1
    assert memory_mb(pid) < before + 30


# What goes wrong behind a request does not touch its answer, nor come before it


@pytest.mark.parametrize(
    "behind",
    [
        b"garbage\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        GET + b"x: y\r\n" * 200,
        POST + chunked(b"a")[:-5] + b"z\r\n",
    ],
)
def test_an_answer_comes_before_the_end_that_what_follows_it_brings(server, behind):
    said = said_to(server, POST + sized(BODY) + behind)
    assert statuses(said) == [200]
    assert said.endswith(b"}")


def test_a_body_that_breaks_is_answered_once(server):
    head = POST + b"transfer-encoding: chunked\r\n\r\n"
    assert statuses(said_to(server, head + b"1\r\na\r\n", b"z\r\n" + GET + b"\r\n")) == [400]
    early = b"POST /nothing HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    assert statuses(said_to(server, early, b"z\r\n" + GET + b"\r\n")) == [404]


def test_a_refusal_arrives_while_the_client_still_sends(server):
    """To close with something unread resets the connection, and with it the answer on its way."""
    for _ in range(5):
        with connect(server) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 40_000)
            time.sleep(0.05)
            connection.sendall(b"y" * 1_000_000)
            assert statuses(until_closed(connection)) == [431]


def connections(pid: int, port: int) -> int:
    return sum(
        bool(one.raddr) and one.laddr.port == port for one in psutil.Process(pid).net_connections("tcp")
    )


@pytest.mark.parametrize(
    "ask",
    [GET.replace(b"healthz", b"static/page.js") + b"\r\n", POST.replace(b"?top_k=1", b"") + sized(BODY)],
)
def test_a_client_that_does_not_read_is_given_up(running, ask):
    """Also where what is left is less than makes a server wait, and where the answer has been given."""
    url, pid = running
    port = int(url.rsplit(":", 1)[1])
    until = time.monotonic() + 30
    while connections(pid, port):
        assert time.monotonic() < until
        time.sleep(0.1)
    with connect(url) as connection:
        while connections(pid, port) != 1:
            assert time.monotonic() < until
            time.sleep(0.01)
        connection.settimeout(0.5)
        with contextlib.suppress(TimeoutError, ConnectionError):
            for _ in range(300):
                connection.sendall(ask * 30)
        while connections(pid, port):
            assert time.monotonic() < until
            time.sleep(0.1)
