"""A client that sends all it can crowds nobody out: others begin beside it, and its calls yield to theirs."""

import asyncio
import os
import sys
import threading
from collections.abc import Sequence

import pytest

from asr_bn.system.arrays import Floats
from serve.batching import calls
from serve.batching.batch_policy import BatchLimits
from serve.batching.batcher import Batcher
from serve.batching.calls import Lately
from serve.limits.refusal import Refusal
from tests.helpers.recorder import FAR, Recorder, matrix, run, until


class Nice(Recorder):
    """A recorder that notes the priority of the thread that each batch ran in."""

    def __init__(self) -> None:
        super().__init__()
        self.nice: dict[int, int] = {}

    def log_posteriors(self, feats: Sequence[Floats]) -> list[Floats]:
        self.nice[len(feats[0])] = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        return super().log_posteriors(feats)


def ask(batcher: Batcher, scorer: Recorder, frames: int, client: str) -> "asyncio.Future[object]":
    return asyncio.ensure_future(batcher.score(scorer, [matrix(frames)], FAR, client=client))


@pytest.mark.parametrize("num_threads", [1, 2, 4])
def test_a_client_begins_beside_one_that_has_most_threads(num_threads):
    """Each begins one call, no two, as far as there are workers; those of the other go on waiting."""

    async def scenario(batcher: Batcher, scorer: Recorder) -> None:
        scorer.max_batch_size = 1
        scorer.go.clear()
        flood = [ask(batcher, scorer, 10, "flood") for _ in range(9)]
        await until(lambda: len(scorer.batches) == num_threads)
        beside = [ask(batcher, scorer, 20 + k, f"client {k}") for k in range(5) for _ in range(2)]
        most = min(2 * num_threads, num_threads + 5)
        await until(lambda: len(scorer.batches) == most)
        await asyncio.sleep(0.05)
        expected = [[10]] * num_threads + [[20 + k] for k in range(most - num_threads)]
        assert sorted(scorer.batches) == expected
        scorer.go.set()
        await asyncio.gather(*flood, *beside)

    run(BatchLimits(num_threads=num_threads, join_s=0), scenario)


def test_a_client_begins_though_one_before_it_waits_whose_call_runs_beside_the_flood():
    async def scenario(batcher: Batcher, scorer: Recorder) -> None:
        scorer.max_batch_size = 1
        scorer.go.clear()
        asked = [ask(batcher, scorer, 10, "flood") for _ in range(9)]
        asked += [ask(batcher, scorer, 20, "a"), ask(batcher, scorer, 21, "a")]
        await until(lambda: [20] in scorer.batches)
        batcher._turns._level = 1e9  # as if all were as far
        asked.append(ask(batcher, scorer, 30, "b"))
        await until(lambda: [30] in scorer.batches)
        assert [21] not in scorer.batches
        scorer.go.set()
        await asyncio.gather(*asked)

    run(BatchLimits(num_threads=2, join_s=0), scenario)


def test_clients_that_share_the_threads_wait_for_them():
    """Two clients have a thread each, or a call together: a third waits."""

    async def scenario(batcher: Batcher, scorer: Recorder) -> None:
        scorer.go.clear()
        scorer.max_batch_size = 2
        asked = [ask(batcher, scorer, 10, "a"), ask(batcher, scorer, 11, "b")]
        await until(lambda: len(scorer.batches) == 2)
        asked.append(ask(batcher, scorer, 12, "c"))
        await asyncio.sleep(0.05)
        assert sorted(scorer.batches) == [[10], [11]]
        scorer.go.set()
        await asyncio.gather(*asked)

    run(BatchLimits(num_threads=2, join_s=0), scenario)


def test_a_call_does_not_wait_for_requests_that_may_not_join_it():
    """Who floods the server is always about to send more, and never shares a call of one that does not."""

    async def scenario(batcher: Batcher, scorer: Recorder) -> None:
        scorer.go.clear()
        flood = [ask(batcher, scorer, 10, "flood") for _ in range(20)]
        await until(lambda: len(scorer.batches) == 2)
        with batcher.announce("flood"):
            beside = ask(batcher, scorer, 20, "one")
            await until(lambda: [20] in scorer.batches)
        scorer.go.set()
        await asyncio.gather(*flood, beside)

    run(BatchLimits(num_threads=2, join_s=1000), scenario)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives threads priorities of their own")
