"""The application under a local Ray: the answers of ONNX Runtime alone, refusals, the v2 protocol."""

import importlib.util
import io
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest

from asr_bn.features.filterbank import fbank
from asr_bn.features.options import FbankOptions
from asr_bn.scoring.scorer import AcousticScorer
from tests.helpers.serving import ROOT, chirp, npy, wav, write_model

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None or importlib.util.find_spec("aiohttp") is None,
    reason="needs Ray Serve: pip install 'asr-bn[ray]'",
)
HEADERS = {"content-type": "application/x-npy", "accept": "application/x-npy"}

# Ray has threads, signal handlers and warnings of its own: it gets a process of its own.
DRIVER = """
import sys
import ray
from ray import serve
from serve.ray_app import build

port, model = int(sys.argv[1]), sys.argv[2]
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
serve.start(http_options={"host": "127.0.0.1", "port": port})
serve.run(build({"model": model, "max_body_bytes": 1000000, "num_threads": 1, "audio_processes": 1}))
print("ready", flush=True)
sys.stdin.read()
serve.shutdown()
ray.shutdown()
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("ray") / "tiny.onnx")


@pytest.fixture(scope="module")
def url(model: Path) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    driver = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", DRIVER, str(port), str(model)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = driver.stdout.readline()
        assert line == "ready\n", line + driver.stderr.read()
        yield f"http://127.0.0.1:{port}"
        driver.communicate(timeout=60)
        assert driver.returncode == 0
    finally:
        driver.kill()
        driver.wait()


def test_answers_are_those_of_the_library(url, model):
    scorer = AcousticScorer.load(model, "cpu", 1)
    inputs = [
        np.random.default_rng(k).standard_normal((1 + 31 * k, 123)).astype(np.float32) for k in range(12)
    ]

    def ask(feats: np.ndarray) -> np.ndarray:
        answer = httpx.post(f"{url}/v1/posteriors", content=npy(feats), headers=HEADERS, timeout=60)
        assert answer.status_code == 200, answer.text
        return np.load(io.BytesIO(answer.content))

    with ThreadPoolExecutor(6) as pool:
        for feats, scores in zip(inputs, pool.map(ask, inputs), strict=True):
            assert np.array_equal(scores, scorer.log_posteriors([feats])[0])


def test_audio_goes_through_an_audio_process(url, model):
    scorer = AcousticScorer.load(model, "cpu", 1)
    static = fbank(chirp().astype(np.float32), FbankOptions())
    headers = {"accept": "application/x-npy"}
    answer = httpx.post(f"{url}/v1/posteriors", content=wav(chirp()), headers=headers, timeout=60)
    expected = scorer.log_posteriors([scorer.with_deltas(static)])[0]
    assert np.array_equal(np.load(io.BytesIO(answer.content)), expected)


def test_everything_else_is_there(url):
    for path in ("/", "/docs", "/healthz", "/readyz", "/v2/health/ready", "/v2/models/tiny", "/openapi.json"):
        assert httpx.get(url + path, timeout=60).status_code == 200, path
    assert "asr_bn_requests_total" in httpx.get(f"{url}/metrics").text
    refused = httpx.post(f"{url}/v1/posteriors", content=b"not audio")
    assert refused.status_code == 415
    assert refused.headers["content-type"] == "application/problem+json"
    assert httpx.post(f"{url}/v1/posteriors", content=b"x" * 1_000_001).status_code == 413
    assert (
        httpx.post(f"{url}/v2/models/tiny/infer", content=b"{").json()["error"].startswith("failed to parse")
    )
