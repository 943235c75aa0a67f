"""``/v1``: the oracle is ONNX Runtime called directly on features computed by the library."""

import io
from collections.abc import Iterator
from pathlib import Path

import kaldiio
import numpy as np
import onnxruntime
import pytest
from fastapi.testclient import TestClient

from asr_bn.features.deltas import add_deltas
from asr_bn.features.filterbank import fbank
from asr_bn.features.options import FbankOptions
from asr_bn.system.arrays import Floats
from serve.app import create_app
from serve.batching.batcher import Batcher
from serve.formats import answers
from serve.protocols import request_flow as requests
from serve.settings import load_settings
from tests.helpers.serving import NUM_PDFS, chirp, npy, wav, write_model

URL = "/v1/posteriors"
NPY = {"content-type": "application/x-npy"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture(scope="module")
def client(model: Path) -> Iterator[TestClient]:
    settings = load_settings(model=model, max_body_bytes=2_000_000, max_audio_seconds=20.0, access_log=False)
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="module")
def feats() -> Floats:
    return np.random.default_rng(1).standard_normal((37, 123)).astype(np.float32)


@pytest.fixture(scope="module")
def expected(model: Path, feats: Floats) -> Floats:
    return alone(model, feats)


def alone(model: Path, feats: Floats) -> Floats:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    inputs = {"features": feats[None], "lengths": np.array([len(feats)], np.int32)}
    return np.asarray(session.run(None, inputs)[0])[0]


def test_npy_in_npy_out_is_bit_identical(client, feats, expected):
    answer = client.post(URL, content=npy(feats), headers=NPY | {"accept": "application/x-npy"})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-npy"
    assert np.array_equal(np.load(io.BytesIO(answer.content)), expected)


def test_json_is_the_default_and_names_everything(client, feats, expected):
    answer = client.post(URL, content=npy(feats), headers=NPY, params={"utt_id": "u1"}).json()
    assert np.array_equal(np.array(answer.pop("values"), np.float32), expected)
    assert answer == {
        "utt_id": "u1",
        "model": "tiny",
        "version": "1",
        "output": "log_posterior",
        "num_frames": 37,
        "num_pdfs": NUM_PDFS,
        "frame_shift_ms": 10.0,
    }


def test_kaldi_archive_is_read_by_kaldiio(client, feats, expected):
    headers = NPY | {"accept": "application/x-kaldi-ark"}
    answer = client.post(URL, content=npy(feats), headers=headers, params={"utt_id": "u1"})
    ((utt_id, matrix),) = kaldiio.load_ark(io.BytesIO(answer.content))
    assert utt_id == "u1"
    assert np.array_equal(matrix, expected)


def test_outputs_are_exponentials_and_less_the_log_priors(client, feats, expected):
    counts = 10.0 * (np.arange(NUM_PDFS) + 1) + 0.5  # as Kaldi's analyze-counts
    accept = NPY | {"accept": "application/x-npy"}

    def ask(output: str) -> Floats:
        answer = client.post(URL, content=npy(feats), headers=accept, params={"output": output})
        return np.asarray(np.load(io.BytesIO(answer.content)))

    np.testing.assert_allclose(ask("posterior"), np.exp(expected), rtol=1e-6)
    np.testing.assert_allclose(
        ask("log_likelihood"), expected - np.log(counts / counts.sum()), rtol=1e-5, atol=1e-6
    )


def test_top_k_agrees_with_sorting(client, feats, expected):
    answer = client.post(URL, content=npy(feats), headers=NPY, params={"top_k": 3}).json()
    order = np.argsort(-expected, axis=1, kind="stable")[:, :3]
    assert answer["pdf_ids"] == order.tolist()
    assert np.array_equal(np.array(answer["values"], np.float32), np.take_along_axis(expected, order, 1))
    records = client.post(
        URL, content=npy(feats), headers=NPY | {"accept": "application/x-npy"}, params={"top_k": 3}
    )
    assert np.array_equal(np.load(io.BytesIO(records.content))["pdf_id"], order)