def test_calls_beyond_half_the_threads_yield_where_another_client_is_there():
    one = Nice()

    async def scenario(batcher: Batcher, scorer: Nice) -> None:
        scorer.max_batch_size = 1
        await batcher.score(scorer, [matrix(1)], FAR, client="flood")
        scorer.go.clear()
        flood = [ask(batcher, scorer, frames, "flood") for frames in (2, 3, 5, 6)]
        await until(lambda: len(scorer.batches) == 3)
        await batcher.score(one, [matrix(4)], FAR, client="one")
        scorer.go.set()
        await asyncio.gather(*flood)

    scorer = Nice()
    run(BatchLimits(num_threads=2), scenario, scorer)
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    assert [scorer.nice[frames] - usual for frames in (1, 2, 3, 5)] == [0, 0, 0, 10]
    assert one.nice[4] == usual


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives threads priorities of their own")
def test_the_only_call_of_a_client_yields_only_if_it_has_asked_for_more():
    async def scenario(batcher: Batcher, scorer: Nice) -> None:
        scorer.max_batch_size = 1
        await batcher.score(scorer, [matrix(1)], FAR, client="one")
        scorer.go.clear()
        flood = [ask(batcher, scorer, frames, "flood") for frames in (2, 3, 5)]
        await until(lambda: len(scorer.batches) == 2)
        beside = ask(batcher, scorer, 4, "one")
        await until(lambda: len(scorer.batches) == 3)
        scorer.go.set()
        await asyncio.gather(*flood, beside)

    scorer = Nice()
    run(BatchLimits(num_threads=1, join_s=0), scenario, scorer)
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    assert [scorer.nice[frames] - usual for frames in (2, 3, 4, 5)] == [0, 10, 0, 0]


def test_the_time_of_a_call_that_yields_is_not_expected_of_others(monkeypatch):
    async def scenario(batcher: Batcher, scorer: Recorder) -> None:
        await batcher.score(scorer, [matrix(5)], FAR)
        before = batcher.call_s
        monkeypatch.setattr(batcher, "_yields", lambda batch: True)
        scorer.go.clear()
        flood = ask(batcher, scorer, 5, "flood")
        await asyncio.sleep(0.1)
        scorer.go.set()
        await flood
        assert batcher.call_s == before

    run(BatchLimits(), scenario)


def test_where_priorities_are_forbidden_calls_are_computed_all_the_same(monkeypatch):
    def refuse(*arguments: int) -> None:
        raise PermissionError

    async def scenario(batcher: Batcher, scorer: Recorder) -> None:
        scorer.max_batch_size = 1
        await batcher.score(scorer, [matrix(1)], FAR, client="one")
        await asyncio.gather(*(ask(batcher, scorer, 2, "flood") for _ in range(9)))

    monkeypatch.setattr(calls.os, "setpriority", refuse)
    assert len(run(BatchLimits(num_threads=1), scenario).batches) == 10


def test_what_no_thread_is_left_for_is_refused_and_holds_nothing(monkeypatch):
    def no_thread(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def scenario(batcher: Batcher, scorer: Recorder) -> None:
        with monkeypatch.context() as short:
            short.setattr(calls.threading.Thread, "start", no_thread)
            with batcher.announce("d"):
                asked = [ask(batcher, scorer, 5, client) for client in "abc"]
                await asyncio.sleep(0.01)
                asked[2].cancel()  # its future is done, it is still in the queue
            answers = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 10)
        assert [answer.status for answer in answers if isinstance(answer, Refusal)] == [503, 503]
        await asyncio.wait_for(batcher.drain(), 10)
        await batcher.score(scorer, [matrix(6)], FAR)

    run(BatchLimits(join_s=1000), scenario)


def test_who_else_asked_lately(monkeypatch):
    now = 0.0
    monkeypatch.setattr(calls.time, "monotonic", lambda: now)
    lately = Lately()
    assert not lately.others("a")
    lately.note("a")
    assert not lately.others("a")
    assert lately.others("b")
    now = 0.5
    lately.note("b")
    lately.note("b")
    assert lately.others("a")
    assert lately.others("b")  # "a", half a second ago
    now = 1.2
    assert lately.others("a")
    assert not lately.others("b")
