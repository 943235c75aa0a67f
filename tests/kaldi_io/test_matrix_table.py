"""Tables of matrices against kaldi-native-io, Kaldi's own archives, and round trips."""

from pathlib import Path

import numpy as np
import pytest

from asr_bn.kaldi_io.matrix_table import MatrixScp, MatrixWriter, read_matrices
from tests.helpers.kaldi_fixtures import FSDD, SYNTHETIC, needs_fsdd

MATRICES = {
    "a": np.arange(12, dtype=np.float32).reshape(4, 3) / 7,
    "b-empty": np.zeros((0, 0), dtype=np.float32),
    "c-ü": np.array([[np.inf, -1.5e-30], [3e38, 0.1]], dtype=np.float32),
}


@pytest.mark.parametrize(
    "wspecifier", ["ark:{}/a.ark", "ark,t:{}/a.ark", "ark,scp:{0}/a.ark,{0}/a.scp", "{}/a.ark"]
)
def test_round_trip(tmp_path: Path, wspecifier: str) -> None:
    with MatrixWriter(wspecifier.format(tmp_path)) as writer:
        for utt_id, matrix in MATRICES.items():
            writer.write(utt_id, matrix)
    sources = sorted(tmp_path.iterdir())
    for source in sources:
        read = dict(read_matrices(source))
        assert list(read) == list(MATRICES)
        for utt_id, matrix in MATRICES.items():
            np.testing.assert_array_equal(read[utt_id], matrix)
    assert len(sources) == 1 + wspecifier.startswith("ark,scp")


def test_kaldi_native_io_reads_what_we_wrote(tmp_path: Path) -> None:
    kaldi_native_io = pytest.importorskip("kaldi_native_io")
    with MatrixWriter(f"ark,scp:{tmp_path}/a.ark,{tmp_path}/a.scp") as writer:
        for utt_id, matrix in MATRICES.items():
            writer.write(utt_id, matrix)
    with kaldi_native_io.SequentialFloatMatrixReader(f"scp:{tmp_path}/a.scp") as reader:
        read = {key: np.array(value) for key, value in reader}
    assert list(read) == list(MATRICES)
    for utt_id, matrix in MATRICES.items():
        np.testing.assert_array_equal(read[utt_id].reshape(matrix.shape), matrix)


def test_we_read_what_kaldi_native_io_wrote(tmp_path: Path) -> None:
    kaldi_native_io = pytest.importorskip("kaldi_native_io")
    double = np.array([[1.0, 1e-300], [np.pi, -2.0]])
    with kaldi_native_io.DoubleMatrixWriter(f"ark:{tmp_path}/d.ark") as writer:
        writer.write("d", double)
    ((utt_id, matrix),) = read_matrices(f"ark:{tmp_path}/d.ark")
    assert (utt_id, matrix.dtype) == ("d", np.float64)
    np.testing.assert_array_equal(matrix, double)


@needs_fsdd
def test_reads_kaldis_plain_archive() -> None:
    plain = dict(read_matrices(FSDD / "oracles/compressed/dev3.uncompressed.scp", root=FSDD))
    text = dict(read_matrices(FSDD / "oracles/fbank8k/dev.fbank.txt.gz"))
    assert len(plain) == 3
    for utt_id, matrix in plain.items():
        np.testing.assert_allclose(matrix, text[utt_id], rtol=1e-6)


def test_random_access_with_ranges_and_headers(tmp_path: Path) -> None:
    matrix = np.arange(60, dtype=np.float32).reshape(12, 5)
    with MatrixWriter(f"ark,scp:{tmp_path}/a.ark,{tmp_path}/a.scp") as writer:
        writer.write("u", matrix)
    location = (tmp_path / "a.scp").read_text().split()[1]
    (tmp_path / "r.scp").write_text(
        f"rows {location}[2:4]\nboth {location}[0:0,1:3]\ncols {location}[:,4:4]\n"
    )
    scp = MatrixScp(tmp_path / "r.scp")
    np.testing.assert_array_equal(scp["rows"], matrix[2:5])
    np.testing.assert_array_equal(scp["both"], matrix[:1, 1:4])
    np.testing.assert_array_equal(scp["cols"], matrix[:, 4:5])
    assert scp.num_frames("rows") == 3
    assert MatrixScp(tmp_path / "a.scp").num_frames("u") == 12
    with pytest.raises(KeyError):
        scp["no such"]


def test_num_frames_of_compressed_archives() -> None:
    scp = MatrixScp(SYNTHETIC / "oracles/feats/compressed.default.scp", root=SYNTHETIC)
    assert {utt_id: scp.num_frames(utt_id) for utt_id in scp} == {"syn": 51, "syn6": 6}


def test_an_archive_through_a_pipe() -> None:
    path = SYNTHETIC / "oracles/feats/fbank41.txt.gz"
    piped = dict(read_matrices(f"ark:gunzip -c {path} |"))
    plain = dict(read_matrices(path))
    assert list(piped) == list(plain)
    np.testing.assert_array_equal(piped["syn"], plain["syn"])


def test_nothing_gets_its_name_when_writing_fails(tmp_path: Path) -> None:
    (tmp_path / "a.ark").write_bytes(b"the old one")
    with (
        pytest.raises(ValueError, match="u: written twice"),
        MatrixWriter(f"ark,scp:{tmp_path}/a.ark,{tmp_path}/a.scp") as writer,
    ):
        writer.write("u", MATRICES["a"])
        writer.write("u", MATRICES["a"])
    assert [path.name for path in tmp_path.iterdir()] == ["a.ark"]
    assert (tmp_path / "a.ark").read_bytes() == b"the old one"