def test_static_features_get_their_deltas(client, model, feats):
    static = np.ascontiguousarray(feats[:, :41])
    answer = client.post(URL, content=npy(static), headers=NPY | {"accept": "application/x-npy"})
    assert np.array_equal(np.load(io.BytesIO(answer.content)), alone(model, add_deltas(static, 2)))


@pytest.mark.parametrize("form", [False, True])
def test_audio_equals_the_library_on_the_same_samples(client, model, form):
    samples = chirp()
    static = fbank(samples.astype(np.float32), FbankOptions())
    accept = {"accept": "application/x-kaldi-ark"}
    if form:
        files = {"file": ("../../etc/a chirp.wav", wav(samples), "audio/wav")}
        answer = client.post(URL, files=files, headers=accept)
    else:
        answer = client.post(URL, content=wav(samples), headers=accept)
    assert answer.status_code == 200, answer.text
    ((utt_id, matrix),) = kaldiio.load_ark(io.BytesIO(answer.content))
    assert utt_id == ("a_chirp" if form else "utterance")
    np.testing.assert_allclose(matrix, alone(model, add_deltas(static, 2)), atol=1e-5)


def test_features_are_the_static_ones(client):
    answer = client.post("/v1/features", content=wav(chirp()))
    static = fbank(chirp().astype(np.float32), FbankOptions())
    np.testing.assert_allclose(np.load(io.BytesIO(answer.content)), static, atol=1e-5)


def header_lies() -> bytes:
    return npy(np.zeros((2, 123), np.float32)).replace(b"(2, 123)", b"(9, 123)")


def pickled() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array([object()]), allow_pickle=True)
    return stream.getvalue()


NAN = np.full((3, 123), np.nan, np.float32)


@pytest.mark.parametrize(
    ("content", "headers", "params", "status", "says"),
    [
        (b"", {}, {}, 400, "empty"),
        (b"hello", {}, {}, 415, "not in an audio format"),
        (b"#EXTM3U\nhttp://localhost/x.wav\n", {}, {}, 415, "not in an audio format"),
        (b"RIFF\x10\0\0\0WAVEgarbage", {}, {}, 422, ""),
        (wav(chirp(0.01)), {}, {}, 422, "too few for one frame"),
        (wav(chirp(21.0)), {}, {}, 413, "20 s"),
        (b"x" * 2_000_001, {}, {}, 413, "2000000 bytes"),
        (b"not npy", NPY, {}, 400, "npy"),
        (header_lies(), NPY, {}, 400, "promises shape [9, 123]"),
        (pickled(), NPY, {}, 422, "matrix of floats"),
        (npy(np.zeros((3, 40), np.float32)), NPY, {}, 422, "[num_frames, 41] or [num_frames, 123]"),
        (npy(np.zeros((0, 123), np.float32)), NPY, {}, 422, "no frames"),
        (npy(NAN), NPY, {}, 422, "not finite"),
        (npy(np.zeros((2001, 123), np.float32)), NPY, {}, 413, "2001 frames"),
        (b"x", {"accept": "image/png"}, {}, 406, "image/png"),
        (b"x", {}, {"output": "words"}, 422, "output"),
        (b"x", {}, {"top_k": "0"}, 422, "top_k"),
        (b"x", {}, {"utt_id": "a b"}, 422, "utt_id"),
        (b"x", {}, {"model": "other"}, 404, "other"),
        (b"x", {"content-encoding": "br"}, {}, 415, "br"),
        (b"x", {"content-encoding": "gzip"}, {}, 400, "gzip"),
        (b"x", {"content-type": "multipart/form-data"}, {}, 400, "boundary"),
        (b"x", {"content-type": "multipart/form-data; boundary=b"}, {}, 400, "multipart"),
        (b"x", {"x-timeout-ms": "0"}, {}, 422, "x-timeout-ms"),
    ],
)
def test_bad_requests_get_a_problem(client, content, headers, params, status, says):
    answer = client.post(URL, content=content, headers=headers, params=params)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert says in problem["detail"]


def test_unknown_paths_and_methods_get_a_problem(client):
    for answer, status in ((client.get("/v1/nothing"), 404), (client.get(URL), 405)):
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"


