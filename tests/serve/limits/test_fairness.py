"""Sharing among clients: bounds, turns and allowances, against what their definitions say."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.limits import fairness
from serve.limits.fairness import Allowance, FairThreads, Gate, Share, Turns, client_of, network_of


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    now = [1000.0]
    monkeypatch.setattr(fairness.time, "monotonic", lambda: now[0])
    yield now


def greedy(share: Share, clients: int, amount: int = 1) -> Counter[str]:
    """What each of several clients holds that take turns until none of them can take more."""
    names = [f"c{number}" for number in range(clients)]
    while fitting := [name for name in names if share.fits(name, amount)]:
        for name in fitting:
            if share.fits(name, amount):
                share.take(name, amount)
    return Counter({name: share.held_by(name) for name in names})


@pytest.mark.parametrize("clients", [1, 2, 3, 8])
def test_of_clients_that_want_all_each_gets_its_share_and_one_s_room_is_left(clients):
    """Who holds three times what is free: x = 3 (C - n x), so that x = 3 C / (3 n + 1)."""
    capacity = 1000
    share = Share(capacity)
    held = greedy(share, clients)
    expected = Fraction(3 * capacity, 3 * clients + 1)
    assert all(abs(amount - expected) <= 3 for amount in held.values())
    assert share.fits("newcomer", int(capacity - share.held))


def test_three_quarters_of_the_places_are_one_client_s():
    assert greedy(Share(64), 1) == {"c0": 48}
    assert Share(64).largest == 48
    assert [Share(size).largest for size in (1, 2, 3, 4)] == [1, 2, 3, 3]
    assert greedy(Share(64, most=5), 2) == {"c0": 5, "c1": 5}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 40), st.booleans()), max_size=60))
def test_a_share_holds_no_more_than_its_capacity_and_forgets_what_is_released(steps):
    share, held = Share(100), []
    for client, amount, release in steps:
        if release and held:
            share.release(held.pop(0))
        elif share.fits(client, amount):
            held.append(share.take(client, amount))
        assert share.held == sum(one.amount for one in held) <= 100
    for one in held + held:  # to release twice does nothing
        share.release(one)
    assert share.held == 0
    assert not share._by_client


def test_when_there_is_room_again_is_told_from_how_long_others_have_held_it(clock):
    share = Share(4)
    before = share.take("a", 1)
    clock[0] += 10.0
    share.release(before)
    for _ in range(3):
        share.take("a", 1)
        clock[0] += 1.0
    # They came 3, 2 and 1 seconds ago and last 10: that of 3 goes first.
    assert not share.fits("a", 1)
    assert share.fits_in_s("a", 1) == pytest.approx(7.0)
    assert share.fits_in_s("a", 3) == pytest.approx(8.0)
    clock[0] += 27.0  # 30, 29 and 28 seconds: 18 later than expected, and expected to be so again
    assert share.fits_in_s("a", 1) == pytest.approx(18.0)


@dataclass
class Piece:
    client: str
    cost: float


def serve(turns: Turns, waiting: list[Piece]) -> Piece:
    piece = turns.order(waiting)[0]
    waiting.remove(piece)
    turns.begin(piece.client)
    turns.charge(piece.client, piece.cost)
    return piece


def test_who_comes_waits_for_none_of_those_that_others_have_queued():
    turns, waiting = Turns(), [Piece("flood", 100.0) for _ in range(50)]
    for _ in range(10):
        serve(turns, waiting)
    waiting += [Piece("one", 100.0), Piece("one", 100.0)]
    assert [serve(turns, waiting).client for _ in range(4)] == ["one", "flood", "one", "flood"]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 50)), min_size=1, max_size=80))
def test_clients_that_wait_all_the_time_are_served_alike(steps):
    """Start-time fair queueing, theorem 1: their services differ by two of the largest pieces at most."""
    turns = Turns()
    waiting = [Piece(client, float(cost)) for client, cost in steps]
    served: Counter[str] = Counter()
    while len({piece.client for piece in waiting}) == 3:
        piece = serve(turns, waiting)
        served[piece.client] += int(piece.cost)
        assert max(served[c] for c in "abc") - min(served[c] for c in "abc") <= 100


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 9)), max_size=20))
def test_turns_change_nothing_of_one_client_s_order(steps):
    turns, waiting = Turns(), [Piece(client, float(cost)) for client, cost in steps]
    ordered = turns.order(waiting)
    for client in "ab":
        own = [piece for piece in waiting if piece.client == client]
        assert [piece for piece in ordered if piece.client == client] == own
        assert list(turns.order(own)) == own


def test_many_clients_are_forgotten():
    turns, allowance = Turns(), Allowance(1000.0, 0.0)
    for number in range(5000):
        turns.begin(f"c{number}")
        turns.charge(f"c{number}", 1.0)
        turns.begin(f"c{number}")
        allowance.take(f"c{number}", 1e-9)
    assert len(turns._served) <= 1001
    assert len(allowance._budgets) <= 1001


def run(scenario: Any) -> None:
    asyncio.run(asyncio.wait_for(scenario, 20))


class Works:
    """Pieces of work that end when they are told to."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.begun: list[str] = []
        self.ends: list[asyncio.Future[None]] = []

    def ask(self, client: str) -> "asyncio.Task[None]":
        def work() -> asyncio.Future[None]:
            self.begun.append(client)
            self.ends.append(asyncio.get_running_loop().create_future())
            return self.ends[-1]

        return asyncio.ensure_future(self.gate.run(client, work))


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_a_gate_admits_so_many_at_a_time_in_turns():
    async def scenario() -> None:
        works = Works(Gate(2))
        asked = [works.ask("flood") for _ in range(6)]
        await settle()
        asked.append(works.ask("one"))
        await settle()
        assert works.begun == ["flood", "flood"]
        works.ends[0].set_result(None)
        await settle()
        assert works.begun == ["flood", "flood", "one"]
        for number in range(1, 7):
            works.ends[number].set_result(None)
            await settle()
        await asyncio.gather(*asked)
        assert works.begun.count("flood") == 6

    run(scenario())


