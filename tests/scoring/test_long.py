"""Recordings in pieces: against one call over all of it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from asr_bn.cli.main import app
from asr_bn.kaldi_io.matrix_table import MatrixWriter, read_matrices
from asr_bn.scoring.corpus import Limits, score_all, score_blocks
from asr_bn.scoring.long import LayerwiseScorer
from asr_bn.scoring.scorer import AcousticScorer
from tests.helpers.acoustic_models import write_kind
from tests.helpers.serving import write_model

PEEPHOLE = pytest.mark.parametrize("peephole", [False, True])


def features(scorer: AcousticScorer, num_frames: int) -> np.ndarray:
    size = scorer.metadata.num_features
    return 4 * np.random.default_rng(0).normal(size=(num_frames, size)).astype(np.float32)


@pytest.fixture
def short_pieces(monkeypatch):
    monkeypatch.setattr("asr_bn.scoring.long.PIECE_FRAMES", 50)


@pytest.fixture
def short_calls(monkeypatch, short_pieces):
    monkeypatch.setattr("asr_bn.scoring.long.LONG_FRAMES", 100)


@pytest.mark.parametrize("num_frames", [1, 49, 50, 51, 230])
@pytest.mark.parametrize("num_threads", [1, 2])
@PEEPHOLE
def test_pieces_give_the_rows_of_one_call_bit_for_bit(
    tmp_path, short_pieces, num_frames, num_threads, peephole
):
    scorer = write_kind(tmp_path / "model.onnx", peephole=peephole)
    feats = features(scorer, num_frames)
    layers = LayerwiseScorer(tmp_path / "model.onnx", num_threads)
    pieces = list(layers.log_posteriors(feats))
    assert layers.is_exact
    assert [len(piece) for piece in pieces] == [50] * (num_frames // 50) + [num_frames % 50] * (
        num_frames % 50 > 0
    )
    assert np.array_equal(np.concatenate(pieces), scorer.log_posteriors([feats])[0])


def test_a_network_as_wide_as_the_papers_too(tmp_path, short_pieces):
    """Products of 500 numbers are rounded otherwise when ONNX Runtime joins them with the bias."""
    scorer = AcousticScorer.load(write_model(tmp_path / "m.onnx", num_pdfs=300, hidden=250), "cpu", 1)
    feats = features(scorer, 120)
    rows = np.concatenate(list(LayerwiseScorer(tmp_path / "m.onnx").log_posteriors(feats)))
    assert np.array_equal(rows, scorer.log_posteriors([feats])[0])


@pytest.mark.parametrize(("kind", "tolerance"), [("int8", 0.1), ("float16", 5e-3)])
@PEEPHOLE
def test_other_kinds_are_near_one_call_and_the_deviation_is_what_numpy_says(
    tmp_path, short_pieces, kind, tolerance, peephole
):
    scorer = write_kind(tmp_path / "model.onnx", kind, peephole)
    feats = features(scorer, 180)
    (expected,) = scorer.log_posteriors([feats])
    layers = LayerwiseScorer(tmp_path / "model.onnx")
    rows = np.concatenate(list(layers.log_posteriors(feats)))
    difference = np.abs(rows - expected)
    assert 0 < difference.max() < tolerance
    assert not layers.is_exact
    deviation = layers.deviation(feats, expected)
    assert (deviation.largest, deviation.num_frames) == (difference.max(), 180)
    assert deviation.mean == pytest.approx(difference.mean(), rel=1e-4)
    assert deviation.share_of_frames == (rows.argmax(1) != expected.argmax(1)).mean()


def test_int8_in_one_piece_has_the_bits_of_one_call(tmp_path):
    """Scales are those of a piece: of a single one they are the call's, so that all else must be the same."""
    scorer = write_kind(tmp_path / "model.onnx", "int8")
    feats = features(scorer, 180)
    (rows,) = LayerwiseScorer(tmp_path / "model.onnx").log_posteriors(feats)
    assert np.array_equal(rows, scorer.log_posteriors([feats])[0])


def test_a_corpus_takes_that_path_for_its_long_utterances(tmp_path, short_calls):
    scorer = write_kind(tmp_path / "model.onnx")
    items = [(f"u{n}", features(scorer, n)) for n in (30, 230, 20, 180, 100)]
    answers = list(score_all(scorer, items, 2))
    for (utt_id, rows), (expected_id, feats) in zip(answers, items, strict=True):
        assert utt_id == expected_id
        assert np.array_equal(rows, scorer.log_posteriors([feats])[0])
    assert [scores.is_long for scores in score_blocks(scorer, items, 2)] == [False, True, False, True, False]


