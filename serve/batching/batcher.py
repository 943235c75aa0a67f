"""Dynamic batching: utterances of like length share a call, and every answer is the answer alone.

One queue and one set of concurrent calls serve all models; clients take turns
(`serve.limits.fairness.Turns`).  A free call never waits for company, unless requests are known to be on
their way (`Batcher.announce`), and then only for ``join_s``.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from weakref import WeakKeyDictionary

from asr_bn.system.arrays import Floats
from serve.batching.batch_policy import BatchLimits, Scored, Scorer, Ticket, choose_batch, cost_of, is_long
from serve.batching.calls import Call, CallThreads, Lately, threads_alone
from serve.limits.estimates import CallTimes, Estimate
from serve.limits.fairness import Turns
from serve.limits.refusal import Refusal


class DeadlinePassed(Exception):
    """The request's deadline passed while it waited; it was not computed."""


BatchObserver = Callable[[int, int, int, float], None]
"""Called after each call with its size, real frames, padded frames and seconds."""


def ignore_batch(size: int, frames: int, padded_frames: int, seconds: float) -> None:
    """Observe nothing."""


class Announcement:
    """A request that is on its way to the queue."""

    def __init__(self, batcher: "Batcher", client: str) -> None:
        self._batcher: Batcher | None = batcher
        self.client = client

    def end(self) -> bool:
        """Note that it has arrived, or will not; return true the first time."""
        batcher, self._batcher = self._batcher, None
        if batcher:
            batcher.arrived(self.client)
        return batcher is not None


