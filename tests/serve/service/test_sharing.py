"""Clients of a running server beside each other: what one of them does keeps no other out."""

import asyncio
import gzip
import io
import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient

from asr_bn.scoring.scorer import AcousticScorer
from serve.app import create_app
from serve.formats import bodies
from serve.formats.bodies import inflate
from serve.service import delivery
from serve.service.delivery import Delivery
from serve.service.service import Service
from serve.settings import load_settings
from tests.helpers.serving import npy, running_server, write_model

HEADERS = {"content-type": "application/x-npy", "accept": "application/x-npy"}
ONE, OTHER = "127.0.0.1", "127.0.0.2"


def feats(num_frames: int) -> np.ndarray:
    return np.random.default_rng(num_frames).standard_normal((num_frames, 123)).astype(np.float32)


def request(body: bytes) -> bytes:
    lines = [f"{name}: {value}" for name, value in HEADERS.items()]
    head = "\r\n".join(["POST /v1/posteriors HTTP/1.1", "host: x", *lines, f"content-length: {len(body)}"])
    return head.encode() + b"\r\n\r\n" + body


def connect(url: str, source: str = ONE, receive_buffer: int = 0) -> socket.socket:
    connection = socket.socket()
    connection.settimeout(20)
    if receive_buffer:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.bind((source, 0))
    connection.connect(("127.0.0.1", int(url.rsplit(":", 1)[1])))
    return connection


def ask(url: str, body: bytes, source: str = ONE) -> httpx.Response:
    with httpx.Client(transport=httpx.HTTPTransport(local_address=source), timeout=30) as client:
        return client.post(f"{url}/v1/posteriors", content=body, headers=HEADERS)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("sharing") / "wide.onnx", num_pdfs=3000)


def test_a_flood_from_one_client_leaves_places_for_another_and_its_answers_are_right(model):
    expected = AcousticScorer.load(model, "cpu", 1).log_posteriors([feats(50)])[0]
    with running_server(model, ASR_BN_MAX_QUEUE="8", ASR_BN_NUM_THREADS="1") as (url, _):

        async def flood(statuses: list[int]) -> None:
            transport = httpx.AsyncHTTPTransport(local_address=OTHER)
            async with httpx.AsyncClient(transport=transport, timeout=60) as client:
                while not done.is_set():
                    answer = await client.post(
                        f"{url}/v1/posteriors?top_k=1", content=npy(feats(300)), headers=HEADERS
                    )
                    statuses.append(answer.status_code)

        async def scenario() -> list[int]:
            statuses: list[int] = []
            floods = [asyncio.ensure_future(flood(statuses)) for _ in range(24)]
            await asyncio.sleep(0.5)
            for _ in range(15):
                answer = await asyncio.to_thread(ask, url, npy(feats(50)))
                assert answer.status_code == 200, answer.text
                assert np.array_equal(np.load(io.BytesIO(answer.content)), expected)
            done.set()
            await asyncio.gather(*floods)
            return statuses

        done = asyncio.Event()
        assert set(asyncio.run(scenario())) == {200, 429}


@pytest.mark.parametrize("source", [ONE, OTHER])
def test_who_does_not_read_its_answer_keeps_nobody_out(model, source):
    """Four answers of 24 MB are taken by nobody: what they hold goes to who needs it, the same client too."""
    body, small = npy(feats(2000)), npy(feats(10))
    with running_server(model, ASR_BN_MAX_HELD_FRAMES="8000") as (url, _), ExitStack() as stack:
        slow = [stack.enter_context(connect(url, OTHER, 4096)) for _ in range(4)]
        for connection in slow:
            connection.sendall(request(body))
        until = time.monotonic() + 20
        while (answer := ask(url, small, source)).status_code == 429:
            assert int(answer.headers["retry-after"]) >= 1
            assert time.monotonic() < until
            time.sleep(0.2)
        assert answer.status_code == 200
        time.sleep(2)
        assert [ask(url, small, source).status_code for _ in range(3)] == [200] * 3
        assert ask(url, body, ONE).status_code == 200


