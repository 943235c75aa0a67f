"""Writing an answer takes of its request's time: what is kept for it, and what comes too late."""

import asyncio
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from serve.app import create_app
from serve.service.service import Timing
from serve.settings import load_settings
from tests.helpers.serving import npy, write_model

HEADERS = {"content-type": "application/x-npy"}


@pytest.fixture
def client(tmp_path) -> Iterator[Any]:
    settings = load_settings(model=write_model(tmp_path / "tiny.onnx"), access_log=False, audio_processes=1)
    with TestClient(create_app(settings)) as client:
        yield client


def kept_s(service: Any, form: str, num_frames: int, monkeypatch: pytest.MonkeyPatch) -> float:
    """Seconds of 100 that a request's scores have to be there before its deadline."""
    asked: list[float] = []

    async def score(model: Any, feats: Any, latest: float, *others: Any) -> list[Any]:
        asked.append(latest)
        return []

    monkeypatch.setattr(service.batcher, "score", score)
    deadline = time.monotonic() + 100
    feats = [np.zeros((num_frames, 123), np.float32)]
    asyncio.run(service.score(service.models.get(), feats, deadline, Timing("a"), form=form))
    return deadline - asked[0]


def test_the_time_kept_for_writing_is_that_of_so_many_values_in_that_form(client, monkeypatch):
    """Once it was one for all: where one client asked for large answers, others were refused."""
    service = client.app.state.service
    num_pdfs = service.models.get().metadata.num_pdfs
    deadline = time.monotonic() + 100
    for _ in range(3):
        work = service.write(Timing("a"), deadline, "slow", 10_000 * num_pdfs, partial(time.sleep, 0.5))
        asyncio.run(work)
    assert 1.0 <= kept_s(service, "slow", 10_000, monkeypatch) < 5.0
    assert 0.0 < kept_s(service, "slow", 10, monkeypatch) < 0.005
    assert kept_s(service, "other", 10_000, monkeypatch) == 0.0
    assert kept_s(service, "", 10_000, monkeypatch) == 0.0
    assert kept_s(service, "slow", 10_000_000, monkeypatch) == pytest.approx(50, abs=1)  # half at most


def test_no_request_is_refused_for_the_answers_of_others(client):
    service = client.app.state.service
    asyncio.run(service.write(Timing("a"), time.monotonic() + 100, "slow", 1, partial(time.sleep, 0.5)))
    service.batcher._waiting.append(None)  # somebody waits, so that the expected time is looked at
    service.batcher._num_before = lambda client: 0
    try:
        service.check_admission("other", time.monotonic() + 0.3)
    finally:
        service.batcher._waiting.clear()


@pytest.mark.parametrize(
    ("module", "path", "status"),
    [("v1", "/v1/posteriors?top_k=1", 504), ("open_inference", "/v2/models/tiny/infer", 503)],
)
def test_an_answer_that_is_not_written_in_time_is_refused(client, monkeypatch, module, path, status):
    monkeypatch.setattr(f"serve.protocols.{module}._encode", lambda *given: time.sleep(3))
    if module == "v1":
        headers = HEADERS | {"x-timeout-ms": "1000"}
        answer = client.post(path, content=npy(np.zeros((5, 123), np.float32)), headers=headers)
    else:
        features = {"name": "features", "datatype": "FP32", "shape": [1, 1, 123], "data": [0.0] * 123}
        lengths = {"name": "lengths", "datatype": "INT32", "shape": [1], "data": [1]}
        call = {"inputs": [features, lengths], "parameters": {"timeout": 1_000_000}}
        answer = client.post(path, json=call)
    assert answer.status_code == status
    assert "deadline passed before its answer was written" in answer.text


def test_only_what_takes_longer_than_a_thread_is_written_in_one(client):
    service, here = client.app.state.service, threading.get_ident()

    def written_here(form: str, num_values: int, pause_s: float) -> bool:
        def write() -> int:
            time.sleep(pause_s)
            return threading.get_ident()

        deadline = time.monotonic() + 100
        return asyncio.run(service.write(Timing("a"), deadline, form, num_values, write)) == here

    assert not written_here("quick", 100, 0.0)  # nothing is known of it
    assert written_here("quick", 100, 0.0)
    assert not written_here("quick", 100_000_000, 0.0)
    assert [written_here("slow", 100, 0.01) for _ in range(2)] == [False, False]
