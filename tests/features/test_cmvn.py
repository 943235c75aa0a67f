"""CMVN against ``compute-cmvn-stats`` and ``apply-cmvn`` of the real Kaldi."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest

from asr_bn.features.cmvn import GLOBAL, Cmvn, apply_cmvn, compute_stats, read_stats, write_stats
from asr_bn.kaldi_io.data_dir import read_spk2utt
from asr_bn.kaldi_io.matrix import encode_matrix
from asr_bn.kaldi_io.matrix_table import read_matrices
from asr_bn.kaldi_io.rxfilename import PipePolicy
from tests.helpers.kaldi_fixtures import FSDD, SYNTHETIC, needs_fsdd

FEATS = SYNTHETIC / "oracles/feats"


def _assert_stats(ours: dict, theirs: dict) -> None:
    assert set(ours) == set(theirs)
    for key, stats in theirs.items():
        # The features are text of 6 to 7 digits.
        np.testing.assert_allclose(ours[key], stats, rtol=1e-6, atol=1e-3)


def test_statistics_by_speaker() -> None:
    ours = compute_stats(read_matrices(FEATS / "fbank41.txt.gz"), read_spk2utt(FEATS / "spk2utt"))
    _assert_stats(ours, read_stats(FEATS / "cmvn.spk.scp", root=SYNTHETIC))


@needs_fsdd
@pytest.mark.parametrize("part", ["train", "dev"])
def test_statistics_of_real_speech(part: str) -> None:
    feats = dict(read_matrices(FSDD / f"oracles/fbank8k/{part}.fbank.txt.gz"))
    speakers = read_spk2utt(FSDD / f"data/{part}_first20/spk2utt")
    by_speaker = read_stats(FSDD / f"oracles/cmvn/{part}.cmvn_stats.spk.scp", root=FSDD)
    _assert_stats(compute_stats(feats.items(), speakers), by_speaker)
    _assert_stats(compute_stats(feats.items()), read_stats(FSDD / f"oracles/cmvn/{part}.cmvn_stats.utt.txt"))


@pytest.mark.parametrize("norm_vars", [False, True])
def test_apply(norm_vars: bool) -> None:
    feats, stats = dict(read_matrices(FEATS / "fbank41.txt.gz")), read_stats(FEATS / "cmvn.spk.ark")
    speakers = read_spk2utt(FEATS / "spk2utt")
    name = f"fbank41_cmvn.norm_vars_{str(norm_vars).lower()}.txt.gz"
    for utt_id, theirs in read_matrices(FEATS / name):
        ours = apply_cmvn(feats[utt_id], stats[speakers[utt_id]], norm_vars)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)


def test_statistics_round_trip_through_kaldi_native_io(tmp_path: Path) -> None:
    kaldi_native_io = pytest.importorskip("kaldi_native_io")
    stats = read_stats(FEATS / "cmvn.spk.ark")
    write_stats(f"ark,scp:{tmp_path}/cmvn.ark,{tmp_path}/cmvn.scp", stats)
    assert (tmp_path / "cmvn.ark").read_bytes() == (FEATS / "cmvn.spk.ark").read_bytes()
    with kaldi_native_io.SequentialDoubleMatrixReader(f"scp:{tmp_path}/cmvn.scp") as reader:
        for key, value in reader:
            np.testing.assert_array_equal(np.array(value), stats[key])


def test_sources_of_statistics(tmp_path: Path) -> None:
    feats = {"u1": np.array([[1.0, 2.0], [3.0, 6.0]]), "u2": np.array([[5.0, 1.0]])}
    everything = compute_stats(feats.items(), dict.fromkeys(feats, "global"))
    np.testing.assert_allclose(everything["global"], [[9, 9, 3], [35, 41, 0]])  # by hand
    write_stats(f"{tmp_path}/table.ark", everything)
    (tmp_path / "matrix").write_bytes(encode_matrix(everything["global"]))
    for source in (f"{tmp_path}/table.ark", f"{tmp_path}/matrix"):
        ours = Cmvn.load(source, {}, norm_vars=True).apply("u2", feats["u2"])
        np.testing.assert_allclose(ours, [[2 / np.sqrt(35 / 3 - 9), -2 / np.sqrt(41 / 3 - 9)]], rtol=1e-6)
    write_stats(f"{tmp_path}/spk.ark", compute_stats(feats.items(), {"u1": "s", "u2": "t"}))
    cmvn = Cmvn.load(f"ark:{tmp_path}/spk.ark", {"u1": "s"}, norm_vars=False)
    np.testing.assert_allclose(cmvn.apply("u1", feats["u1"]), [[-1, -2], [1, 2]])
    with pytest.raises(ValueError, match="^u3: no CMVN statistics"):
        cmvn.apply("u3", feats["u1"])


def test_speakers_of_spk2utt_only_and_what_is_missing_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    feats = {utt_id: np.full((2, 1), value) for utt_id, value in (("u", 1.0), ("v", 2.0), ("w", 3.0))}
    (tmp_path / "spk2utt").write_text("s u gone w\nempty also-gone\n")
    stats = compute_stats(feats.items(), read_spk2utt(tmp_path / "spk2utt"))
    assert {key: value.tolist() for key, value in stats.items()} == {"s": [[8, 4], [20, 0]]}  # by hand
    assert read_spk2utt(Path(f"ark:{tmp_path}/spk2utt")) == read_spk2utt(tmp_path / "spk2utt")
    assert capsys.readouterr().err == "2 utterances have no features: gone, also-gone\n"
    assert compute_stats(feats.items(), {"x": "s"}) == {}


def test_speakers_come_in_the_order_of_spk2utt_and_an_utterance_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    feats = [("u1", np.ones((2, 1))), ("u2", np.ones((3, 1)))]
    stats = compute_stats(iter(feats), {"u2": "a", "u1": "z"})
    assert list(stats) == ["a", "z"]  # as compute-cmvn-stats, so that cmvn.scp is as sorted as spk2utt
    for utt2spk in (None, {"u1": "s"}):
        with pytest.raises(ValueError, match="^u1: twice among the features"):
            compute_stats(iter([*feats, feats[0]]), utt2spk)
    whole = compute_stats(iter([*feats, feats[0]]), {"u1": GLOBAL, "u2": GLOBAL})
    assert whole[GLOBAL].tolist() == [[7, 7], [7, 0]]  # by hand: Kaldi's loop over a sequential reader
    assert capsys.readouterr().err == "note: u1: twice among the features, and so in the statistics\n"
    command = Path(f"ark:echo s u1 > {tmp_path}/ran |")
    with pytest.raises(ValueError, match="pipes are refused"):
        read_spk2utt(command, PipePolicy(allowed=False))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_statistics_that_are_not_finite_are_said_where_they_arise_and_refused_where_they_are_read(
    tmp_path: Path, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stats = compute_stats([("u", np.array([[1.0, float(value)]])), ("v", np.ones((1, 2)))])
    np.testing.assert_array_equal(stats["u"], [[1, float(value), 1], [1, float(value) ** 2, 0]])
    assert np.isfinite(stats["v"]).all()
    assert capsys.readouterr().err == "note: u: not finite, and so the statistics of u\n"
    for text in (f"{value} 2 1\n 1 4 0", f"1 2 {value}\n 1 4 0"):
        (tmp_path / "stats").write_text(f"[ {text} ]\n")
        with pytest.raises(ValueError, match="stats: CMVN statistics that are not finite"):
            Cmvn.load(f"{tmp_path}/stats", {}, norm_vars=False)


def test_whatever_apply_cmvn_takes_for_statistics(tmp_path: Path) -> None:
    """Colons in names, a place in an archive, text with and without a blank, a pipe, means only."""
    matrix = np.array([[1.0, 2.0, 2.0], [3.0, 4.0, 0.0]])
    folder = tmp_path / "2024-01-01T12:00"
    folder.mkdir()
    (folder / "cmvn").write_bytes(encode_matrix(matrix))
    (tmp_path / "c:4").write_bytes(encode_matrix(matrix))
    (tmp_path / "t.ark").write_bytes(b"key " + encode_matrix(matrix))
    (tmp_path / "text").write_text("[\n 1 2 2\n 3 4 0 ]\n")
    (tmp_path / "means").write_text("  [\n 1 2 2 ]\n")
    (tmp_path / "key.txt").write_text("global [\n 1 2 2\n 3 4 0 ]\n")
    (tmp_path / "one.txt").write_text("v  [\n 1 2 2 ]\n")
    names = [
        f"{folder}/cmvn",
        f"{tmp_path}/c:4",
        f"{tmp_path}/t.ark:4",
        f"{tmp_path}/text",
        f"{tmp_path}/means",
    ]
    names += [f"{tmp_path}/key.txt", f"ark:{tmp_path}/one.txt", f"cat {folder}/cmvn |"]
    for name in names:
        ours = Cmvn.load(name, {}, norm_vars=False).apply("v", np.array([[1.0, 1.0]]))
        np.testing.assert_array_equal(ours, [[0.5, 0.0]], err_msg=name)
    os.mkfifo(tmp_path / "fifo")
    writer = threading.Thread(target=lambda: (tmp_path / "fifo").write_bytes(encode_matrix(matrix)))
    writer.start()
    (stats,) = Cmvn.load(f"{tmp_path}/fifo", {}, norm_vars=False).stats.values()
    writer.join()
    np.testing.assert_array_equal(stats, matrix)
    with pytest.raises(ValueError, match="^v: CMVN statistics of means only cannot normalize the variance"):
        Cmvn.load(f"{tmp_path}/means", {}, norm_vars=True).apply("v", np.array([[1.0, 1.0]]))


def test_statistics_in_text_are_float64(tmp_path: Path) -> None:
    """16777217 is no float32; Kaldi reads a Matrix<double>."""
    (tmp_path / "c").write_text("[ 16777217 1\n 1e300 0 ]\n")
    (tmp_path / "t").write_text("s [ 16777217 1\n 1e300 0 ]\n")
    (stats,) = Cmvn.load(f"{tmp_path}/c", {}, norm_vars=False).stats.values()
    for found in (stats, read_stats(f"ark:{tmp_path}/t")["s"]):
        np.testing.assert_array_equal(found, [[16777217.0, 1.0], [1e300, 0.0]])


def test_pipes_in_a_script_of_statistics_are_refused_where_pipes_are(tmp_path: Path) -> None:
    (tmp_path / "cmvn.scp").write_text("s cat cmvn |\n")
    for name in (f"{tmp_path}/cmvn.scp", f"scp:{tmp_path}/cmvn.scp", "cat cmvn |"):
        with pytest.raises(ValueError, match="pipes are refused"):
            Cmvn.load(name, {}, norm_vars=False, pipes=PipePolicy(allowed=False))


def test_names_in_a_script_of_statistics_start_from_the_root(tmp_path: Path) -> None:
    cmvn = Cmvn.load(str(FEATS / "cmvn.spk.scp"), {}, norm_vars=False, root=SYNTHETIC)
    assert set(cmvn.stats) == {"A", "B"}