def test_uploads_that_do_not_end_leave_room_for_another_client(model):
    with running_server(model, ASR_BN_MAX_UPLOADS="8") as (url, _), ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(connect(url, OTHER)).sendall(request(npy(feats(10)))[:-1])
        time.sleep(0.3)
        refused = ask(url, npy(feats(10)), OTHER)
        assert refused.status_code == 429
        assert ask(url, npy(feats(10)), ONE).status_code == 200


@pytest.mark.parametrize("length", [b"content-length: 1000000", b"transfer-encoding: chunked"])
def test_bodies_in_memory_are_shared_out(model, length):
    """Of four million bytes one client has three, and a body may have one; who knows of one in chunks?"""
    limits = {"ASR_BN_MAX_BODY_BYTES": "1000000", "ASR_BN_MAX_HELD_BYTES": "4000000"}
    head = b"POST /v1/posteriors HTTP/1.1\r\nhost: x\r\n%s\r\n\r\n" % length
    with running_server(model, **limits) as (url, _), ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(connect(url, OTHER)).sendall(head)
        time.sleep(0.3)
        assert ask(url, npy(feats(10)), OTHER).status_code == 429
        assert ask(url, npy(feats(1000)), ONE).status_code == 200


def test_compressed_bodies_are_inflated_in_turns(model, monkeypatch):
    """Of ten of one client and one of another that comes last, the other's is among the first."""
    begun: list[int] = []

    def inflate_slowly(body: bytes, encoding: str, max_bytes: int) -> bytes:
        begun.append(len(body))
        time.sleep(0.05)
        return inflate(body, encoding, max_bytes)

    monkeypatch.setattr(bodies, "inflate", inflate_slowly)
    service = Service(load_settings(model=model, access_log=False, audio_processes=1))
    service.load()
    app = create_app(service.settings, service)
    large, small = (gzip.compress(npy(feats(frames))) for frames in (20, 10))

    async def send(source: str, body: bytes) -> int:
        transport = httpx.ASGITransport(app, client=(source, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://x", timeout=60) as client:
            headers = HEADERS | {"content-encoding": "gzip"}
            return (await client.post("/v1/posteriors", content=body, headers=headers)).status_code

    async def scenario() -> list[int]:
        many = [asyncio.ensure_future(send(OTHER, large)) for _ in range(10)]
        while not begun:
            await asyncio.sleep(0.01)
        statuses = [await send(ONE, small), *await asyncio.gather(*many)]
        await service.close()
        return statuses

    assert asyncio.run(scenario()) == [200] * 11
    assert begun.index(len(small)) <= 2


class Transport(asyncio.WriteTransport):
    """A connection of which so much is still to be taken."""

    def __init__(self) -> None:
        super().__init__()
        self.to_take = 0
        self.aborted = False

    def get_write_buffer_size(self) -> int:
        return self.to_take

    def abort(self) -> None:
        self.aborted = True


def test_a_delivery_is_slow_while_its_client_takes_less_than_it_could(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(delivery, "_PERIOD_S", 0.01)
    monkeypatch.setattr(delivery, "_PATIENCE_S", 0.2)

    async def scenario() -> None:
        transport, given_up = Transport(), []
        watched = Delivery("a", transport, 1000.0, lambda: given_up.append(True))
        transport.to_take, watched.sent = 5000, 10_000
        await asyncio.sleep(0.03)
        assert watched.is_slow
        for _ in range(5):  # takes 10,000 bytes a second and more
            watched.sent += 500
            await asyncio.sleep(0.011)
        assert not watched.is_slow
        transport.to_take, watched.sent = 0, 20_000  # there is nothing that it could take
        await asyncio.sleep(0.3)
        assert not watched.is_slow and not given_up
        transport.to_take, watched.sent = 5000, 30_000
        await asyncio.sleep(0.5)
        assert transport.aborted and given_up == [True]
        ended = Delivery("a", Transport(), 1000.0, lambda: given_up.append(True))
        ended.end()
        await asyncio.sleep(0.3)
        assert given_up == [True]

    asyncio.run(scenario())


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[Any]:
    """Makes clients by address of a server with settings."""
    model = write_model(tmp_path / "tiny.onnx")
    with ExitStack() as stack:

        def make(**settings: Any) -> Any:
            app = create_app(load_settings(model=model, access_log=False, audio_processes=1, **settings))
            stack.enter_context(TestClient(app))
            return lambda address: TestClient(app, client=(address, 1))

        yield make


def test_requests_a_second_are_limited_for_each_client_and_retry_after_is_true(limited):
    clients = limited(client_requests_per_s=0.5)
    answers = [
        clients(address).post("/v1/posteriors", content=npy(feats(5)), headers=HEADERS)
        for address in (ONE, ONE, OTHER, OTHER)
    ]
    assert [answer.status_code for answer in answers] == [200, 429, 200, 429]
    assert answers[1].headers["retry-after"] == "2"
    assert "requests" in answers[1].json()["detail"]
    assert clients(ONE).get("/healthz").status_code == 200
    time.sleep(2)
    assert clients(ONE).post("/v1/posteriors", content=npy(feats(5)), headers=HEADERS).status_code == 200


def test_audio_a_minute_is_limited_for_each_key(limited, tmp_path):
    (tmp_path / "keys").write_text("first\nsecond\n")
    clients = limited(client_audio_s_per_min=5.0, api_keys_file=tmp_path / "keys")

    def post(key: str) -> httpx.Response:
        headers = HEADERS | {"x-api-key": key}
        return clients(ONE).post("/v1/posteriors", content=npy(feats(400)), headers=headers)

    assert [post("first").status_code for _ in range(2)] == [200, 200]  # 8 seconds, 3 too many
    refused = post("first")
    assert refused.status_code == 429
    assert 35 <= int(refused.headers["retry-after"]) <= 36  # 12 seconds for each
    assert post("second").status_code == 200


def test_requests_at_a_time_are_limited_for_each_client(model):
    limits = {"ASR_BN_CLIENT_REQUESTS": "2"}
    with running_server(model, **limits) as (url, _), ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(connect(url, OTHER)).sendall(request(npy(feats(10)))[:-1])
        time.sleep(0.3)
        assert ask(url, npy(feats(10)), OTHER).status_code == 429
        assert ask(url, npy(feats(10)), ONE).status_code == 200


@pytest.mark.parametrize(
    ("settings", "utterances", "frames", "says"),
    [
        ({"max_queue": 4}, 4, 1, "4 utterances, this server takes up to 3 at a time"),
        ({"client_requests": 2}, 3, 1, "3 utterances, this server takes up to 2 at a time"),
        ({"max_held_frames": 100}, 1, 80, "80 frames, this server takes up to 75"),
        ({"max_audio_seconds": 0.5}, 3, 20, "60 frames, this server takes up to 50"),
    ],
)
def test_what_can_never_fit_is_refused_as_too_large(limited, settings, utterances, frames, says):
    client = limited(**settings)(ONE)
    features = {"name": "features", "datatype": "FP32", "shape": [utterances, frames, 123]}
    lengths = {"name": "lengths", "datatype": "INT32", "shape": [utterances], "data": [frames] * utterances}
    call = {"inputs": [features | {"data": [0.5] * (utterances * frames * 123)}, lengths]}
    answer = client.post("/v2/models/tiny/infer", content=json.dumps(call))
    assert answer.status_code == 413
    assert answer.json() == {"error": says}
    assert "retry-after" not in answer.headers


def test_a_batch_takes_a_place_for_each_utterance_and_gives_them_back(limited):
    client = limited(max_queue=4)(ONE)
    features = {"name": "features", "datatype": "FP32", "shape": [3, 1, 123], "data": [0.5] * 369}
    lengths = {"name": "lengths", "datatype": "INT32", "shape": [3], "data": [1, 1, 1]}
    for _ in range(5):
        answer = client.post("/v2/models/tiny/infer", content=json.dumps({"inputs": [features, lengths]}))
        assert answer.status_code == 200
    assert "asr_bn_requests_accepted 0.0" in client.get("/metrics").text
