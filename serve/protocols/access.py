"""Who may do what: API keys before anything that is not public, and the admin token."""

import hmac
from collections.abc import Sequence
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from asr_bn.kaldi_io.script_file import read_lines
from serve.protocols.errors import error_response

KEY_HEADER, ADMIN_HEADER = "x-api-key", "x-admin-token"


class Secrets:
    """The API keys or admin tokens of a file, one a line; blank lines and ``#`` comments are skipped.

    Args:
        path: the file; None: there is no secret, and nobody holds one.

    Raises:
        ValueError: the file holds none.
    """

    def __init__(self, path: Path | None) -> None:
        self._known: list[bytes] = []
        if path is not None:
            self._known = [line.encode() for _, line in read_lines(path) if not line.startswith("#")]
            if not self._known:
                raise ValueError(f"{path}: no key in it, expected one a line")

    def find(self, headers: Sequence[tuple[bytes, bytes]], own_header: str) -> int | None:
        """Return the number of the secret that a request holds, None if it holds none.

        Args:
            headers: as of an ASGI scope; every line, and every item of a line that a proxy has joined,
                counts, so that a key and an admin token find room beside each other.
            own_header: where it may be given as it is, beside ``Authorization: Bearer``.
        """
        given = _given(headers, own_header.encode())
        # Compared with every secret, so that time tells nothing about which one came close.
        found = [
            number
            for number, known in enumerate(self._known)
            if sum(hmac.compare_digest(one, known) for one in given)
        ]
        return found[0] if found else None


def _given(headers: Sequence[tuple[bytes, bytes]], own_header: bytes) -> set[bytes]:
    given = set()
    for name, value in headers:
        if name == own_header:
            given |= _items(value)
        elif name == b"authorization":
            schemes = (item.partition(b" ") for item in _items(value))
            given |= {token.strip() for scheme, _, token in schemes if scheme.lower() == b"bearer"}
    return given


def _items(value: bytes) -> set[bytes]:
    """A value as it is, and the items of the list that it may be."""
    return {item.strip() for item in (value, *value.split(b","))}


class ApiKeys:
    """Lets only holders of a key beyond the public routes.

    Who holds none is served by an application that has no others.  What is not declared public, or does not
    exist, cannot be reached, whatever path, method or prefix it is asked for under.

    Args:
        app: the whole application.
        keys: any of which will do.
        public: the application of the public routes.
    """

    def __init__(self, app: ASGIApp, keys: Secrets, public: ASGIApp) -> None:
        self.app, self.keys, self.public = app, keys, public

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        number = self.keys.find(scope["headers"], KEY_HEADER)
        if number is None:
            await self.public(scope, receive, send)
            return
        scope.setdefault("state", {})["client"] = f"key {number}"
        await self.app(scope, receive, send)


async def refuse_without_key(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer 401 (an ASGI application); a WebSocket is not opened."""
    if scope["type"] == "websocket":
        await WebSocketClose(1008)(scope, receive, send)
        return
    detail = "a key is needed: Authorization: Bearer KEY, or X-API-Key: KEY"
    response = error_response(scope, 401, detail, {"www-authenticate": "Bearer"})
    await response(scope, receive, send)
