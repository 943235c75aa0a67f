"""Dynamic batching: answers never depend on company, and the rules of the queue hold."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asr_bn.scoring.packed import batch_scorer
from asr_bn.scoring.scorer import AcousticScorer
from asr_bn.system.arrays import Floats
from serve.batching.batch_policy import BatchLimits, call_cost
from serve.batching.batcher import Batcher, DeadlinePassed
from serve.service.models import ServedModel
from tests.helpers.recorder import FAR, Recorder, matrix, run, until
from tests.helpers.serving import write_model


@pytest.mark.parametrize("num_threads", [1, 2])
def test_answers_are_bit_identical_to_the_answer_alone(tmp_path: Path, num_threads):
    """A model as deep and wide as the paper's: 64 utterances of mixed length at once, in any company."""
    file = write_model(tmp_path / "model.onnx", num_pdfs=200, hidden=250, layers=2)
    scorer = AcousticScorer.load(file, "cpu", 2)
    model = ServedModel("m", "1", batch_scorer(scorer, num_threads), scorer.metadata, 8, num_threads)
    assert not model.is_padded
    rng = np.random.default_rng(0)
    feats = [rng.standard_normal((n, 123)).astype(np.float32) for n in rng.integers(1, 120, 64)]
    alone = [scorer.log_posteriors([one])[0] for one in feats]
    sizes: list[int] = []

    async def main() -> list[Any]:
        batcher = Batcher(BatchLimits(), lambda size, *_: sizes.append(size))
        answers = await asyncio.gather(*(batcher.score(model, [one], FAR) for one in feats))
        await batcher.close()
        return answers

    for (scored,), expected in zip(asyncio.run(main()), alone, strict=True):
        assert np.array_equal(scored.log_posteriors, expected)
    assert max(sizes) > 1
    assert sum(sizes) == 64


def test_a_lone_request_does_not_wait_but_an_announced_one_is_waited_for():
    async def scenario(batcher: Batcher, scorer: Recorder) -> None:
        await asyncio.wait_for(batcher.score(scorer, [matrix(5)], FAR), 60)
        with batcher.announce():
            first = asyncio.ensure_future(batcher.score(scorer, [matrix(6)], FAR))
            await asyncio.sleep(0.01)
            second = asyncio.ensure_future(batcher.score(scorer, [matrix(6)], FAR))
            await asyncio.sleep(0.01)
        await asyncio.gather(first, second)

    # Longer than any machine is busy with something else, and than the wait that the first request has.
    assert run(BatchLimits(join_s=120), scenario).batches == [[5], [6, 6]]


def test_what_passes_its_deadline_or_is_cancelled_is_never_computed():
    async def scenario(batcher: Batcher, scorer: Recorder) -> None:
        scorer.go.clear()
        running = asyncio.ensure_future(batcher.score(scorer, [matrix(1)], FAR))
        await until(lambda: scorer.batches)
        late = asyncio.ensure_future(batcher.score(scorer, [matrix(2)], time.monotonic() + 0.05))
        left = asyncio.ensure_future(batcher.score(scorer, [matrix(3)], FAR))
        with pytest.raises(DeadlinePassed):
            await late
        left.cancel()
        await asyncio.wait([left])
        assert batcher.num_waiting == 0
        scorer.go.set()
        (scored,) = await running
        assert np.array_equal(scored.log_posteriors, 2 * matrix(1))

    assert run(BatchLimits(num_threads=1), scenario).batches == [[1]]


def test_who_comes_next_is_served_next_however_many_another_client_has_queued():
    """The call that runs, then the newcomer's, in which there is nothing of the flood's."""

    async def scenario(batcher: Batcher, scorer: Recorder) -> None:
        scorer.go.clear()
        flood = [
            asyncio.ensure_future(batcher.score(scorer, [matrix(10)], FAR, client="a")) for _ in range(30)
        ]
        await until(lambda: scorer.batches)
        one = asyncio.ensure_future(batcher.score(scorer, [matrix(9)], FAR, client="b"))
        await asyncio.sleep(0)
        scorer.go.set()
        await asyncio.gather(one, *flood)

    for is_padded in (True, False):
        scorer = Recorder()
        scorer.is_padded = is_padded
        batches = run(BatchLimits(num_threads=1), scenario, scorer).batches
        assert batches[1] == [9]
        assert batches[2] == [10] * 8


