"""A worker process itself stays in step: every question is answered, by its number, whatever fails."""

import io
from collections.abc import Iterator
from typing import Any

import pytest

from serve.workers import frames
from serve.workers.frames import GREETINGS, HEADER, Answer, frame, serve_frames


@pytest.mark.parametrize("error", [MemoryError, RecursionError, ValueError, KeyError])
@pytest.mark.parametrize("place", ["answer", "json.dumps"])
def test_the_process_stays_in_step_when_its_work_fails(monkeypatch, place, error):
    """Every question is answered by its number, the failed ones with an error."""
    questions = b"".join(whole(number, b"x" * number) for number in range(1, 6))
    original = frames.json.dumps
    calls = iter(range(100))

    def work(head: dict[str, Any], data: bytes) -> tuple[Answer, bytes]:
        if place == "answer" and next(calls) == 2:
            raise error
        return {"status": 200}, data

    def dumps(head: dict[str, Any]) -> str:
        if place == "json.dumps" and next(calls) == 2:
            raise error
        return original(head)

    monkeypatch.setattr(frames.json, "dumps", dumps)
    sink = io.BytesIO()
    serve_frames(io.BytesIO(questions), sink, work)
    answers = list(read_frames(sink.getvalue()))
    assert [number for number, _, _ in answers] == [1, 2, 3, 4, 5]
    failed = 413 if error is MemoryError else 500
    assert [b'"status": 200' in head for _, head, _ in answers] == [True, True, False, True, True]
    assert b'"status": %d' % failed in answers[2][1]
    assert [len(payload) for _, _, payload in answers] == [1, 2, 0, 4, 5]


def whole(number: int, payload: bytes) -> bytes:
    return b"".join(frame(number, {}, payload))


def echo(head: dict[str, Any], data: bytes) -> tuple[Answer, bytes]:
    return {"status": 200}, data


def read_frames(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    while data:
        number, head_size, payload_size = HEADER.unpack(data[: HEADER.size])
        end = HEADER.size + head_size
        yield number, data[HEADER.size : end], data[end : end + payload_size]
        data = data[end + payload_size :]


class LittleMemory(io.BytesIO):
    """Cannot read much at a time."""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size > 1 << 20:
            raise MemoryError
        return super().read(size)


def test_a_payload_that_does_not_fit_in_memory_is_skipped():
    sink = io.BytesIO()
    serve_frames(LittleMemory(whole(1, b"x" * 3_000_000) + whole(2, b"next")), sink, echo)
    (first, refused, _), (second, _, payload) = read_frames(sink.getvalue())
    assert (first, second, payload) == (1, 2, b"next")
    assert b'"status": 413' in refused


@pytest.mark.parametrize(("seconds", "times"), [(-1.0, 3), (60.0, 0)])
def test_what_answers_needed_is_given_back_now_and_then(monkeypatch, seconds, times):
    given_back: list[bool] = []
    monkeypatch.setattr(frames, "GIVE_BACK_S", seconds)
    monkeypatch.setattr(frames, "give_back_freed_memory", lambda: given_back.append(True))
    sink = io.BytesIO()
    serve_frames(io.BytesIO(b"".join(whole(number, b"") for number in range(3))), sink, echo)
    assert len(list(read_frames(sink.getvalue()))) == 3
    assert len(given_back) == times


def test_the_greetings_are_as_long_as_each_other():
    """So that either is read by one call."""
    assert len(set(map(len, GREETINGS))) == 1
