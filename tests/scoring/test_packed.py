"""Packed batches: against calls of the whole exported model, alone and padded, bit for bit."""

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_bn.scoring.packed import PackedScorer, Packing, batch_scorer
from asr_bn.scoring.scorer import AcousticScorer
from tests.helpers.acoustic_models import write_kind
from tests.helpers.serving import write_model


def features(lengths: list[int], size: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=(length, size)).astype(np.float32) for length in lengths]


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> AcousticScorer:
    """As wide as the paper's network, so that ONNX Runtime takes the same kernels."""
    path = write_model(tmp_path_factory.mktemp("m") / "m.onnx", num_pdfs=300, hidden=250, layers=2)
    return AcousticScorer.load(path, "cpu", num_threads=1)


@pytest.mark.parametrize("num_threads", [1, 2])
def test_every_answer_is_that_of_the_utterance_alone(wide, num_threads):
    packed = batch_scorer(wide, num_threads)
    assert isinstance(packed, PackedScorer)

    @given(lengths=st.lists(st.integers(1, 90), min_size=1, max_size=12))
    @settings(deadline=None, max_examples=15)
    def check(lengths: list[int]) -> None:
        feats = features(lengths, wide.metadata.num_features)
        for answer, padded, one in zip(
            packed.log_posteriors(feats), wide.log_posteriors(feats), feats, strict=True
        ):
            assert np.array_equal(answer, wide.log_posteriors([one])[0])
            assert np.array_equal(answer, padded)

    check()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives threads priorities of their own")
def test_both_threads_of_a_call_have_the_priority_of_its_caller(wide, monkeypatch):
    """Whoever called before: what one caller's thread lacks, another's call must not."""
    packed, usual = batch_scorer(wide, 2), os.getpriority(os.PRIO_PROCESS, 0)
    assert isinstance(packed, PackedScorer)
    seen: set[int] = set()

    def note(*arguments: object) -> np.ndarray:
        seen.add(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) - usual)
        return PackedScorer._backward(packed, *arguments)

    def ask(less: int) -> set[int]:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), usual + less)
        seen.clear()
        packed.log_posteriors(features([5], wide.metadata.num_features))
        return set(seen)

    monkeypatch.setattr(packed, "_backward", note)
    with ThreadPoolExecutor(1) as nice, ThreadPoolExecutor(1) as other:
        assert nice.submit(ask, 3).result() == {3}
        assert other.submit(ask, 0).result() == {0}
        assert nice.submit(ask, 3).result() == {3}


@pytest.mark.parametrize("peephole", [False, True])
def test_peepholes_too(tmp_path: Path, peephole):
    scorer = write_kind(tmp_path / "model.onnx", peephole=peephole)
    feats = features([7, 31, 31, 2, 1, 18], scorer.metadata.num_features)
    packed = batch_scorer(scorer)
    assert isinstance(packed, PackedScorer)
    for answer, one in zip(packed.log_posteriors(feats), feats, strict=True):
        assert np.array_equal(answer, scorer.log_posteriors([one])[0])


@pytest.mark.parametrize("kind", ["int8", "float16"])
def test_models_whose_layers_alone_differ_are_not_packed(tmp_path: Path, kind):
    scorer = write_kind(tmp_path / "model.onnx", kind)
    assert batch_scorer(scorer) is scorer


def alter(path: Path, what: str) -> None:
    proto = onnx.load(path)
    if what == "renamed weights":
        proto = onnx.load_from_string(proto.SerializeToString().replace(b"output.weight", b"output.height"))
    else:
        last = next(node for node in proto.graph.node if node.op_type == "LogSoftmax")
        last.op_type = "Softmax"
    onnx.save(proto, path)


@pytest.mark.parametrize("what", ["renamed weights", "another softmax"])
def test_an_altered_graph_is_padded_and_that_is_told(tmp_path: Path, caplog, what):
    path = write_model(tmp_path / "altered.onnx")
    alter(path, what)
    scorer = AcousticScorer.load(path, "cpu")
    assert batch_scorer(scorer) is scorer
    (record,) = caplog.records
    assert "altered.onnx" in record.getMessage()
    assert record.getMessage().endswith("batches are padded")


@given(lengths=st.lists(st.integers(1, 20), min_size=1, max_size=8))
def test_packing_holds_every_frame_once_and_gives_it_back(lengths):
    lengths = sorted(lengths, reverse=True)
    packing = Packing.of(lengths)
    utterances = [np.array([[row, frame] for frame in range(n)], np.float32) for row, n in enumerate(lengths)]
    packed = packing.pack(utterances)
    assert len({tuple(row) for row in packed}) == len(packed) == sum(lengths)
    for row, utterance in enumerate(utterances):
        assert np.array_equal(packing.utterance(packed, row), utterance)