@pytest.mark.parametrize("wspecifier", ["ark,scp:{0}/post.ark,{0}/post.scp", "ark,t:{0}/post.ark"])
def test_the_archive_of_a_long_recording_is_that_of_one_call(tmp_path, monkeypatch, wspecifier):
    scorer = write_kind(tmp_path / "model.onnx")
    with MatrixWriter(f"ark:{tmp_path}/f.ark") as writer:
        for utt_id, num_frames in (("a", 30), ("b", 230), ("c", 7)):
            writer.write(utt_id, features(scorer, num_frames))
    arguments = [str(tmp_path / "model.onnx"), f"ark:{tmp_path}/f.ark", wspecifier.format(tmp_path)]
    arguments = ["posteriors", *arguments, "--output", "log_likelihood", "--device", "cpu"]
    archives = []
    for long_frames in (1000, 100):
        monkeypatch.setattr("asr_bn.scoring.long.LONG_FRAMES", long_frames)
        CliRunner().invoke(app, arguments, catch_exceptions=False)
        archives.append((tmp_path / "post.ark").read_bytes())
    assert archives[0] == archives[1]
    assert [len(rows) for _, rows in read_matrices(f"ark:{tmp_path}/post.ark")] == [30, 230, 7]


def test_a_long_recording_with_an_8_bit_model_tells_its_deviation(tmp_path, short_calls, capsys):
    scorer = write_kind(tmp_path / "model.onnx", "int8")
    items = [(utt_id, features(scorer, 230)) for utt_id in ("a", "b")]
    assert [len(rows) for _, rows in score_all(scorer, items, 1)] == [230, 230]
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "in pieces" in line]
    assert line.startswith(
        "a: 230 frames are scored in pieces; at its beginning that moves log posteriors by"
    )
    assert line.endswith("of 100 frames")


def test_compressing_a_long_recording_is_refused(tmp_path, short_calls):
    scorer = write_kind(tmp_path / "model.onnx")
    with MatrixWriter(f"ark:{tmp_path}/f.ark") as writer:
        writer.write("u", features(scorer, 230))
    arguments = [str(tmp_path / "model.onnx"), f"ark:{tmp_path}/f.ark", f"ark:{tmp_path}/out/p.ark"]
    with pytest.raises(ValueError, match="u: 230 frames are written block by block.*leave out --compress"):
        CliRunner().invoke(app, ["posteriors", *arguments, "--compress"], catch_exceptions=False)
    assert list((tmp_path / "out").iterdir()) == []


def test_limits_shrink_with_the_number_of_pdfs():
    """Scores of 4 bytes: no more than 128 MB of a call that keeps several copies of them."""
    assert Limits.of(100).long_frames == 30_000
    assert Limits.of(3546).long_frames * 3546 * 4 <= 128e6
    assert Limits.of(3546).batch_frames * 3546 * 4 <= 64e6


def test_a_file_without_layers_is_refused(tmp_path):
    scorer = write_kind(tmp_path / "model.onnx")
    import onnx

    proto = onnx.load(scorer.path)
    del proto.graph.initializer[:]
    onnx.save(proto, tmp_path / "empty.onnx")
    with pytest.raises(ValueError, match=r"empty\.onnx: no layers in it"):
        LayerwiseScorer(tmp_path / "empty.onnx")


def test_no_room_for_the_hidden_states_is_told(tmp_path, short_pieces):
    """A limit on the size of files, as a full disk."""
    scorer = write_kind(tmp_path / "model.onnx")
    np.save(tmp_path / "feats.npy", features(scorer, 2000))
    code = (
        "import sys, resource, numpy; from pathlib import Path\n"
        "from asr_bn.scoring.long import LayerwiseScorer\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))\n"
        "try: list(LayerwiseScorer(Path(sys.argv[1])).log_posteriors(numpy.load(sys.argv[2])))\n"
        "except OSError as error: sys.exit(0 if error.filename and error.strerror else 2)\n"
        "sys.exit(3)\n"
    )
    arguments = [sys.executable, "-c", code, str(scorer.path), str(tmp_path / "feats.npy")]
    subprocess.run(arguments, check=True, cwd=Path(__file__).parents[2])
