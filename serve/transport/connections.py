"""uvicorn's connections by RFC 9112, and within bounds: how many, how much, how long, how far ahead."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from serve.transport.joined_writes import JoinedWrites
from serve.transport.request_heads import BadRequest, check_head, origin_form, refusal_of, without_upgrade

# What a client sends after a refusal is taken for so long: to close before would reset the connection, and
# the client might never see the answer (RFC 9112, 9.6).
_LINGER_S = 2.0
# When the server ends, a connection on which nothing has come yet has so long to begin its request.
_BEGIN_S = 0.1
# Chunk sizes, their extensions and trailers may have a quarter of the body's size, beside `max_head_bytes`.
_BODY_PER_FRAMING = 4


@dataclass(frozen=True)
class ConnectionLimits:
    """What a connection may cost before a request of it reaches the application."""

    max_connections: int = 512
    head_timeout_s: float = 10.0
    body_timeout_s: float = 20.0
    send_timeout_s: float = 60.0
    max_head_bytes: int = 32 << 10
    max_headers: int = 100
    max_pipelined: int = 64


class Connection(HttpToolsProtocol):
    """uvicorn's connection, within limits.

    A client has ``head_timeout_s`` from its connection, or from the first byte of a later request, to the end
    of the request's head.  What it goes on sending after the answer is taken for ``body_timeout_s`` at most,
    also where the connection is to end with the answer.  Where it does not read, what it is sent waits for
    ``send_timeout_s``.

    After a request that cannot be parsed, or one too many, nothing is read any more: the requests before it
    are answered, then the connection ends.
    """

    def __init__(self, limits: ConnectionLimits, **arguments: object) -> None:
        super().__init__(**arguments)  # type: ignore[arg-type]
        self.limits = limits
        self._in_head, self._begun = True, False
        # Of the request that is being received: bytes of its body, and all others after its head.
        self._body_bytes = self._framing_bytes = 0
        self._answering: RequestResponseCycle | None = None
        self._received: RequestResponseCycle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._ended = self._deaf = self._is_last = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a head; refuse one connection too many, unless another address has more."""
        joined = JoinedWrites(transport, self.loop, self.limits.send_timeout_s)
        super().connection_made(joined)  # type: ignore[arg-type]
        if len(self.connections) > self.limits.max_connections and not self._make_room():
            self._deaf = True
            self._write_refusal(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections")
            self.transport.close()
            return
        self._await_rest()

    def _make_room(self) -> bool:
        """End a connection on which nothing is answered, of the address that has most, if it is not ours."""
        of_address: dict[str | None, list[Connection]] = {}
        for connection in self.connections:
            assert isinstance(connection, Connection)
            of_address.setdefault(connection.address, []).append(connection)
        most = max(of_address.values(), key=len)
        idle = next((connection for connection in most if connection.is_idle), None)
        if idle is None or len(most) <= len(of_address[self.address]):
            return False
        idle.transport.abort()
        return True

    @property
    def address(self) -> str | None:
        """The client's address, without its port."""
        return self.client[0] if self.client else None

    @property
    def is_idle(self) -> bool:
        """Whether it is open and answers no request."""
        answered = self._answering is None or self._answering.response_complete
        return answered and not self.transport.is_closing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timers and tell the request being answered; uvicorn tells only the last one."""
        self._stop_timer()
        if self._stalled is not None:
            self._stalled.cancel()
        if self._answering is not None and not self._answering.response_complete:
            _disconnect(self._answering)
        self.pipeline.clear()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Give a client that does not read ``send_timeout_s``."""
        self._stalled = self.loop.call_later(self.limits.send_timeout_s, self.transport.abort)
        super().pause_writing()

    def resume_writing(self) -> None:
        """Forget the limit: the client reads again."""
        if self._stalled is not None:
            self._stalled.cancel()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        """Parse ``data``; refuse a head, framing or trailers that are too large."""
        if self._deaf or self.transport.is_closing():
            return
        self._unset_keepalive_if_required()
        if self._timer is None:
            self._await_rest()
        self._framing_bytes += len(data)
        self._feed(data)
        # Of a buffer with the end of a request, the rest is not counted.
        self._framing_bytes = max(0, self._framing_bytes)
        if self._framing_bytes > self.limits.max_head_bytes + self._body_bytes // _BODY_PER_FRAMING:
            what = "head of the request is" if self._in_head else "framing of the body, or its trailers, are"
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"the {what} too large")

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            refusal = refusal_of(error, data)
            self._refuse(refusal.status, refusal.text)

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Parse the head again without its upgrade: llhttp takes what follows one for another protocol."""
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._refuse(HTTPStatus.NOT_IMPLEMENTED, "CONNECT is not implemented")
            return
        version, keep_alive = self.parser.get_http_version(), self.parser.should_keep_alive()
        head = without_upgrade(method, self.url, version, keep_alive, self.headers)
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's first parser
        self._feed(head)
        if rest and not self._deaf:
            self._feed(rest)

    def on_message_begin(self) -> None:
        """Start the timer of a request, which may begin right behind another one."""
        self._begun = True
        if self._timer is None:
            self._await_rest()
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field of the head or the trailers; refuse one too many."""
        if len(self.headers) >= self.limits.max_headers:
            raise BadRequest(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "too many header fields")
        super().on_header(name, value.strip(b" \t"))  # llhttp leaves what follows it (RFC 9112, 5.1)

    def on_headers_complete(self) -> None:
        """Hand on a complete head, unless something is wrong with it."""
        if self.parser.should_upgrade():
            return  # until it comes again, see _ignore_upgrade
        version = self.parser.get_http_version()
        self._check_size()
        check_head(version, self.headers)
        if not self.url.startswith(b"/"):
            self.url = origin_form(self.parser.get_method(), self.url, self.headers)
        super().on_headers_complete()
        if self._is_last:
            self.cycle.keep_alive = False
        self._in_head = False
        self._await_rest()
        self.headers = []  # for trailers, which belong to no head (RFC 9110, 6.5.1): counted and dropped
        self.cycle.transport = _ClosedAfterBody(self, self.cycle)  # type: ignore[assignment]
        self.scope["state"]["transport"] = self.transport  # how far an answer is: see serve.service.delivery
        if version == "1.0":
            self.cycle.waiting_for_100_continue = False
            self.cycle.send = _without_chunks(self.cycle)  # type: ignore[method-assign, assignment]
        if not self.pipeline:
            self._answering = self.cycle

    def _check_size(self) -> None:
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > self.limits.max_head_bytes:
            raise BadRequest(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the head of the request is too large"
            )
        if len(self.pipeline) >= self.limits.max_pipelined:
            raise BadRequest(HTTPStatus.SERVICE_UNAVAILABLE, "too many requests at once on one connection")
        self._framing_bytes -= size

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._framing_bytes -= len(body)
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Stop the timer: the whole request is there."""
        if self.parser.should_upgrade():
            return
        self._stop_timer()
        self._in_head, self._begun = True, False
        self._body_bytes = self._framing_bytes = 0
        self._received = self.cycle
        super().on_message_complete()
        if self._ended:
            self.transport.close()

    def on_response_complete(self) -> None:
        """Go on with the next request that waits."""
        if self.pipeline:
            self._answering = self.pipeline[-1][0]
        super().on_response_complete()

    def shutdown(self) -> None:
        """Answer the requests received, and one that has begun or whose connection is new; then close."""
        answered = self.cycle is None or self.cycle.response_complete
        if answered and self._in_head and (self._begun or self.cycle is None) and not self._deaf:
            self._is_last = True
            self.loop.call_later(_BEGIN_S, self._close_unless_begun)
        elif self.cycle is not None and self.cycle.response_complete and not self._in_head:
            self.close_after_body()
        else:
            super().shutdown()

    def _close_unless_begun(self) -> None:
        if self._answering is None and not self._begun:
            self.transport.close()

    def close_after_body(self) -> None:
        """End the server's side, and close when the client has sent the rest of its body."""
        self.pipeline.clear()
        if (self._in_head and not self._deaf) or not self.transport.can_write_eof():
            self.transport.close()
        elif not self._ended and not self.transport.is_closing():
            self._ended = True
            self.transport.write_eof()
            seconds = _LINGER_S if self._deaf else self.limits.body_timeout_s
            self._start_timer(seconds, self.transport.close)

    def _await_rest(self) -> None:
        limits = self.limits
        seconds = limits.head_timeout_s if self._in_head else limits.body_timeout_s
        self._start_timer(seconds, self._too_slow)

    def _start_timer(self, seconds: float, then: Callable[[], None]) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, then)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        self._timer = None
        if self._in_head and self._begun:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "the head of the request was not received in time")
        elif self.cycle is not None and not self.cycle.response_complete:
            # The application itself waits for the body, and refuses.
            self.cycle.keep_alive = False
        else:
            self.transport.close()

    def _refuse(self, status: HTTPStatus, text: str) -> None:
        """Read no further: answer, after the answers to the requests before, and end the connection."""
        if self._deaf:
            return
        self._stop_timer()
        self._deaf = True
        broken = None if self._in_head else self.cycle
        if broken is not None and self.pipeline and self.pipeline[0][0] is broken:
            self.pipeline.popleft()
        if self._received is not None and not self._received.response_complete:
            self._received.keep_alive = False  # the last answer of this connection, which says so
        elif broken is not None and broken.response_started:
            broken.keep_alive = False
            if broken.response_complete:
                self.close_after_body()
        else:
            if broken is not None:
                _disconnect(broken)
            self._write_refusal(status, text)
            self.close_after_body()

    def _write_refusal(self, status: HTTPStatus, text: str) -> None:
        fields = [*self.server_state.default_headers, (b"content-type", b"text/plain; charset=utf-8")]
        fields += [(b"content-length", b"%d" % len(text)), (b"connection", b"close")]
        lines = [
            f"HTTP/1.1 {status.value} {status.phrase}".encode(),
            *(b"%s: %s" % field for field in fields),
        ]
        self.transport.write(b"\r\n".join([*lines, b"", text.encode()]))


