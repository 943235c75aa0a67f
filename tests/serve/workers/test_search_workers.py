"""The processes that search: the oracle is the same search in this process."""

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from asr_bn.data.kaldi_system import require_system
from asr_bn.decoding.alignment.aligner import AlignOptions
from asr_bn.decoding.search_options import ScoreWeights
from asr_bn.features.options import FbankOptions
from asr_bn.scoring.metadata import ModelMetadata
from asr_bn.system.arrays import Floats
from serve.limits.refusal import Refusal
from serve.workers.search_workers import SearchLimits, SearchWorkers
from serve.workers.searcher import SearchFiles
from tests.helpers.kaldi_fixtures import SYNTHETIC
from tests.helpers.searching import graph_dir

pytest.importorskip("kaldifst", reason="makes a graph")
NUM_PDFS = 72
TEXT = ["bring", "my", "chair"]
RUNNER = asyncio.Runner()
"""The one event loop of ``pool``."""


@pytest.fixture(scope="module")
def metadata() -> ModelMetadata:
    counts = [10 * (pdf + 1) for pdf in range(NUM_PDFS)]
    return ModelMetadata(
        FbankOptions(), 2, NUM_PDFS, counts, {}, {}, {}, "", require_system(SYNTHETIC / "ali")
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> SearchFiles:
    folder = tmp_path_factory.mktemp("search")
    graph_dir(folder)
    return SearchFiles(folder / "dict", folder / "graph", ScoreWeights(3.0, -9.0), 1.0, 10**7)


@pytest.fixture(scope="module")
def pool(files: SearchFiles, metadata: ModelMetadata) -> Iterator[SearchWorkers]:
    pool = SearchWorkers(1, files, metadata, SearchLimits())
    pool.wait_until_ready()
    with RUNNER:
        yield pool
        pool.close()


def scores(num_frames: int, seed: int = 0) -> Floats:
    values = 3 * np.random.default_rng(seed).standard_normal((num_frames, NUM_PDFS)).astype(np.float32)
    return values - np.log(np.exp(values).sum(axis=1, keepdims=True))


@pytest.mark.parametrize("text", [TEXT, None], ids=["alignment", "transcript"])
def test_a_process_finds_what_is_found_here(pool, files, metadata, text):
    here = files.open(metadata)
    for seed in range(3):
        expected = here.search(text, scores(120, seed))
        assert json.loads(RUNNER.run(pool.search(text, scores(120, seed)))) == expected
        assert expected["words"] and expected["phones"]


def test_a_process_that_ends_is_replaced_by_one_that_searches_with_the_same(pool, files, tmp_path):
    before, expected = pool._processes[0].pid, RUNNER.run(pool.search(TEXT, scores(80)))
    hidden = files.lang.rename(tmp_path / "elsewhere")

    async def run() -> bytes:
        os.kill(before, signal.SIGSTOP)
        asking = asyncio.ensure_future(pool.search(TEXT, scores(80, seed=1)))
        await asyncio.sleep(0.1)
        os.kill(before, signal.SIGSEGV)
        os.kill(before, signal.SIGCONT)
        with pytest.raises(Refusal, match="the audio could not be searched within this server's limits"):
            await asking
        return await pool.search(TEXT, scores(80))

    try:
        assert RUNNER.run(run()) == expected
    finally:
        hidden.rename(files.lang)
    assert pool._processes[0].pid != before


def test_who_leaves_costs_no_process_and_disturbs_nobody(pool):
    before, expected = pool._processes[0].pid, RUNNER.run(pool.search(None, scores(60)))

    async def run() -> bytes:
        leaving = asyncio.ensure_future(pool.search(None, scores(500, seed=1)))
        await asyncio.sleep(0.02)
        leaving.cancel()
        return await pool.search(None, scores(60))

    assert RUNNER.run(run()) == expected
    assert pool._processes[0].pid == before


@pytest.mark.parametrize(
    ("text", "num_frames", "status", "said"),
    [
        (["zebra"], 50, 422, "'zebra': no pronunciation in this server's lexicon"),
        (TEXT, 5, 422, "its text takes "),
        (TEXT * 100, 2000, 413, "states of the text's phones, this server aligns up to 10000000"),
    ],
)
def test_what_cannot_be_searched_is_refused(pool, text, num_frames, status, said):
    with pytest.raises(Refusal) as refusal:
        RUNNER.run(pool.search(text, scores(num_frames)))
    assert (refusal.value.status, said in refusal.value.detail) == (status, True), refusal.value.detail
    assert json.loads(RUNNER.run(pool.search(TEXT, scores(50))))["words"]


def test_memory_beside_lexicon_and_graph_has_a_bound(files, metadata):
    pool = SearchWorkers(1, files, metadata, SearchLimits(memory_bytes=1 << 24))
    try:
        pool.wait_until_ready()

        async def run() -> bytes:
            for _ in range(2):
                with pytest.raises(Refusal) as refusal:
                    await pool.search(TEXT, scores(100_000))
                assert refusal.value.status == 413
            return await pool.search(TEXT, scores(50))

        assert json.loads(asyncio.run(run()))["words"]
    finally:
        pool.close()


def test_models_of_another_system_are_refused(pool, metadata):
    pool.check(metadata)
    pool.check(replace(metadata, versions={"of": "another run"}))
    others = [
        {"system": None},
        {"system": replace(metadata.system, phone_names={})},
        {"fbank": FbankOptions(frame_shift_ms=5.0)},
        {"pdf_counts": [1] * NUM_PDFS},
    ]
    for change in others:
        with pytest.raises(Refusal, match="another system"):
            pool.check(replace(metadata, **change))


def test_what_cannot_be_searched_with_is_told(files, metadata, tmp_path):
    with pytest.raises(ValueError, match="does not know its phones"):
        files.open(replace(metadata, system=None))
    for change in ({"lang": tmp_path / "no"}, {"graph": tmp_path / "no"}):
        with pytest.raises((OSError, ValueError), match="no"):
            replace(files, **change).open(metadata)
    other = replace(metadata, system=require_system(SYNTHETIC / "variants/mono"))
    with pytest.raises(ValueError, match="a graph of another"):
        replace(files, lang=None).open(other)


def test_a_graph_without_pronunciations_gives_words_without_times(files, metadata, tmp_path, capsys):
    for path in files.graph.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    found = replace(files, lang=None, graph=tmp_path).open(metadata).search(None, scores(120))
    assert "words have no times" in capsys.readouterr().err
    assert found["words"] and all(word["start"] is None for word in found["words"])
    assert all(phone["word"] is None for phone in found["phones"])


def test_silence_and_partial_paths_are_doubted(files, metadata):
    searcher = files.open(metadata)
    assert searcher.search(None, scores(8))["doubt"] is not None


@pytest.mark.parametrize("text", [TEXT, None], ids=["alignment", "transcript"])
def test_infinite_scores_are_refused(files, metadata, text):
    values = scores(80)
    values[40, 3] = -np.inf
    with pytest.raises(Refusal, match="scores are not finite") as refusal:
        files.open(metadata).search(text, values)
    assert refusal.value.status == 422


def test_clients_are_told_that_there_is_no_path_and_nothing_of_other_errors(files, metadata):
    searcher = files.open(metadata)
    narrow = replace(searcher.aligner, options=AlignOptions(1.0, 0.0, beam=0.01, retry_beam=0.02))
    with pytest.raises(Refusal) as refusal:
        replace(searcher, aligner=narrow).search(TEXT * 5, 100 * scores(500))
    assert (refusal.value.status, refusal.value.detail) == (422, "its text has no path within a beam of 0.02")
    with pytest.raises(ValueError, match="shape"):  # not a Refusal: it is logged, the answer is 500
        searcher.search(None, scores(80)[:, :5])
