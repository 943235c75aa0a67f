"""What RFC 9110 asks of every resource, so that no handler has to: HEAD, fields on several lines, ranges."""

import re
from collections.abc import Awaitable

from starlette.types import ASGIApp, Receive, Scope, Send

Headers = list[tuple[bytes, bytes]]
_BYTE_RANGES = re.compile(
    rb"bytes=[ \t]*(?:\d{1,18}-\d{0,18}|-\d{1,18})(?:[ \t]*,[ \t]*(?:\d{1,18}-\d{0,18}|-\d{1,18}))*",
    re.IGNORECASE,
)


class Semantics:
    """Hands requests on as handlers expect them.

    A HEAD is served as a GET, of whose answer the server sends no body (9.3.2).  Fields on several lines
    become the one list that they mean (5.3): where a field has a single value, a second one makes it a bad
    one.  A Range of another unit than bytes, or with another method than GET, is ignored (14.2).

    Args:
        app: the application inside.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve one request.  Not a coroutine itself, which would cost every request one more."""
        if scope["type"] != "http":
            return self.app(scope, receive, send)
        headers = scope["headers"]
        names = {name for name, _ in headers}
        if b"range" in names or len(names) < len(headers):
            scope["headers"] = _as_meant(headers, scope["method"])
        if scope["method"] == "HEAD":
            return self._serve_head(scope, receive, send)
        return self.app(scope, receive, send)

    async def _serve_head(self, scope: Scope, receive: Receive, send: Send) -> None:
        as_get = {**scope, "method": "GET"}
        try:
            await self.app(as_get, receive, send)
        finally:
            scope["route"] = as_get.get("route")  # for the metrics


def _as_meant(headers: Headers, method: str) -> Headers:
    joined: dict[bytes, bytes] = {}
    for name, value in headers:
        joined[name] = joined[name] + b", " + value if name in joined else value
    if method != "GET" or not _BYTE_RANGES.fullmatch(joined.get(b"range", b"").strip()):
        joined.pop(b"range", None)
    return list(joined.items())
