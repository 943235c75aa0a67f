"""Connections within bounds that uvicorn leaves to a proxy: how many, how long and large a request's head."""

import asyncio
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serve.joined_writes import JoinedWrites


@dataclass(frozen=True)
class ConnectionLimits:
    """What a connection may cost before a request of it reaches the application."""

    max_connections: int = 512
    head_timeout_s: float = 10.0
    body_timeout_s: float = 20.0
    max_head_bytes: int = 32 << 10
    max_headers: int = 100


class Connection(HttpToolsProtocol):
    """uvicorn's connection, within limits.

    A client has ``head_timeout_s`` from its connection, or from the first byte of a later request, to the end
    of the request's head.  What it goes on sending after the answer is taken for ``body_timeout_s`` at most,
    also where the connection is to end with the answer: to close it with a part of the body unread would
    reset it, and the client might never see the answer.
    """

    def __init__(self, limits: ConnectionLimits, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.limits = limits
        self._in_head = True
        self._head_bytes = self._num_heads = 0
        self._timer: asyncio.TimerHandle | None = None
        self._ended = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Refuse one connection too many; wait for a head from the others."""
        super().connection_made(JoinedWrites(transport, self.loop))  # type: ignore[arg-type]
        if len(self.connections) > self.limits.max_connections:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections")
            return
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, as long as the head stays within its size."""
        if self.transport.is_closing():
            return
        if self._timer is None:
            self._await_head()
        head = self._num_heads if self._in_head else None
        super().data_received(data)
        if self._in_head and head == self._num_heads:  # not the end of a body with the begin of the next head
            self._head_bytes += len(data)
            if self._head_bytes > self.limits.max_head_bytes:
                self._refuse(
                    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the head of the request is too large"
                )

    def on_message_begin(self) -> None:
        """A request begins, perhaps right behind another one."""
        if self._timer is None:
            self._await_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is there: hand it on, unless it is too large."""
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > self.limits.max_head_bytes or len(self.headers) > self.limits.max_headers:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the head of the request is too large")
            raise ValueError("the head of the request is too large")  # ends the parsing
        self._in_head, self._head_bytes = False, 0
        self._num_heads += 1
        self._start_timer(self.limits.body_timeout_s)
        super().on_headers_complete()
        self.cycle.transport = _ClosedAfterBody(self)  # type: ignore[assignment]
        self.scope["state"]["transport"] = self.transport  # how far an answer is: see serve.delivery

    def close_after_body(self) -> None:
        """Say that no more is to come, and close when the client has sent what it had begun."""
        if self._in_head or not self.transport.can_write_eof():
            self.transport.close()
        elif not self._ended and not self.transport.is_closing():
            self._ended = True
            self.transport.write_eof()
            self._start_timer(self.limits.body_timeout_s)

    def on_message_complete(self) -> None:
        """The whole request is there."""
        self._stop_timer()
        self._in_head = True
        super().on_message_complete()
        if self._ended:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP, unless the answer has been given."""
        if self._ended:
            self.transport.close()
        elif not self.transport.is_closing():
            super().send_400_response(msg)

    def _await_head(self) -> None:
        self._in_head, self._head_bytes = True, 0
        self._start_timer(self.limits.head_timeout_s)

    def _start_timer(self, seconds: float) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, self._too_slow)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        self._timer = None
        if self.cycle is not None and not self.cycle.response_complete:
            # An earlier request of this connection is still to be answered, or the application itself waits
            # for the body, and refuses.
            self.cycle.keep_alive = False
        elif self._in_head and self._head_bytes:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "the head of the request was not received in time")
        else:
            self.transport.close()

    def _refuse(self, status: HTTPStatus, text: str) -> None:
        """Answer on the connection itself, as plain text, and close it."""
        self._stop_timer()
        head = f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: text/plain; charset=utf-8\r\n"
        tail = f"content-length: {len(text)}\r\nconnection: close\r\n\r\n{text}"
        self.transport.write((head + tail).encode())
        self.transport.close()


class _ClosedAfterBody:
    """A connection's transport for one request; its end waits for that of the request's body."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection.transport, name)

    def close(self) -> None:
        self._connection.close_after_body()
