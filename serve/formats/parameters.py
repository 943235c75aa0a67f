"""Query parameters and headers, taken only as they are meant: known by name, once each, numbers as digits."""

import re
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

from fastapi import Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from pydantic import BeforeValidator

from serve.limits.refusal import Refusal

_MOST_REMEMBERED, _MOST_CHARACTERS = 256, 200
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

    It remembers what a path, a query and headers mean: clients ask the same way again and again, and FastAPI
    takes a sixth of a small request's processor time to find out.

    Args:
        path: as FastAPI's.
        endpoint: takes the request and values that never change.
        options: as FastAPI's.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        @wraps(endpoint)
        async def note(request: Request, **values: object) -> object:
            request.state.parameters = values
            return await endpoint(request, **values)

        self._answer = endpoint
        self.remembered: dict[tuple[object, ...], dict[str, object]] = {}
        super().__init__(path, note, **options)

    def get_route_handler(self) -> Callable[[Request], Coroutine[object, object, Response]]:
        """Return the route's handler, behind the check of its query parameters."""
        handle, dependant = super().get_route_handler(), self.dependant
        known = [field.alias for field in dependant.query_params]
        headers = [field.alias for field in dependant.header_params]
        remembered = self.remembered

        async def checked(request: Request) -> Response:
            scope = request.scope
            query = scope["query_string"]
            asked = (query, *scope["path_params"].values(), *(request.headers.get(name) for name in headers))
            values = remembered.get(asked)
            if values is not None:
                response: Response = await self._answer(request, **values)
                return response
            if query:
                _check_query([name for name, _ in request.query_params.multi_items()], known)
            response = await handle(request)
            if sum(map(len, filter(None, asked))) <= _MOST_CHARACTERS:
                if len(remembered) >= _MOST_REMEMBERED:
                    remembered.clear()
                remembered[asked] = request.state.parameters
            return response

        return checked


def _check_query(given: list[str], known: list[str]) -> None:
    for name in given:
        if name not in known:
            expected = f"expected {', '.join(known)}" if known else "expected none"
            raise Refusal(422, f"unknown query parameter {name[:100]!r}, {expected}")
        if given.count(name) > 1:
            raise Refusal(422, f"query parameter {name}: given more than once")
