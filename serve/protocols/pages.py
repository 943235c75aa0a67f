"""The pages and what they load: files beside this module, with the conditions of RFC 9110, 13."""

import os
from email.utils import parsedate
from pathlib import Path

from fastapi.responses import Response
from fastapi.staticfiles import StaticFiles
from starlette.datastructures import Headers
from starlette.types import Scope

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
        """The file, or that there is nothing to send."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        if not _holds(Headers(scope=scope), response.headers):
            return Response(status_code=412)
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
