"""Recordings in pieces: against one call over all of it."""

import numpy as np
import pytest

from asr_bn.long_recordings import LayerwiseScorer
from asr_bn.posteriors import AcousticScorer
from asr_bn.scoring import score_all
from tests.serving import write_model
from tests.test_onnx_export import export_onnx, make_metadata, make_model


@pytest.mark.parametrize("num_frames", [1, 49, 50, 51, 230])
@pytest.mark.parametrize("peephole", [False, True])
def test_pieces_give_the_rows_of_one_call_bit_for_bit(tmp_path, monkeypatch, num_frames, peephole):
    monkeypatch.setattr("asr_bn.long_recordings.PIECE_FRAMES", 50)
    path = tmp_path / "model.onnx"
    options = {"norm": "sequence", "peephole": peephole}
    export_onnx(make_model(**options), make_metadata(**options), path)
    scorer = AcousticScorer.load(path, "cpu", num_threads=1)
    size = scorer.metadata.num_features
    feats = 4 * np.random.default_rng(0).normal(size=(num_frames, size)).astype(np.float32)
    pieces = list(LayerwiseScorer(path).log_posteriors(feats))
    assert [len(piece) for piece in pieces] == [50] * (num_frames // 50) + [num_frames % 50] * (
        num_frames % 50 > 0
    )
    assert np.array_equal(np.concatenate(pieces), scorer.log_posteriors([feats])[0])


def test_a_corpus_takes_that_path_for_its_long_utterances(tmp_path, monkeypatch):
    scorer = AcousticScorer.load(write_model(tmp_path / "model.onnx"), "cpu", num_threads=1)
    random = np.random.default_rng(0)
    items = [(f"u{n}", random.normal(size=(n, 123)).astype(np.float32)) for n in (30, 300, 20)]
    expected = [scorer.log_posteriors([feats])[0] for _, feats in items]
    taken = []

    class Layerwise:
        def __init__(self, path):
            taken.append(path)

        def log_posteriors(self, feats):
            yield from np.array_split(scorer.log_posteriors([feats])[0], 7)

    monkeypatch.setattr("asr_bn.scoring.LONG_FRAMES", 100)
    monkeypatch.setattr("asr_bn.long_recordings.LayerwiseScorer", Layerwise)
    answers = list(score_all(scorer, items, 1))
    assert taken == [tmp_path / "model.onnx"]
    assert all(np.array_equal(rows, rows2) for (_, rows), rows2 in zip(answers, expected, strict=True))


def test_a_model_without_float32_layers_is_refused(tmp_path):
    with pytest.raises(ValueError, match="need a float32 model"):
        LayerwiseScorer(write_model(tmp_path / "model.onnx"))