def test_a_gzip_bomb_is_refused_and_a_gzip_body_read(client, feats, expected):
    import gzip

    headers = NPY | {"content-encoding": "gzip", "accept": "application/x-npy"}
    bomb = client.post(URL, content=gzip.compress(b"\0" * 50_000_000), headers=headers)
    assert bomb.status_code == 413
    answer = client.post(URL, content=gzip.compress(npy(feats)), headers=headers)
    assert np.array_equal(np.load(io.BytesIO(answer.content)), expected)


def test_a_large_json_answer_comes_in_pieces(client, model, monkeypatch):
    monkeypatch.setattr(answers, "_PIECE_BYTES", 50_000)
    long = np.random.default_rng(2).standard_normal((2000, 123)).astype(np.float32)
    answer = client.post(URL, content=npy(long), headers=NPY, params={"output": "log_likelihood"})
    assert "content-length" not in answer.headers
    counts = 10.0 * (np.arange(NUM_PDFS) + 1) + 0.5
    expected = alone(model, long) - np.log(counts / counts.sum())
    np.testing.assert_allclose(answer.json()["values"], expected, rtol=1e-5, atol=1e-5)


def test_what_would_wait_past_its_deadline_is_refused_before_its_body_is_read(client, feats, monkeypatch):
    """Others wait, for 7 seconds: who allows less is refused, who allows more is answered."""
    monkeypatch.setattr(Batcher, "wait_s", lambda batcher, client: 6.5)
    monkeypatch.setattr(Batcher, "num_waiting", 3)

    def never_read() -> Iterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    in_time = client.post(URL, content=npy(feats), headers=NPY | {"x-timeout-ms": "20000"})
    assert in_time.status_code == 200
    late = client.post(URL, content=npy(feats), headers=NPY | {"x-timeout-ms": "6000"})
    assert late.status_code == 429
    assert late.headers["retry-after"] == "7"
    monkeypatch.setattr(requests, "read_body", never_read)
    assert client.post(URL, content=b"x", headers={"x-timeout-ms": "6000"}).status_code == 429
    monkeypatch.undo()
    monkeypatch.setattr(
        Batcher, "wait_s", lambda batcher, client: 6.5
    )  # of a call that runs: it may be out of date
    assert client.post(URL, content=npy(feats), headers=NPY | {"x-timeout-ms": "6000"}).status_code == 200


def test_browsers_of_other_sites_may_call_only_where_the_settings_say(client, model, feats, monkeypatch):
    asks = {"origin": "https://x.example", "access-control-request-method": "POST"}
    closed = client.options(URL, headers=asks)
    assert closed.status_code == 405
    assert not [name for name in closed.headers if name.startswith("access-control")]
    monkeypatch.setenv("ASR_BN_CORS_ORIGINS", '["https://x.example"]')
    settings = load_settings(model=model, access_log=False, audio_processes=1)
    with TestClient(create_app(settings)) as opened:
        allowed = opened.options(URL, headers=asks)
        assert allowed.status_code == 200
        assert allowed.headers["access-control-allow-origin"] == "https://x.example"
        answer = opened.post(URL, content=npy(feats), headers=NPY | {"origin": "https://x.example"})
        assert answer.headers["access-control-allow-origin"] == "https://x.example"
        assert "x-request-id" in answer.headers["access-control-expose-headers"]
        other = opened.options(URL, headers=asks | {"origin": "https://y.example"})
        assert other.status_code == 400
        assert "access-control-allow-origin" not in other.headers


def test_probes_metrics_and_request_ids(client):
    assert client.get("/healthz").json() == {"status": "alive"}
    assert client.get("/readyz").json() == {"status": "ready"}
    assert client.get("/readyz", headers={"x-request-id": "abc-1"}).headers["x-request-id"] == "abc-1"
    assert client.get("/readyz", headers={"x-request-id": "a b"}).headers["x-request-id"] != "a b"
    text = client.get("/metrics").text
    assert 'asr_bn_requests_total{path="/v1/posteriors",status="200"}' in text
    for stage in ("receive", "decode", "features", "queue", "inference", "serialize"):
        assert f'asr_bn_stage_seconds_count{{stage="{stage}"}}' in text