def test_the_time_to_wait_is_that_of_the_client_s_own_turn():
    """Ten of another client's wait: before the first of mine comes one of them at most."""

    async def scenario(batcher: Batcher, scorer: Recorder) -> None:
        scorer.max_batch_size = 1
        expect(batcher, scorer, 1 / call_cost(1, 1))
        scorer.go.clear()
        asked = [
            asyncio.ensure_future(batcher.score(scorer, [matrix(10)], FAR, client="a")) for _ in range(11)
        ]
        await until(lambda: len(scorer.batches) == 1)
        assert batcher.wait_s("a") == pytest.approx(110, rel=0.1)
        assert batcher.wait_s("b") == pytest.approx(20, rel=0.1)
        with batcher.announce("b"):
            assert batcher.wait_s("b") == pytest.approx(40, rel=0.1)
        assert batcher.wait_s("b") == pytest.approx(20, rel=0.1)
        scorer.go.set()
        await asyncio.gather(*asked)

    run(BatchLimits(num_threads=1), scenario)


def expect(batcher: Batcher, scorer: Recorder, seconds_per_cost: float) -> None:
    """Let the batcher believe that calls have always taken so long."""
    for _ in range(60):  # until nothing is left of the first guess of the deviation
        batcher._times(scorer).observe(10 * call_cost(1, 1), 10 * call_cost(1, 1) * seconds_per_cost)
        batcher._work_per_utterance.observe(10 * seconds_per_cost * call_cost(1, 1))


def test_what_could_not_be_answered_before_its_deadline_is_not_begun():
    """Calls take a second a frame: of two requests with 6 seconds left that of 10 frames is dropped."""

    async def scenario(batcher: Batcher, scorer: Recorder) -> None:
        expect(batcher, scorer, 1 / call_cost(1, 1))
        scorer.go.clear()
        running = asyncio.ensure_future(batcher.score(scorer, [matrix(3)], FAR))
        await until(lambda: scorer.batches)
        with pytest.raises(DeadlinePassed):
            await batcher.score(scorer, [matrix(10)], time.monotonic() + 6)
        short = asyncio.ensure_future(batcher.score(scorer, [matrix(1)], time.monotonic() + 6))
        await asyncio.sleep(0)
        scorer.go.set()
        await asyncio.gather(short, running)

    assert run(BatchLimits(num_threads=1), scenario).batches == [[3], [1]]


def test_company_that_would_make_the_call_late_is_not_taken():
    """Ten frames take 13 seconds alone and 64 in company of five: there is time for some company, or none."""

    async def scenario(batcher: Batcher, scorer: Recorder) -> None:
        expect(batcher, scorer, 1.0)
        scorer.go.clear()
        running = asyncio.ensure_future(batcher.score(scorer, [matrix(2)], FAR))
        await until(lambda: scorer.batches)
        urgent = asyncio.ensure_future(batcher.score(scorer, [matrix(10)], time.monotonic() + 40))
        others = [asyncio.ensure_future(batcher.score(scorer, [matrix(10)], FAR)) for _ in range(5)]
        await asyncio.sleep(0)
        scorer.go.set()
        await asyncio.gather(running, urgent, *others)

    batches = run(BatchLimits(num_threads=1), scenario).batches
    assert batches[0] == [2]
    assert len(batches[1]) <= 3
    assert sum(map(len, batches)) == 7


def test_the_time_to_wait_is_that_of_what_is_before_over_the_calls():
    """Two calls side by side, one utterance of ten seconds each: four times ten for eight utterances."""

    async def scenario(batcher: Batcher, scorer: Recorder) -> None:
        scorer.max_batch_size = 1
        assert batcher.wait_s("") == 0
        expect(batcher, scorer, 1 / call_cost(1, 1))
        assert batcher.wait_s("") == 0
        scorer.go.clear()
        asked = [asyncio.ensure_future(batcher.score(scorer, [matrix(10)], FAR)) for _ in range(8)]
        await until(lambda: len(scorer.batches) == 2)
        assert batcher.num_waiting == 6
        assert batcher.wait_s("") == pytest.approx(40, rel=0.1)
        with batcher.announce():
            assert batcher.wait_s("") == pytest.approx(45, rel=0.1)
        scorer.go.set()
        await asyncio.gather(*asked)

    run(BatchLimits(num_threads=2), scenario)


