"""An answer on its way to a client that may be slow to take it."""

import asyncio
from collections.abc import Callable

_PERIOD_S = 0.5
# How long a client may be slow where nobody needs what it holds.
_PATIENCE_S = 10.0


class Delivery:
    """Watches how fast a client takes its answer.

    It is slow while it has taken less than ``min_rate`` bytes a second since the last look, although there
    was more to take: the memory and the place that it holds are others' then, as soon as they need them.

    Args:
        client: who takes it.
        transport: of its connection.
        min_rate: bytes a second.
        give_up: ends the delivery and releases what it holds.
    """

    def __init__(
        self, client: str, transport: asyncio.WriteTransport, min_rate: float, give_up: Callable[[], None]
    ) -> None:
        self.client = client
        self.is_slow = False
        self.sent = 0
        self._transport, self._give_up = transport, give_up
        self._min_bytes = min_rate * _PERIOD_S
        self._taken, self._slow_looks = 0, 0
        self._look_again()

    def _look_again(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_PERIOD_S, self._look)

    def _look(self) -> None:
        to_take = self._transport.get_write_buffer_size()
        taken = self.sent - to_take
        self.is_slow = to_take > 0 and taken - self._taken < self._min_bytes
        self._taken = taken
        self._slow_looks = self._slow_looks + 1 if self.is_slow else 0
        if self._slow_looks * _PERIOD_S >= _PATIENCE_S:
            self.give_up()
        else:
            self._look_again()

    def give_up(self) -> None:
        """Close the connection, with what the client has not taken."""
        self.end()
        self._transport.abort()
        self._give_up()

    def end(self) -> None:
        """Stop watching."""
        self.is_slow = False
        self._timer.cancel()