class Batcher:
    """Utterances in, log posteriors out; to be used from one event loop."""

    def __init__(self, limits: BatchLimits, observe: BatchObserver = ignore_batch) -> None:
        self.limits = limits
        self._observe = observe
        self._waiting: list[Ticket] = []
        self._announced: Counter[str] = Counter()
        self._turns = Turns()
        self._running: list[Call] = []
        self._wake: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._call_times: WeakKeyDictionary[Scorer, CallTimes] = WeakKeyDictionary()
        self._work_per_utterance = Estimate()
        self._seconds_per_call = Estimate()
        self._lately = Lately()
        # Twice: some calls may run beside those that have taken every thread (`_eligible`).
        self._threads = CallThreads(2 * limits.num_threads)

    @property
    def num_waiting(self) -> int:
        """Return how many utterances wait."""
        return len(self._waiting)

    def wait_s(self, client: str) -> float:
        """Estimate how many seconds an utterance of ``client`` would wait if it came now."""
        now = time.monotonic()
        running = sum(
            call.num_threads * max(0.0, call.started + call.expected_s - now) for call in self._running
        )
        waiting = self._num_before(client) * self._work_per_utterance.mean
        return (running + waiting) / self.limits.num_threads

    def _num_before(self, client: str) -> int:
        """Utterances whose turn comes before that of ``client``'s next one."""
        waiting = Counter(ticket.client for ticket in self._waiting) + self._announced
        own = waiting.pop(client, 0)
        return own + sum(min(own + 1, others) for others in waiting.values())

    @property
    def call_s(self) -> float:
        """Return the seconds that a call will hardly exceed."""
        return self._seconds_per_call.upper

    @contextmanager
    def announce(self, client: str = "") -> Iterator["Announcement"]:
        """Mark a request as arriving until its utterances are queued or it ends.

        A batch that can still grow waits ``join_s`` for it."""
        announcement = Announcement(self, client)
        self._announced[client] += 1
        try:
            yield announcement
        finally:
            if announcement.end():
                self._dispatch()

    async def score(
        self,
        scorer: Scorer,
        feats: Sequence[Floats],
        deadline: float,
        announced: "Announcement | None" = None,
        client: str = "",
    ) -> list[Scored]:
        """Score ``feats``, each ``[num_frames, feature_dim]``, before ``deadline`` (`time.monotonic`).

        When the caller is cancelled, what still waits is dropped unserved.

        Raises:
            DeadlinePassed: ``deadline`` came before their turn.
        """
        tickets = [self._enqueue(scorer, matrix, deadline, client) for matrix in feats]
        if announced:
            announced.end()
        self._dispatch()
        try:
            return [await ticket.future for ticket in tickets]
        finally:
            for ticket in tickets:
                self._drop(ticket)

    def arrived(self, client: str) -> None:
        """Note that an announced request has arrived, or will not."""
        self._announced[client] -= 1
        if not self._announced[client]:
            del self._announced[client]

    async def drain(self) -> None:
        """Wait until nothing waits and nothing runs."""
        await self._idle.wait()

    async def close(self) -> None:
        """Finish what was accepted and end the threads."""
        await self.drain()
        self._threads.shutdown()

    def _enqueue(self, scorer: Scorer, feats: Floats, deadline: float, client: str) -> Ticket:
        loop = asyncio.get_running_loop()
        now = time.monotonic()
        self._lately.note(client)
        ticket = Ticket(scorer, feats, loop.create_future(), now, deadline, client)
        # The answer is due at the deadline, not the turn: what could not be done in time is not begun.
        latest_start = deadline - self._upper_s([ticket])
        ticket.timer = loop.call_later(max(0.0, latest_start - now), self._expire, ticket)
        self._waiting.append(ticket)
        self._idle.clear()
        return ticket

    def _times(self, scorer: Scorer) -> CallTimes:
        return self._call_times.setdefault(scorer, CallTimes())

    def _upper_s(self, batch: list[Ticket]) -> float:
        """What a call with ``batch`` will hardly exceed, in seconds."""
        return self._times(batch[0].scorer).upper(cost_of(batch))

    def _expire(self, ticket: Ticket) -> None:
        if ticket in self._waiting and not ticket.future.done():
            ticket.future.set_exception(DeadlinePassed("the deadline passed before a turn came"))
            self._drop(ticket)

    def _drop(self, ticket: Ticket) -> None:
        if ticket.timer:
            ticket.timer.cancel()
        ticket.future.cancel()
        # Nobody may be left to look at it when the first of several utterances failed.
        if ticket.future.done() and not ticket.future.cancelled():
            ticket.future.exception()
        if ticket in self._waiting:
            self._waiting.remove(ticket)
            self._note_idle()

    def _note_idle(self) -> None:
        if not self._waiting and not self._running:
            self._idle.set()

    def _dispatch(self) -> None:
        while True:
            eligible = self._eligible()
            batch = choose_batch(eligible, self.limits, self._in_time)
            if not batch:
                return
            wait_s = self._time_to_wait(batch)
            if wait_s > 0:
                self._wake_in(wait_s)
                return
            self._turns.begin(eligible[0].client)
            self._start(batch)

    def _eligible(self) -> list[Ticket]:
        """What finds threads now; nobody is overtaken for want of threads.

        Long calls leave those of one call to the short ones; where there are no more than that, a short call
        runs beside a long one all the same.  So does the call of a client beside those that crowd it out.
        """
        limits, eligible = self.limits, []
        used, is_full = self._num_used(), False
        served, beside = self._room_beside(used)
        by_long = sum(call.num_threads for call in self._running if is_long(call.batch, limits))
        for ticket in self._turns.order(self._waiting):
            own, long = ticket.scorer.num_threads, is_long([ticket], limits)
            most_for_long = limits.num_threads - own
            if long and by_long + own > max(own, most_for_long):
                continue
            beyond = 0 if long else max(0, by_long - most_for_long)
            is_full = is_full or used - beyond + own > limits.num_threads
            if is_full and beside <= 0:
                break
            if not is_full or (own <= beside and ticket.client not in served):
                eligible.append(ticket)
        return eligible

    def _num_used(self) -> int:
        return sum(call.num_threads for call in self._running)

    def _room_beside(self, used: int) -> tuple[set[str], int]:
        """Return the clients that calls serve, and how many threads others may take beside these calls.

        There are such threads only where one client has most of the usual ones to itself.
        """
        served = set[str]().union(*(call.clients for call in self._running))
        is_crowded = any(map(self._has_most_threads, served))
        return served, 2 * self.limits.num_threads - used if is_crowded else 0

    def _has_most_threads(self, client: str) -> bool:
        return 2 * threads_alone(self._running, client) > self.limits.num_threads

    def _in_time(self, batch: list[Ticket]) -> bool:
        """Whether a call with ``batch`` would end before the deadlines of all in it."""
        end = time.monotonic() + self._upper_s(batch)
        return end <= min(ticket.deadline for ticket in batch)

    def _time_to_wait(self, batch: list[Ticket]) -> float:
        if len(batch) >= batch[0].scorer.max_batch_size or not self._is_company_announced(batch):
            return 0.0
        oldest = min(ticket.enqueued for ticket in batch)
        return oldest + self.limits.join_s - time.monotonic()

    def _is_company_announced(self, batch: list[Ticket]) -> bool:
        """Whether a request on its way could join: `choose_batch` takes nobody who has more waiting."""
        if not self._announced:
            return False
        num_waiting = Counter(ticket.client for ticket in self._waiting)
        most = max(num_waiting[ticket.client] for ticket in batch)
        return any(num_waiting[client] <= most for client in self._announced)

    def _wake_in(self, seconds: float) -> None:
        if self._wake:
            self._wake.cancel()
        self._wake = asyncio.get_running_loop().call_later(seconds, self._dispatch)

    def _start(self, batch: list[Ticket]) -> None:
        for ticket in batch:
            self._waiting.remove(ticket)
            self._turns.charge(ticket.client, ticket.cost)
        expected_s = self._times(batch[0].scorer).expected(cost_of(batch))
        call = Call(batch, time.monotonic(), expected_s, self._yields(batch))
        try:
            task = self._threads.begin(call)
        except (RuntimeError, MemoryError):
            refusal = Refusal(503, "no thread is left to compute", {"retry-after": "1"})
            for ticket in batch:
                if not ticket.future.done():
                    ticket.future.set_exception(refusal)
            self._note_idle()
            return
        self._running.append(call)  # not before: what is not begun has no end
        task.add_done_callback(lambda done: self._finish(call, done))

    def _yields(self, batch: list[Ticket]) -> bool:
        """Whether others need the processor more than a call with ``batch``.

        They do where its client would have most threads to itself, and has asked for more than this call.
        """
        client, own = batch[0].client, batch[0].scorer.num_threads
        if any(ticket.client != client for ticket in batch):
            return False
        before = threads_alone(self._running, client)
        has_more = before > 0 or any(ticket.client == client for ticket in self._waiting)
        return has_more and 2 * (before + own) > self.limits.num_threads and self._lately.others(client)

    def _finish(self, call: Call, done: "asyncio.Future[list[Floats]]") -> None:
        seconds = time.monotonic() - call.started
        self._running.remove(call)
        self._work_per_utterance.observe(seconds * call.num_threads / len(call.batch))
        if not call.yields:  # what it lost to others says nothing of their calls
            self._times(call.batch[0].scorer).observe(cost_of(call.batch), seconds)
            self._seconds_per_call.observe(seconds)
        self._deliver(call.batch, call.started, seconds, done)
        self._note_idle()
        self._dispatch()

    def _deliver(
        self, batch: list[Ticket], started: float, seconds: float, done: "asyncio.Future[list[Floats]]"
    ) -> None:
        error = done.exception()
        if error is None:
            lengths = [ticket.num_frames for ticket in batch]
            self._observe(len(batch), sum(lengths), max(lengths) * len(batch), seconds)
        for index, ticket in enumerate(batch):
            if ticket.future.done():
                continue
            if error is not None:
                ticket.future.set_exception(error)
                continue
            queue_s = started - ticket.enqueued
            ticket.future.set_result(Scored(done.result()[index], queue_s, seconds, len(batch)))