def _disconnect(cycle: RequestResponseCycle) -> None:
    """Let the application see that nobody waits for its answer."""
    cycle.disconnected = True
    cycle.message_event.set()


def _without_chunks(cycle: RequestResponseCycle) -> Callable[[Any], Coroutine[Any, Any, None]]:
    """``cycle.send`` for HTTP/1.0: a body of unknown length ends with the connection (RFC 9112, 6.1)."""
    send, until_close = cycle.send, False

    async def send_without_chunks(message: Any) -> None:
        nonlocal until_close
        if message["type"] == "http.response.start":
            until_close = all(name.lower() != b"content-length" for name, _ in message.get("headers", ()))
            if until_close:
                cycle.chunked_encoding = False
        elif until_close:
            cycle.expected_content_length = len(message.get("body", b""))
        await send(message)

    return send_without_chunks


class _ClosedAfterBody:
    """A connection's transport for one request; its end waits for that of the request's body."""

    def __init__(self, connection: Connection, cycle: RequestResponseCycle) -> None:
        self._connection, self._cycle = connection, cycle

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection.transport, name)

    def close(self) -> None:
        if self._cycle.response_started and not self._cycle.response_complete:
            # Not closed as after the whole: a client might take the part for it.
            self._connection.transport.abort()
        else:
            self._connection.close_after_body()