def test_what_is_cancelled_is_not_begun_and_what_is_begun_keeps_its_room_to_its_end():
    async def scenario() -> None:
        works = Works(Gate(1))
        begun, waits, next_one = works.ask("a"), works.ask("b"), works.ask("c")
        await settle()
        begun.cancel()
        waits.cancel()
        await settle()
        assert begun.cancelled() and waits.cancelled()
        assert works.begun == ["a"]
        works.ends[0].set_exception(ValueError("nobody looks at it"))
        await settle()
        assert works.begun == ["a", "c"]
        works.ends[1].set_result(None)
        await next_one

    run(scenario())


def test_a_turn_that_comes_together_with_the_cancellation_is_passed_on():
    async def scenario() -> None:
        works = Works(Gate(1))
        asked = [works.ask(client) for client in "abc"]
        await settle()
        works.ends[0].set_result(None)
        await asyncio.sleep(0)  # b has been admitted and does not know it yet
        asked[1].cancel()
        await settle()
        assert works.begun == ["a", "c"]
        works.ends[1].set_result(None)
        await asyncio.gather(asked[0], asked[2])

    run(scenario())


def test_whose_work_takes_long_leaves_room_for_the_others(clock):
    async def scenario() -> None:
        works = Works(Gate(2, long_s=1.0))
        asked = [works.ask("long") for _ in range(4)]
        await settle()
        clock[0] += 5.0
        works.ends[0].set_result(None)
        works.ends[1].set_result(None)
        await settle()
        assert works.begun == ["long"] * 3
        asked.append(works.ask("one"))
        await settle()
        assert works.begun == [*["long"] * 3, "one"]
        works.ends[2].set_result(None)  # quick again
        await settle()
        works.ends[3].set_result(None)
        await settle()
        works.ends[4].set_result(None)
        await asyncio.gather(*asked)

    run(scenario())


def test_work_that_cannot_begin_takes_no_room():
    async def scenario() -> None:
        gate = Gate(1)

        def broken() -> Any:
            raise ValueError("broken")

        for _ in range(3):
            with pytest.raises(ValueError, match="broken"):
                await gate.run("a", broken)
        threads = FairThreads(1, "test")
        assert await threads.run("a", sum, [1, 2]) == 3
        threads.shutdown()
        for _ in range(2):
            with pytest.raises(RuntimeError):
                await threads.run("a", sum, [1, 2])

    run(scenario())


def test_an_allowance_is_what_it_says_and_the_time_to_wait_is_exact(clock):
    two_a_second = Allowance(2.0, 1.0)
    taken = 0
    for _ in range(100):
        if not two_a_second.wait_s("a"):
            two_a_second.take("a", 1)
            taken += 1
        clock[0] += 0.1
    assert 20 <= taken <= 22
    a_minute = Allowance(60 / 60, 60.0)
    a_minute.take("a", 60.0)
    assert a_minute.wait_s("a") == 0
    a_minute.take("a", 30.0)
    assert a_minute.wait_s("a") == pytest.approx(30.0)
    assert a_minute.wait_s("b") == 0
    clock[0] += 29.0
    assert a_minute.wait_s("a") == pytest.approx(1.0)
    clock[0] += 1.0
    assert a_minute.wait_s("a") == 0
    unlimited = Allowance(0.0, 0.0)
    unlimited.take("a", 1e9)
    assert unlimited.wait_s("a") == 0


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unix", "unix"),
        ("", ""),
        ("x" * 1000, "x" * 64),
    ],
)
def test_a_client_without_a_key_is_its_address(host, network):
    assert network_of(host) == network
    assert client_of({"client": (host, 1)}) == network
    assert client_of({"client": (host, 1), "state": {"client": "key 0"}}) == "key 0"
    assert client_of({"client": None}) == ""
