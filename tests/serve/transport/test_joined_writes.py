"""What a connection writes in one go leaves in one go, in order, and none of it is lost at the end."""

import asyncio
import socket
from collections.abc import Iterator

import pytest

from serve.transport.joined_writes import JoinedWrites
from tests.helpers.serving import running_server, write_model


class Wire:
    """A transport that notes what reaches it."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, bytes]] = []
        self.closing = False

    def writelines(self, data: list[bytes]) -> None:
        self.calls.append(("send", b"".join(data)))

    def write_eof(self) -> None:
        self.calls.append(("eof", b""))

    def close(self) -> None:
        self.calls.append(("close", b""))
        self.closing = True

    def is_closing(self) -> bool:
        return self.closing

    def get_write_buffer_size(self) -> int:
        return 0


def after(*steps) -> list[tuple[str, bytes]]:
    """What reaches the wire when each step is a turn of the event loop of its own."""
    wire = Wire()

    async def run() -> None:
        joined = JoinedWrites(wire, asyncio.get_running_loop(), 60.0)
        for step in steps:
            step(joined)
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    asyncio.run(run())
    return wire.calls


def write(*pieces: bytes):
    return lambda joined: [joined.write(piece) for piece in pieces]


def test_a_turn_of_the_loop_is_one_call():
    assert after(write(b"head", b"", b"bo", memoryview(b"dy")), write(b"more")) == [
        ("send", b"headbody"),
        ("send", b"more"),
    ]


def test_nothing_written_is_no_call():
    assert after(write(b"")) == []


def test_much_goes_at_once_so_that_the_writer_learns_of_a_slow_reader():
    seen = []

    def write_much(joined: JoinedWrites) -> None:
        joined.write(b"head")
        joined.write(b"x" * (1 << 16))
        seen.extend(joined._transport.calls)
        joined.write(b"end")

    assert after(write_much) == [("send", b"head" + b"x" * (1 << 16)), ("send", b"end")]
    assert len(seen) == 1


@pytest.mark.parametrize("end", ["close", "write_eof"])
def test_what_was_written_goes_before_the_end(end):
    def write_and_end(joined: JoinedWrites) -> None:
        joined.write(b"head")
        joined.write(b"body")
        getattr(joined, end)()

    assert after(write_and_end) == [("send", b"headbody"), (end.replace("write_", ""), b"")]


def test_a_connection_that_broke_meanwhile_is_not_written_to():
    def write_and_break(joined: JoinedWrites) -> None:
        joined.write(b"head")
        joined._transport.closing = True

    assert after(write_and_break) == []


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    model = write_model(tmp_path_factory.mktemp("joined") / "tiny.onnx")
    with running_server(model) as (url, _):
        yield int(url.rsplit(":", 1)[1])


def test_a_small_answer_comes_in_one_piece(server):
    with socket.create_connection(("127.0.0.1", server)) as connection:
        for _ in range(20):
            connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
            head, _, body = connection.recv(65536).partition(b"\r\n\r\n")
            assert b"200 OK" in head
            assert body == b'{"status":"alive"}'


def test_answers_to_requests_sent_at_once_come_in_order(server):
    ask = b"GET %s HTTP/1.1\r\nhost: x\r\n%s\r\n"
    with socket.create_connection(("127.0.0.1", server)) as connection:
        connection.sendall(
            ask % (b"/healthz", b"") + ask % (b"/nowhere", b"") + ask % (b"/readyz", b"connection: close\r\n")
        )
        said = b"".join(iter(lambda: connection.recv(65536), b""))
    places = [said.index(body) for body in (b'"alive"', b"404 Not Found", b'"ready"')]
    assert places == sorted(places)
    assert said.count(b"HTTP/1.1 ") == 3
