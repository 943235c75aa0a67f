"""The processes that decode audio, apart from the server."""

import asyncio
import json
import os
import signal
import time
from collections.abc import Iterator

import numpy as np
import pytest

from asr_bn.features.filterbank import fbank
from asr_bn.features.options import FbankOptions
from serve.formats.tensors import TensorSpec, read_request
from serve.limits.refusal import Refusal
from serve.workers.audio_workers import AudioLimits, AudioWorkers
from tests.helpers.serving import wav


@pytest.fixture
def in_a_folder_with_a_module_of_a_librarys_name(tmp_path, monkeypatch):
    (tmp_path / "soxr.py").write_text("raise ImportError('not the library')\n")
    monkeypatch.chdir(tmp_path)


def test_modules_of_the_current_folder_are_not_imported(in_a_folder_with_a_module_of_a_librarys_name):
    """The features are those of our own filter bank, computed here."""
    samples = noise(8000)
    pool = AudioWorkers(1, AudioLimits())
    try:
        pool.wait_until_ready()
        actual = asyncio.run(pool.features(wav(samples), FbankOptions(), 0)).feats
    finally:
        pool.close()
    assert np.array_equal(actual, fbank(samples, FbankOptions()))


RUNNER = asyncio.Runner()
"""The one event loop of ``pool``."""


@pytest.fixture(scope="module")
def pool() -> Iterator[AudioWorkers]:
    pool = AudioWorkers(1, AudioLimits())
    pool.wait_until_ready()
    with RUNNER:
        yield pool
        pool.close()


def noise(num_samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-2000, 2000, num_samples).astype(np.int16)


def process_of(pool: AudioWorkers) -> int:
    pid = pool._processes[0].pid
    assert pid is not None
    return pid


def test_a_request_that_is_given_up_costs_no_process_and_disturbs_nobody(pool):
    """The process finishes what nobody waits for; the next answer is the next request's own."""
    long, samples = wav(noise(1_600_000)), noise(8000, seed=1)
    before = process_of(pool)

    async def run() -> np.ndarray:
        given_up = asyncio.ensure_future(pool.features(long, FbankOptions(), 0))
        waiting = asyncio.ensure_future(pool.features(long, FbankOptions(), 0))
        await asyncio.sleep(0.02)
        given_up.cancel()
        waiting.cancel()
        return (await pool.features(wav(samples), FbankOptions(), 0)).feats

    assert np.array_equal(RUNNER.run(run()), fbank(samples, FbankOptions()))
    assert process_of(pool) == before


@pytest.mark.parametrize(("ended_by", "status"), [(signal.SIGSEGV, 413), (signal.SIGKILL, 503)])
def test_a_body_that_ends_the_process_is_told_so_and_the_process_replaced(pool, ended_by, status):
    """A crash, as a hole in a decoder makes it, or another's doing; who asks again at once is answered."""
    samples = noise(8000)
    before = process_of(pool)

    async def run() -> np.ndarray:
        os.kill(before, signal.SIGSTOP)
        asking = asyncio.ensure_future(pool.features(wav(samples), FbankOptions(), 0))
        await asyncio.sleep(0.1)
        os.kill(before, ended_by)
        os.kill(before, signal.SIGCONT)
        with pytest.raises(Refusal) as refusal:
            await asking
        assert refusal.value.status == status
        return (await pool.features(wav(samples), FbankOptions(), 0)).feats

    assert np.array_equal(RUNNER.run(run()), fbank(samples, FbankOptions()))
    assert process_of(pool) != before


def test_a_process_that_takes_too_long_is_replaced(monkeypatch):
    monkeypatch.setattr("serve.workers.worker_process.cpu_seconds", lambda process: time.monotonic())
    runner, pool = asyncio.Runner(), AudioWorkers(1, AudioLimits(timeout_s=0.2))
    pool.wait_until_ready()
    before = process_of(pool)
    try:
        for _ in range(2):
            runner.run(pool._processes[0].revive())
            os.kill(process_of(pool), signal.SIGSTOP)  # however fast it is, it cannot answer
            with pytest.raises(Refusal, match="more than 0.2 s"):
                runner.run(pool.features(wav(noise(8000)), FbankOptions(), 0))
        assert pool._processes[0].pid != before
    finally:
        pool.close()
        runner.close()


SPECS = [TensorSpec("features", "FP32", (-1, -1, 3)), TensorSpec("lengths", "INT32", (-1,))]


def infer_body(data: object) -> bytes:
    features = {"name": "features", "datatype": "FP32", "shape": [1, 2, 3], "data": data}
    lengths = {"name": "lengths", "datatype": "INT32", "shape": [1], "data": [2]}
    outputs = [{"name": "log_posteriors", "parameters": {"binary_data": True}}]
    call = {"id": "a", "inputs": [features, lengths], "outputs": outputs, "parameters": {"timeout": 5}}
    return json.dumps(call).encode()


def test_tensors_read_in_a_process_are_those_read_here(pool):
    body = infer_body([0.5, -1, 2.25, 3, 4, 1e-3])
    theirs, ours = RUNNER.run(pool.tensors(body, None, SPECS)), read_request(body, None, SPECS)
    assert (theirs.id, theirs.parameters, theirs.outputs) == (ours.id, ours.parameters, ours.outputs)
    assert theirs.inputs.keys() == ours.inputs.keys()
    for name, values in ours.inputs.items():
        assert theirs.inputs[name].dtype == values.dtype
        np.testing.assert_array_equal(theirs.inputs[name], values)


@pytest.mark.parametrize(
    "body", [infer_body([1, 2]), infer_body("x"), b"{", b"\xff" * 9, infer_body([[1], [2, 3]])]
)
def test_tensors_are_refused_with_the_same_words(pool, body):
    with pytest.raises(Refusal) as here:
        read_request(body, None, SPECS)
    with pytest.raises(Refusal) as there:
        RUNNER.run(pool.tensors(body, None, SPECS))
    assert (there.value.status, there.value.detail) == (here.value.status, here.value.detail)
