"""The pages and what they load: files beside this module, with the conditions and ranges of RFC 9110."""

import os
from email.utils import parsedate
from pathlib import Path

from fastapi.responses import Response
from fastapi.staticfiles import StaticFiles
from starlette.datastructures import Headers
from starlette.types import Scope

from serve.limits.refusal import Refusal

STATIC = Path(__file__).parent / "static"
# Nothing from another host may be loaded, whatever finds its way into a page.
PAGE_HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' data:; media-src 'self' blob:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    "x-content-type-options": "nosniff",
}


class Pages(StaticFiles):
    """Starlette's files, 304 where they are as the client has them; 412 where they are not as it asks."""

    def file_response(
        self,
        full_path: str | os.PathLike[str],
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        """Return the file, or that there is nothing to send.

        Raises:
            Refusal: 416 the ranges asked for all lie behind the file's end.
        """
        response = super().file_response(full_path, stat_result, scope, status_code)
        asked, file = Headers(scope=scope), response.headers
        if not _holds(asked, file):
            return Response(status_code=412)
        is_same = asked.get("if-range", file["etag"]) in (file["etag"], file.get("last-modified"))
        if "range" in asked and response.status_code == 200 and is_same:
            found = _satisfiable(asked["range"], stat_result.st_size).encode()
            scope["headers"] = [
                (name, found if name == b"range" else value) for name, value in scope["headers"]
            ]
        response.headers.update(PAGE_HEADERS)
        return response


def _holds(asked: Headers, file: Headers) -> bool:
    """Whether If-Match and If-Unmodified-Since hold (RFC 9110, 13.1.1, 13.1.4)."""
    if "if-match" in asked:
        tags = [tag.strip() for tag in asked["if-match"].split(",")]
        return "*" in tags or file["etag"] in tags
    since, modified = (
        parsedate(text) for text in (asked.get("if-unmodified-since"), file.get("last-modified"))
    )
    return since is None or modified is None or modified <= since


def _satisfiable(byte_ranges: str, size: int) -> str:
    """Leave out the ranges that lie behind the end of ``size`` bytes (RFC 9110, 14.1.2).

    Raises:
        Refusal: 416 all of them do.
    """
    items = (item.strip().partition("-") for item in byte_ranges.partition("=")[2].split(","))
    kept = [
        f"{first}-{last}" for first, _, last in items if (int(first) < size if first else int(last) and size)
    ]
    if not kept:
        headers = {"content-range": f"bytes */{size}"}
        raise Refusal(416, f"the ranges lie behind the end of {size} bytes", headers)
    return f"bytes={','.join(kept)}"
