"""Which of the utterances that wait share a call: nobody is late, nobody waits for much longer ones."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from asr_bn.system.arrays import Floats

# Utterances of one call: the longest is at most so many times as long as the shortest, or so many frames.
_LIKE_LENGTHS, _LIKE_FRAMES = 3, 300


class Scorer(Protocol):
    """What computes: a `serve.service.models.ServedModel`, or a stand-in.

    Attributes:
        max_batch_size: utterances in a call at most.
        num_threads: what a call takes of `BatchLimits.num_threads`.
        is_padded: whether every utterance of a call costs what the longest costs.
    """

    max_batch_size: int
    num_threads: int
    is_padded: bool

    def log_posteriors(self, feats: Sequence[Floats]) -> list[Floats]:
        """Return ``[num_frames, num_pdfs]`` for each of ``feats``, ``[num_frames, feature_dim]``."""
        ...


@dataclass(frozen=True)
class BatchLimits:
    """What bounds a batch, and the calls side by side, which share ``num_threads``."""

    num_threads: int = 2
    max_batch_frames: int = 8000
    long_frames: int = 3000
    join_s: float = 0.003


@dataclass(frozen=True)
class Scored:
    """An utterance's ``log_posteriors`` ``[num_frames, num_pdfs]`` and where its time went."""

    log_posteriors: Floats
    queue_s: float
    inference_s: float
    batch_size: int


@dataclass(eq=False)
class Ticket:
    """An utterance that waits."""

    scorer: Scorer
    feats: Floats
    future: "asyncio.Future[Scored]"
    enqueued: float
    deadline: float = float("inf")
    client: str = ""
    timer: asyncio.TimerHandle | None = field(default=None)

    @property
    def num_frames(self) -> int:
        """Frames of the utterance."""
        return len(self.feats)

    @property
    def cost(self) -> float:
        """What it takes of its client's share (a `serve.limits.fairness.Waiting`)."""
        return len(self.feats)


def always(batch: list[Ticket]) -> bool:
    """Accept any batch."""
    return True


def choose_batch(
    waiting: Sequence[Ticket], limits: BatchLimits, in_time: Callable[[list[Ticket]], bool] = always
) -> list[Ticket]:
    """Choose the first of ``waiting``, in order of turns, and those batched with it, in order of length.

    Without padding, the next in turn join it; with padding, those of like length with which the call has most
    frames for its cost (`cost_of`).  None joins that is much longer, would not be ``in_time`` or would make
    another one late.  Nor does one of a client that has more waiting than the first one's client: who floods
    the server fills calls of its own.  Where nothing waits, the list is empty.
    """
    if not waiting:
        return []
    peers = _peers(waiting)

    def fits(batch: list[Ticket]) -> bool:
        return not _too_large(batch, limits) and in_time(batch)

    return _of_like_length(peers, fits) if peers[0].scorer.is_padded else _of_like_age(peers, fits)


def _peers(waiting: Sequence[Ticket]) -> list[Ticket]:
    """What may be in a call with the first of ``waiting``."""
    head = waiting[0]
    num_waiting = Counter(ticket.client for ticket in waiting)
    most = num_waiting[head.client]
    return [one for one in waiting if one.scorer is head.scorer and num_waiting[one.client] <= most]


def _of_like_age(peers: Sequence[Ticket], fits: Callable[[list[Ticket]], bool]) -> list[Ticket]:
    batch = [peers[0]]
    for ticket in peers[1:]:
        if len(batch) >= ticket.scorer.max_batch_size:
            break
        larger = sorted([*batch, ticket], key=_num_frames)
        if fits(larger):
            batch = larger
    return batch


def _of_like_length(peers: Sequence[Ticket], fits: Callable[[list[Ticket]], bool]) -> list[Ticket]:
    """The best run of neighbours in order of length around the oldest one."""
    head, most = peers[0], peers[0].scorer.max_batch_size
    ordered = sorted(peers, key=_num_frames)
    position = ordered.index(head)
    best, best_rate = [head], _rate([head])
    for first in range(max(0, position - most + 1), position + 1):
        for last in range(position, min(first + most, len(ordered))):
            batch = ordered[first : last + 1]
            if not fits(batch):
                break
            rate = _rate(batch)
            if rate > best_rate:
                best, best_rate = batch, rate
    return best


def _num_frames(ticket: Ticket) -> int:
    return ticket.num_frames


def _too_large(batch: Sequence[Ticket], limits: BatchLimits) -> bool:
    shortest, longest = batch[0].num_frames, batch[-1].num_frames
    unlike = longest > max(_LIKE_LENGTHS * shortest, _LIKE_FRAMES)
    return unlike or computed_frames(batch) > limits.max_batch_frames


def computed_frames(batch: Sequence[Ticket]) -> int:
    """Count the frames that a call computes, padding included, for a batch in order of length."""
    if batch[0].scorer.is_padded:
        return len(batch) * batch[-1].num_frames
    return sum(ticket.num_frames for ticket in batch)


def call_cost(longest: int, frames: int) -> float:
    """Return the relative time of a call, measured with ONNX Runtime's CPU LSTM (``bench/serve.py``).

    Each step has a part that does not grow with the batch (the weights are read once) and one that does.
    """
    return 0.5 * longest + frames


def cost_of(batch: Sequence[Ticket]) -> float:
    """Return the `call_cost` of a batch in order of length."""
    return call_cost(batch[-1].num_frames, computed_frames(batch))


def _rate(batch: Sequence[Ticket]) -> float:
    return sum(ticket.num_frames for ticket in batch) / cost_of(batch)


def is_long(batch: Sequence[Ticket], limits: BatchLimits) -> bool:
    """Say whether an utterance of the batch is longer than ``long_frames``."""
    return any(ticket.num_frames > limits.long_frames for ticket in batch)
