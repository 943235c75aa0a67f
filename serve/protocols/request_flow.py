"""What every request goes through: body received, client watched, admission held until the end."""

import asyncio
import re
import time
from collections.abc import Awaitable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TypeVar

from fastapi import Request
from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from serve.formats.answers import Encoded
from serve.formats.bodies import read_body
from serve.limits.fairness import client_of
from serve.limits.refusal import ClientGone
from serve.service.admission import Admission
from serve.service.delivery import Delivery
from serve.service.service import Service, Timing

T = TypeVar("T")


def timing_of(request: Request) -> Timing:
    """Start the timing of a request."""
    return Timing(client_of(request.scope), getattr(request.state, "trace", None))


async def receive(request: Request, service: Service, timing: Timing, deadline: float) -> bytes:
    """Receive the body, once there is room for it.

    Raises:
        Refusal: as `Shares.count_request`, `Service.check_admission` and `read_body`.
    """
    service.shares.count_request(timing.client)
    service.check_admission(timing.client, deadline)
    settings = service.settings
    with service.shares.upload(timing.client, _expected_bytes(request, settings.max_body_bytes)):
        in_turn = partial(service.readers.run, timing.client)
        body = await read_body(request, settings.max_body_bytes, settings.body_timeout_s, in_turn)
    service.note(timing, "receive", time.monotonic() - timing.started)
    return body


def _expected_bytes(request: Request, most: int) -> int:
    """Return the bytes to hold for a body: its length, or of one in chunks ``most``."""
    declared = request.headers.get("content-length", "")
    if re.fullmatch("[0-9]{1,18}", declared):
        return min(most, int(declared))
    return most if "transfer-encoding" in request.headers else 0


async def unless_client_leaves(request: Request, work: Awaitable[T]) -> T:
    """Await ``work``, but cancel it as soon as the client closes the connection.

    The body must have been read before.

    Raises:
        ClientGone: the client left first.
    """
    try:
        async with asyncio.timeout(None) as presence:
            leaving = asyncio.ensure_future(_until_disconnect(request, presence))
            try:
                return await work
            finally:
                leaving.cancel()
    except TimeoutError as error:
        if presence.expired():
            raise ClientGone from error
        raise


async def _until_disconnect(request: Request, presence: asyncio.Timeout) -> None:
    """End ``presence`` when the client is gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    presence.reschedule(asyncio.get_running_loop().time())


class HeldResponse(Response):
    """A response in chunks that releases what its request held when it has been sent, or cannot be.

    Args:
        service: whose encoders make the later chunks, and whose settings bound the time to read them.
        admission: what the request holds.
        held: closed at the end.
        body: sent without being copied together.
        headers, media_type: as for Starlette's response.
    """

    def __init__(
        self,
        service: Service,
        admission: Admission,
        held: ExitStack,
        body: Encoded,
        headers: dict[str, str],
        media_type: str | None = None,
    ) -> None:
        super().__init__(headers=headers, media_type=media_type)
        if body.rest is None:
            self.headers["content-length"] = str(sum(len(chunk) for chunk in body.chunks))
        else:
            del self.headers["content-length"]
        self.service, self.admission, self.held, self.encoded = service, admission, held, body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        with self.held:
            try:
                async with asyncio.timeout(self.service.settings.send_timeout_s) as limit:
                    with self._watched(scope, limit) as delivery:
                        await self._send(send, delivery)
            except TimeoutError as error:
                raise ClientGone from error

    @contextmanager
    def _watched(self, scope: Scope, limit: asyncio.Timeout) -> Iterator[Delivery | None]:
        """Let the client be given up when it is slow, where the server tells how far it is."""
        transport = scope.get("state", {}).get("transport")
        if transport is None:
            yield None
            return

        def give_up() -> None:
            self.admission.release()
            limit.reschedule(asyncio.get_running_loop().time())

        min_rate, deliveries = self.service.settings.min_send_rate, self.service.shares.deliveries
        delivery = Delivery(self.admission.client, transport, min_rate, give_up)
        deliveries.add(delivery)
        try:
            yield delivery
        finally:
            deliveries.discard(delivery)
            delivery.end()

    async def _send(self, send: Send, delivery: Delivery | None) -> None:
        async def send_chunk(chunk: bytes | memoryview) -> None:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            if delivery:
                delivery.sent += len(chunk)

        start = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        await send(start)
        for chunk in self.encoded.chunks:
            await send_chunk(chunk)
        if rest := self.encoded.rest:
            while piece := await self.service.encoders.run(self.admission.client, next, rest, b""):
                await send_chunk(piece)
        await send({"type": "http.response.body", "body": b"", "more_body": False})
