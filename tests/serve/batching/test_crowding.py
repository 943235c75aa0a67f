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
