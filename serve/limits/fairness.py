"""What clients share: how much one of them may hold, whose turn it is, how much it may ask for in a time.

A client is a key, or an address (`client_of`).  Every place where one could keep others out is one of these.
"""

import asyncio
import ipaddress
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, TypeVar, TypeVarTuple

from starlette.types import Scope

from serve.limits.estimates import Estimate

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
_FEW_CLIENTS = 1000


def client_of(scope: Scope) -> str:
    """Return the key or address that a request came from (uvicorn's ``--forwarded-allow-ips``)."""
    known: str | None = scope.get("state", {}).get("client")
    return known or network_of(scope["client"][0] if scope.get("client") else "")


@lru_cache(4096)
def network_of(host: str) -> str:
    """Return the addresses that one client can choose from: an IPv6 /64 network, or one IPv4 address.

    >>> network_of("2001:db8::1") == network_of("2001:db8::ffff:2"), network_of("::ffff:192.0.2.1")
    (True, '192.0.2.1')
    """
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host[:64]
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((address, 64), strict=False))


@dataclass(eq=False)
class Holding:
    """What a client holds of a `Share`, and since when."""

    client: str
    amount: int
    since: float


class Share:
    """A capacity that clients hold parts of, so that none of them can keep another one out.

    A client may hold up to three times what is free before (dynamic thresholds: Choudhury and Hahne, 1998).
    Alone it gets three quarters of the capacity; of two that want all, each gets three sevenths.  There is
    always something left for one more.

    Args:
        capacity: of all clients.
        most: that a client may hold in any case; 0: no such limit.
    """

    def __init__(self, capacity: int, most: int = 0) -> None:
        self.capacity, self.most = capacity, most or capacity
        self.held = 0
        self._by_client: dict[str, int] = {}
        self._holdings: set[Holding] = set()
        self._hold_s = Estimate()

    @property
    def largest(self) -> int:
        """Return the largest amount that can ever be taken at once."""
        return min(self.most, -(-3 * self.capacity // 4))

    def held_by(self, client: str) -> int:
        """Return what a client holds."""
        return self._by_client.get(client, 0)

    def fits(self, client: str, amount: int) -> bool:
        """Say whether ``client`` may take ``amount`` now."""
        return self._fits(self.held, self._by_client.get(client, 0), amount)

    def _fits(self, held: int, own: int, amount: int) -> bool:
        free = self.capacity - held
        return amount <= free and own + amount <= self.most and own + amount <= 3 * free

    def take(self, client: str, amount: int) -> Holding:
        """Hold ``amount``, which fits, until it is released."""
        holding = Holding(client, amount, time.monotonic())
        self._holdings.add(holding)
        self._count(client, amount)
        return holding

    def release(self, holding: Holding) -> None:
        """Release ``holding``; a second time changes nothing."""
        if holding in self._holdings:
            self._holdings.remove(holding)
            self._hold_s.observe(time.monotonic() - holding.since)
            self._count(holding.client, -holding.amount)

    def _count(self, client: str, amount: int) -> None:
        self.held += amount
        own = self._by_client.pop(client, 0) + amount
        if own:
            self._by_client[client] = own

    def fits_in_s(self, client: str, amount: int) -> float:
        """Estimate how many seconds it takes until ``amount`` fits.

        Every holding is expected to last as long as those before it; one that has lasted longer, as long
        again as it is late.
        """
        now = time.monotonic()
        late = {holding: now - holding.since - self._hold_s.mean for holding in self._holdings}
        held, own = self.held, self.held_by(client)
        for holding in sorted(late, key=lambda one: abs(late[one])):
            held -= holding.amount
            own -= holding.amount if holding.client == client else 0
            if self._fits(held, own, amount):
                return abs(late[holding])
        return 0.0


class Waiting(Protocol):
    """What waits for its turn: whose it is, and how much of the thing that is shared it will take."""

    @property
    def client(self) -> str:
        """The client it belongs to."""
        ...

    @property
    def cost(self) -> float:
        """What it takes, in the unit of the other costs."""
        ...


W = TypeVar("W", bound=Waiting)


class Turns:
    """Whose turn it is: the client's that has had least, of those that wait.

    Start-time fair queueing (Goyal, Vin and Cheng, 1996): each client is as far as it has been served.  Who
    comes anew begins where the one served last began, neither ahead for its absence nor behind.
    """

    def __init__(self) -> None:
        self._served: dict[str, float] = {}
        self._level = 0.0
        self._forget_at = _FEW_CLIENTS

    def order(self, waiting: Sequence[W]) -> Sequence[W]:
        """Sort ``waiting``, in order of arrival, by turns; those of one client keep their order."""
        if len({one.client for one in waiting}) < 2:
            return waiting
        ahead: dict[str, float] = {}
        begins: list[float] = []
        for one in waiting:
            begins.append(ahead.get(one.client, self._position(one.client)))
            ahead[one.client] = begins[-1] + one.cost
        return [waiting[index] for index in sorted(range(len(waiting)), key=begins.__getitem__)]

    def begin(self, client: str) -> None:
        """Record that the turn of ``client`` has come."""
        self._level = self._position(client)

    def charge(self, client: str, cost: float) -> None:
        """Record that ``client`` has been served work of ``cost``."""
        self._served[client] = self._position(client) + cost
        if len(self._served) > self._forget_at:  # who is not ahead is as one who comes anew
            self._served = {name: at for name, at in self._served.items() if at > self._level}
            self._forget_at = max(_FEW_CLIENTS, 2 * len(self._served))

    def _position(self, client: str) -> float:
        return max(self._served.get(client, 0.0), self._level)


@dataclass(eq=False)
class _Entry:
    client: str
    admitted: asyncio.Future[None]
    cost: float = 1.0


class Gate:
    """Runs ``size`` pieces of work at a time, begun in fair turns; a turn costs the time it takes.

    Where there is room for several, a client whose last piece took long leaves one to the others.

    Args:
        size: pieces at a time.
        long_s: what is long, in seconds.
    """

    def __init__(self, size: int, long_s: float = 1.0) -> None:
        self._size = self._free = size
        self._long_s = long_s
        self._long: set[str] = set()
        self._turns = Turns()
        self._waiting: list[_Entry] = []

    async def run(self, client: str, work: Callable[[], Awaitable[T]]) -> T:
        """Await ``work()`` once its turn has come, and return what it gives.

        When the caller is cancelled it is not begun; what is begun goes on, and takes its room, to its end.
        """
        if self._has_room(client):
            self._free -= 1
        else:
            await self._turn(client)
        self._turns.begin(client)
        started = time.monotonic()

        def end(done: "asyncio.Future[T] | None") -> None:
            self._leave(client, time.monotonic() - started)
            if done and not done.cancelled():
                done.exception()  # nobody else looks at it where the caller is gone

        try:
            running = asyncio.ensure_future(work())
        except BaseException:
            end(None)
            raise
        running.add_done_callback(end)
        return await asyncio.shield(running)

    def _has_room(self, client: str) -> bool:
        return self._free > (client in self._long and self._size > 1)

    async def _turn(self, client: str) -> None:
        entry = _Entry(client, asyncio.get_running_loop().create_future())
        self._waiting.append(entry)
        try:
            await entry.admitted
        except asyncio.CancelledError:
            if not entry.admitted.cancelled():  # its turn came at the same time
                self._leave(client, 0.0)
            raise

    def _leave(self, client: str, seconds: float) -> None:
        self._turns.charge(client, seconds)
        self._note_length(client, seconds)
        self._free += 1
        self._waiting = [entry for entry in self._waiting if not entry.admitted.done()]
        for entry in self._turns.order(self._waiting):
            if self._has_room(entry.client):
                self._free -= 1
                entry.admitted.set_result(None)

    def _note_length(self, client: str, seconds: float) -> None:
        if seconds <= self._long_s:
            self._long.discard(client)
        elif len(self._long) < _FEW_CLIENTS:
            self._long.add(client)


@dataclass
class _Budget:
    left: float
    at: float


class Allowance:
    """A rate limit for each client: what it takes beyond its allowance, it has to wait for.

    Args:
        per_s: what a client is given each second; 0: no limit.
        most: what a client can save up.
    """

    def __init__(self, per_s: float, most: float) -> None:
        self.per_s, self.most = per_s, most
        self._budgets: dict[str, _Budget] = {}
        self._forget_at = _FEW_CLIENTS

    def wait_s(self, client: str) -> float:
        """Return the seconds until it may take again; 0: it may now."""
        return max(0.0, -self._left(client) / self.per_s) if self.per_s else 0.0

    def take(self, client: str, amount: float) -> None:
        """Subtract ``amount`` from what ``client`` has left."""
        if self.per_s:
            self._budgets[client] = _Budget(self._left(client) - amount, time.monotonic())
            if len(self._budgets) > self._forget_at:  # who has all saved is as one who comes anew
                less = [name for name in self._budgets if self._left(name) < self.most]
                self._budgets = {name: self._budgets[name] for name in less}
                self._forget_at = max(_FEW_CLIENTS, 2 * len(less))

    def _left(self, client: str) -> float:
        budget = self._budgets.get(client)
        if budget is None:
            return self.most
        return min(self.most, budget.left + self.per_s * (time.monotonic() - budget.at))


class FairThreads:
    """Threads that work for clients in fair turns.

    Args:
        size: how many.
        name: what their names begin with.
    """

    def __init__(self, size: int, name: str) -> None:
        self._gate = Gate(size)
        self._executor = ThreadPoolExecutor(size, thread_name_prefix=name)

    async def run(self, client: str, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Return ``function(*arguments)``, called in a thread when its turn has come (`Gate.run`)."""
        loop = asyncio.get_running_loop()
        return await self._gate.run(
            client, lambda: loop.run_in_executor(self._executor, function, *arguments)
        )

    def shutdown(self) -> None:
        """Finish what was begun and end the threads."""
        self._executor.shutdown()
