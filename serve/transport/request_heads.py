"""What RFC 9112 asks of a request's head and llhttp leaves to the server: host, coding, version, target."""

import re
from http import HTTPStatus

import httptools

# RFC 3986, 3.2.2 and 3.2.3; what is in brackets is not looked into.
_HOST = re.compile(rb"(?:\[[0-9A-Za-z.:]+\]|(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(?::[0-9]*)?")
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)([^?#]*)(.*)", re.IGNORECASE)
_REQUEST_LINE = re.compile(rb"(?:\A|\r\n\r\n)[!#$%&'*+.^_`|~0-9A-Za-z-]+ [!-~]+ HTTP/1\.[01]\r\n")
Headers = list[tuple[bytes, bytes]]


class BadRequest(Exception):
    """A request that cannot be served, or not on this connection."""

    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status, self.text = status, text


def refusal_of(error: httptools.HttpParserError, data: bytes) -> BadRequest:
    """Return why ``data``, at which the parser failed, cannot be served: 501 an unknown method, else 400."""
    if isinstance(error.__context__, BadRequest):
        return error.__context__
    if isinstance(error, httptools.HttpParserInvalidMethodError) and _REQUEST_LINE.search(data):
        return BadRequest(HTTPStatus.NOT_IMPLEMENTED, "the method is not implemented")
    return BadRequest(HTTPStatus.BAD_REQUEST, "Invalid HTTP request received.")


def check_head(version: str, headers: Headers) -> None:
    """Check what decides where a request ends and for whom it is.

    Raises:
        BadRequest: 505 another version than 1.0 and 1.1; 400 not exactly one valid Host (RFC 9112, 3.2), or
            a Transfer-Encoding in HTTP/1.0 (6.1) or without chunked as its last (6.3); 501 others before it.
    """
    if version not in ("1.0", "1.1"):
        raise BadRequest(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, f"HTTP/{version}, expected HTTP/1.1")
    hosts = [value for name, value in headers if name == b"host"]
    if len(hosts) > 1 or (version == "1.1" and not hosts) or not all(map(_HOST.fullmatch, hosts)):
        raise BadRequest(HTTPStatus.BAD_REQUEST, "the request needs exactly one valid Host field")
    codings = [value.lower() for name, value in headers if name == b"transfer-encoding"]
    if codings and (version == "1.0" or not codings[-1].endswith(b"chunked")):
        raise BadRequest(HTTPStatus.BAD_REQUEST, "the Transfer-Encoding leaves the body's end unknown")
    if codings not in ([], [b"chunked"]):
        raise BadRequest(HTTPStatus.NOT_IMPLEMENTED, "the only known transfer coding is chunked")


def origin_form(method: bytes, target: bytes, headers: Headers) -> bytes:
    """Return a target as path and query; the host of an absolute one replaces Host (RFC 9112, 3.2.2).

    The ``*`` of OPTIONS, which asks about the server as a whole (3.2.4), becomes ``/``.

    Raises:
        BadRequest: 400 neither of these.
    """
    if (method, target) == (b"OPTIONS", b"*"):
        return b"/"
    match = _ABSOLUTE.fullmatch(target)
    if match is None or not match[1] or not _HOST.fullmatch(match[1]):
        raise BadRequest(HTTPStatus.BAD_REQUEST, "the target of the request is not a path")
    headers[:] = [(name, match[1] if name == b"host" else value) for name, value in headers]
    return (match[2] or b"/") + match[3]


def without_upgrade(method: bytes, target: bytes, version: str, keep_alive: bool, headers: Headers) -> bytes:
    """Write a head that asks for the same, but not for another protocol (RFC 9110, 7.8)."""
    connection = b"keep-alive" if keep_alive else b"close"
    kept = [field for field in headers if field[0] not in (b"connection", b"upgrade")]
    lines = [b"%s %s HTTP/%s" % (method, target, version.encode())]
    lines += [b"%s: %s" % field for field in [*kept, (b"connection", connection)]]
    return b"\r\n".join([*lines, b"", b""])
