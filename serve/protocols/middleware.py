"""Around every request: its id, its place in the log and the metrics.  Pure ASGI, so that handlers still see
their client leave."""

import json
import re
import secrets
import sys
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.limits.refusal import ClientGone
from serve.service.service import Service

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
CLIENT_CLOSED_REQUEST = 499


class RequestLog:
    """Gives each request an id, answers ``connection: close`` while the server drains, counts and logs.

    Args:
        app: the application inside.
        service: whose metrics to feed.
        access_log: write one JSON line on standard error for each request.
    """

    def __init__(self, app: ASGIApp, service: Service, access_log: bool) -> None:
        self.app, self.service, self.access_log = app, service, access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = _request_id(Headers(scope=scope).get("x-request-id", ""))
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        if self.service.tracing is not None:
            state["trace"] = self.service.tracing.begin(scope, request_id)
        status, started = 500, time.monotonic()

        async def send_noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                if self.service.draining:
                    headers["connection"] = "close"
            await send(message)

        self.service.metrics.begin_request()
        try:
            await self.app(scope, receive, send_noted)
        except ClientGone:
            status = CLIENT_CLOSED_REQUEST
        finally:
            self._note(scope, request_id, status, time.monotonic() - started)

    def _note(self, scope: Scope, request_id: str, status: int, seconds: float) -> None:
        # The template, not the path: clients must not be able to make up label values.
        path = getattr(scope.get("route"), "path", "other")
        self.service.metrics.end_request(path, status, seconds)
        if self.service.tracing is not None:
            scope["state"]["trace"].end(scope, path, status)
        if self.access_log:
            client = scope["client"][0] if scope.get("client") else ""
            line = {
                "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "request_id": request_id,
                "client": client,
                "method": scope["method"],
                "path": scope["path"],
                "status": status,
                "seconds": round(seconds, 6),
            }
            sys.stderr.write(json.dumps(line) + "\n")


def _request_id(given: str) -> str:
    return given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
