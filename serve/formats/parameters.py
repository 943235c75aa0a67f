"""Query parameters and headers, taken only as they are meant: known by name, once each, numbers as digits."""

import re
from collections.abc import Callable, Coroutine

from fastapi import Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from pydantic import BeforeValidator

from serve.limits.refusal import Refusal

_DIGITS = re.compile("[0-9]{1,18}", re.ASCII)


def _in_digits(value: object) -> object:
    if isinstance(value, str) and not _DIGITS.fullmatch(value):
        raise ValueError("expected a whole number, written as 1 to 18 digits")
    return value


# What Python's int takes beside them (signs, spaces, underscores, other scripts' digits) is rather a mistake.
Digits = BeforeValidator(_in_digits)


class StrictRoute(APIRoute):
    """A route that refuses query parameters that it does not know, or that are given twice.

    Of a header that is given twice `serve.semantics` makes one value, which is no number.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[object, object, Response]]:
        """Return the route's handler, behind the check of its query parameters."""
        handle = super().get_route_handler()
        known = [field.alias for field in self.dependant.query_params]

        async def checked(request: Request) -> Response:
            if request.scope["query_string"]:
                _check_query([name for name, _ in request.query_params.multi_items()], known)
            return await handle(request)

        return checked


def _check_query(given: list[str], known: list[str]) -> None:
    for name in given:
        if name not in known:
            expected = f"expected {', '.join(known)}" if known else "expected none"
            raise Refusal(422, f"unknown query parameter {name[:100]!r}, {expected}")
        if given.count(name) > 1:
            raise Refusal(422, f"query parameter {name}: given more than once")
