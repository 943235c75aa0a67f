"""Why a request is not answered: exceptions that know nothing of HTTP libraries."""

from collections.abc import Mapping
from reprlib import Repr


class Refusal(Exception):
    """A request that is answered with an error: ``detail`` is a sentence for the client."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})


class ClientGone(Exception):
    """The client closed its connection, or reads too slowly; nobody waits for an answer."""


def shown(value: object) -> str:
    """Show what a client sent, cut to what fits in a sentence, however deeply nested.

    >>> shown([[[[[0]]]], "x" * 200])
    "[[[[[...]]]], 'xxxxxxxxxxxxxxxxx...xxxxxxxxxxxxxxxxxx']"
    """
    return _SHOWN.repr(value)


_SHOWN = Repr()
_SHOWN.maxlevel, _SHOWN.maxstring = 4, 40
