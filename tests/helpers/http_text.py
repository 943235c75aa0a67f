"""Requests as text, said to a server over plain sockets."""

import re
import time

import numpy as np

from tests.helpers.serving import connect, npy, until_closed

BODY = npy(np.zeros((5, 123), np.float32))
POST = b"POST /v1/posteriors?top_k=1 HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-npy\r\n"
GET = b"GET /healthz HTTP/1.1\r\nhost: x\r\n"
CLOSE = b"connection: close\r\n\r\n"
UPGRADE = (
    b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"
)


def said_to(url: str, *packets: bytes, pause_s: float = 0.1) -> bytes:
    """All that a server says to ``packets``, until it closes."""
    with connect(url) as connection:
        for number, packet in enumerate(packets):
            time.sleep(pause_s if number else 0)
            connection.sendall(packet)
        return until_closed(connection)


def statuses(said: bytes) -> list[int]:
    """The status of every answer."""
    return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3}) ", said)]


def chunked(*chunks: bytes, trailers: bytes = b"") -> bytes:
    """The end of a head, and a body in chunks."""
    framed = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return b"transfer-encoding: chunked\r\n\r\n" + framed + b"0\r\n" + trailers + b"\r\n"


def sized(body: bytes) -> bytes:
    """The end of a head, and a body whose length it says."""
    return b"content-length: %d\r\n\r\n" % len(body) + body
