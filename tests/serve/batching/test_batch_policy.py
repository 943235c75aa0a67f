"""Which utterances share a call: bounds, likeness, age."""

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from serve.batching.batch_policy import BatchLimits, Ticket, choose_batch
from tests.helpers.recorder import Recorder, matrix


def ticket(num_frames: int, scorer: Any, client: str = "") -> Ticket:
    return Ticket(scorer, matrix(num_frames), None, 0.0, client=client)  # type: ignore[arg-type]


@given(
    lengths=st.lists(st.integers(1, 2000), min_size=1, max_size=30),
    size=st.integers(1, 8),
    frames=st.integers(1, 8000),
    padded=st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_a_batch_holds_the_oldest_and_keeps_its_bounds(lengths, size, frames, padded):
    scorer = Recorder()
    scorer.max_batch_size, scorer.is_padded = size, padded
    waiting = [ticket(length, scorer) for length in lengths]
    batch = choose_batch(waiting, BatchLimits(max_batch_frames=frames))
    assert waiting[0] in batch
    assert len(batch) <= size
    in_it = [one.num_frames for one in batch]
    assert len(batch) == 1 or (len(batch) * max(in_it) if padded else sum(in_it)) <= frames
    assert max(in_it) <= max(3 * min(in_it), 300)


def test_like_lengths_join_and_unlike_ones_do_not():
    scorer, other = Recorder(), Recorder()
    waiting = [ticket(n, scorer) for n in (100, 900, 101, 905, 99, 895)] + [ticket(100, other)]
    batch = choose_batch(waiting, BatchLimits())
    assert sorted(one.num_frames for one in batch) == [99, 100, 101]
    assert all(one.scorer is scorer for one in batch)


def test_without_padding_the_oldest_join_that_are_not_much_longer():
    scorer = Recorder()
    scorer.max_batch_size = 3
    waiting = [ticket(n, scorer) for n in (200, 620, 420, 120, 210)]
    assert [one.num_frames for one in choose_batch(waiting, BatchLimits())] == [200, 210]
    scorer.is_padded = False
    assert [one.num_frames for one in choose_batch(waiting, BatchLimits())] == [200, 210, 420]
    scorer.max_batch_size = 2
    assert [one.num_frames for one in choose_batch(waiting[:1] + waiting[3:], BatchLimits())] == [120, 200]


@given(
    waiting=st.lists(st.tuples(st.integers(1, 2000), st.sampled_from("abc")), min_size=1, max_size=30),
    padded=st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_company_is_of_clients_that_have_no_more_waiting(waiting, padded):
    scorer = Recorder()
    scorer.is_padded = padded
    tickets = [ticket(length, scorer, client) for length, client in waiting]
    num_waiting = Counter(client for _, client in waiting)
    batch = choose_batch(tickets, BatchLimits())
    assert tickets[0] in batch
    assert all(num_waiting[one.client] <= num_waiting[tickets[0].client] for one in batch)


def test_clients_with_as_much_waiting_share_a_call():
    scorer = Recorder()
    waiting = [ticket(100, scorer, client) for client in "abcdefgh"]
    assert len(choose_batch(waiting, BatchLimits())) == scorer.max_batch_size
