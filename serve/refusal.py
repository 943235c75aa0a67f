"""Why a request is not answered: exceptions that know nothing of HTTP libraries."""

from collections.abc import Mapping


class Refusal(Exception):
    """A request that is answered with an error: ``detail`` is a sentence for the client."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})


class ClientGone(Exception):
    """The client closed its connection, or reads too slowly; nobody waits for an answer."""
