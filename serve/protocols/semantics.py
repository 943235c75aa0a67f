"""What RFC 9110 asks of every resource, so that no handler has to: HEAD, fields on several lines, ranges."""

import asyncio
import re
from contextlib import suppress

from starlette.types import ASGIApp, Receive, Scope, Send

from serve.protocols.errors import error_response

Headers = list[tuple[bytes, bytes]]
_BYTE_RANGES = re.compile(
    rb"bytes=[ \t]*(?:\d{1,18}-\d{0,18}|-\d{1,18})(?:[ \t]*,[ \t]*(?:\d{1,18}-\d{0,18}|-\d{1,18}))*",
    re.IGNORECASE,
)


class Semantics:
    """Hands requests on as handlers expect them.

    A HEAD is served as a GET, of whose answer the server sends no body (9.3.2).  Fields on several lines
    become the one list that they mean (5.3): where a field has a single value, a second one makes it a bad
    one.  A Range of another unit than bytes, or with another method than GET, is ignored (14.2).  What the
    end of the server's time interrupts is answered 503 (15.6.4).

    Args:
        app: the application inside.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http":
            headers = scope["headers"]
            names = {name for name, _ in headers}
            if b"range" in names or len(names) < len(headers):
                scope["headers"] = _as_meant(headers, scope["method"])
        is_head = scope.get("method") == "HEAD"
        inner = {**scope, "method": "GET"} if is_head else scope
        try:
            await self.app(inner, receive, send)
        except asyncio.CancelledError:
            if scope["app"].state.service.draining:
                with suppress(RuntimeError):  # a part of the answer has been sent
                    response = error_response(scope, 503, "the server is shutting down")
                    await response(scope, receive, send)
            raise
        finally:
            if is_head:
                scope["route"] = inner.get("route")  # for the metrics


def _as_meant(headers: Headers, method: str) -> Headers:
    joined: dict[bytes, bytes] = {}
    for name, value in headers:
        joined[name] = joined[name] + b", " + value if name in joined else value
    if method != "GET" or not _is_byte_ranges(joined.get(b"range", b"").strip()):
        joined.pop(b"range", None)
    return list(joined.items())


def _is_byte_ranges(value: bytes) -> bool:
    """Say whether ``value`` is ranges of bytes, none of which ends before it begins (RFC 9110, 14.1.2)."""
    if not _BYTE_RANGES.fullmatch(value):
        return False
    ends = (item.strip().split(b"-") for item in value[6:].split(b","))
    return all(not first or not last or int(first) <= int(last) for first, last in ends)