@pytest.mark.parametrize("of_a_call", [1, 2])
def test_long_requests_leave_a_call_to_short_ones(of_a_call):
    async def scenario(batcher: Batcher, scorer: Recorder) -> None:
        scorer.num_threads = of_a_call
        scorer.go.clear()
        long = [asyncio.ensure_future(batcher.score(scorer, [matrix(n)], FAR)) for n in (101, 102, 103)]
        await until(lambda: scorer.batches)
        short = asyncio.ensure_future(batcher.score(scorer, [matrix(5)], FAR))
        await until(lambda: [5] in scorer.batches)
        assert scorer.batches == [[101], [5]]
        scorer.go.set()
        await asyncio.gather(*long, short)

    run(BatchLimits(num_threads=2, long_frames=100, max_batch_frames=1), scenario)


@pytest.mark.parametrize(("of_a_call", "running"), [(1, 4), (2, 2)])
def test_calls_share_the_threads_and_long_ones_leave_some(of_a_call, running):
    """Four threads for calls of one or two: long ones take all but a call's, short ones the rest."""

    async def scenario(batcher: Batcher, scorer: Recorder) -> None:
        scorer.num_threads, scorer.max_batch_size = of_a_call, 1
        scorer.go.clear()
        long = [asyncio.ensure_future(batcher.score(scorer, [matrix(101)], FAR)) for _ in range(5)]
        await until(lambda: len(scorer.batches) == running - 1)
        short = [asyncio.ensure_future(batcher.score(scorer, [matrix(5)], FAR)) for _ in range(3)]
        await until(lambda: len(scorer.batches) == running)
        await asyncio.sleep(0.05)
        assert scorer.batches == [[101]] * (running - 1) + [[5]]
        scorer.go.set()
        await asyncio.gather(*long, *short)

    run(BatchLimits(num_threads=4, long_frames=100), scenario)


def test_a_long_call_need_not_wait_until_no_short_one_runs():
    """Four threads, calls of two: beside one short call there is room for the long one, which is older."""

    async def scenario(batcher: Batcher, scorer: Recorder) -> None:
        scorer.num_threads, scorer.max_batch_size = 2, 1
        scorer.go.clear()
        asked = [asyncio.ensure_future(batcher.score(scorer, [matrix(n)], FAR)) for n in (5, 101, 6)]
        await until(lambda: len(scorer.batches) == 2)
        assert scorer.batches == [[5], [101]]
        scorer.go.set()
        await asyncio.gather(*asked)

    run(BatchLimits(num_threads=4, long_frames=100), scenario)


def test_calls_of_one_thread_do_not_overtake_one_that_waits_for_two():
    async def scenario(batcher: Batcher, wide: Recorder) -> None:
        narrow = Recorder()
        wide.num_threads, narrow.max_batch_size = 2, 1
        narrow.go.clear()
        asked = [
            asyncio.ensure_future(batcher.score(scorer, [matrix(n)], FAR))
            for scorer, n in ((narrow, 1), (wide, 2), (narrow, 3))
        ]
        await until(lambda: narrow.batches)
        await asyncio.sleep(0.05)
        assert (narrow.batches, wide.batches) == ([[1]], [])
        wide.go.clear()
        narrow.go.set()
        await until(lambda: wide.batches)
        assert narrow.batches == [[1]]
        wide.go.set()
        await asyncio.gather(*asked)

    run(BatchLimits(num_threads=2), scenario)


def test_an_error_reaches_every_request_of_its_batch_and_no_other():
    class Broken(Recorder):
        def log_posteriors(self, feats: Sequence[Floats]) -> list[Floats]:
            raise RuntimeError("broken")

    async def main() -> None:
        batcher, broken, sound = Batcher(BatchLimits()), Broken(), Recorder()
        answers = await asyncio.gather(
            batcher.score(broken, [matrix(1), matrix(2)], FAR),
            batcher.score(sound, [matrix(1)], FAR),
            return_exceptions=True,
        )
        assert isinstance(answers[0], RuntimeError)
        assert isinstance(answers[1], list)
        await asyncio.wait_for(batcher.close(), 10)

    asyncio.run(main())
