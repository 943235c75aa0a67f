"""Compressed matrices against archives of Kaldi's ``copy-feats --compress=true`` and kaldi-native-io."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from asr_bn.kaldi_io.compressed_matrix import _segment_code, encode_compressed
from asr_bn.kaldi_io.matrix_table import MatrixWriter, read_matrices
from tests.helpers.kaldi_fixtures import FSDD, SYNTHETIC, needs_fsdd

METHODS = {"default": 1, "method3": 3, "method5": 5}


@pytest.mark.parametrize("name", METHODS)
def test_decodes_what_kaldi_compressed(name: str) -> None:
    oracle = SYNTHETIC / "oracles/feats"
    decoded = dict(read_matrices(oracle / f"compressed.{name}.decoded.txt.gz"))
    ours = dict(read_matrices(oracle / f"compressed.{name}.scp", root=SYNTHETIC))
    assert list(ours) == list(decoded) == ["syn", "syn6"]
    for utt_id, matrix in decoded.items():
        # Kaldi's text has 6 to 7 digits of values up to 25.
        np.testing.assert_allclose(ours[utt_id], matrix, rtol=0, atol=1e-5)


@needs_fsdd
@pytest.mark.parametrize(
    ("name", "method"), [("dev.first5.default", 1), ("dev.first5.method3", 3), ("dev3.method5", 5)]
)
def test_compresses_to_the_bytes_of_kaldi(name: str, method: int) -> None:
    folder = FSDD / "oracles/compressed"
    plain = dict(read_matrices(folder / "dev3.uncompressed.scp", root=FSDD))
    ours = b"".join(f"{u} ".encode() + b"\0B" + encode_compressed(m, method) for u, m in plain.items())
    theirs = (folder / f"{name}.ark").read_bytes()
    assert theirs[: len(ours)] == ours
    assert len(theirs) == len(ours) or name.startswith("dev.first5")


@pytest.mark.parametrize("name", METHODS)
def test_compresses_text_features_to_nearly_the_bytes_of_kaldi(name: str) -> None:
    # The source is text of 6 to 7 digits here, so the header's minimum and range are off in the last bits.
    oracle = SYNTHETIC / "oracles/feats"
    feats = dict(read_matrices(oracle / "fbank41.txt.gz"))
    ours = b"".join(
        f"{u} ".encode() + b"\0B" + encode_compressed(feats[u], METHODS[name]) for u in ("syn", "syn6")
    )
    theirs = (oracle / f"compressed.{name}.ark").read_bytes()
    assert len(ours) == len(theirs)
    assert sum(a != b for a, b in zip(ours, theirs, strict=True)) <= 20


@settings(deadline=None, max_examples=60)
@example(np.array([[np.finfo(np.float32).tiny, 0.0]], dtype=np.float32), 1)
@given(
    st_numpy.arrays(
        np.float32,
        st.tuples(st.integers(1, 40), st.integers(1, 12)),
        elements=st.floats(-1e4, 1e4, width=32),
    ),
    st.sampled_from([1, 2, 3, 5]),
)
def test_kaldi_native_io_decodes_the_same(
    tmp_path_factory: pytest.TempPathFactory, matrix, method: int
) -> None:
    kaldi_native_io = pytest.importorskip("kaldi_native_io")
    path = tmp_path_factory.mktemp("compressed") / "a.ark"
    with MatrixWriter(path, compress=True, compression_method=method) as writer:
        writer.write("u", matrix)
    ((_, ours),) = read_matrices(path)
    with kaldi_native_io.SequentialFloatMatrixReader(f"ark:{path}") as reader:
        theirs = [np.array(value) for _, value in reader][0]  # a copy: the reader frees what it yields
    # Below the smallest normal number there are fewer bits, and processors may be told to take zero.
    scale = max(float(np.abs(matrix).max()), np.finfo(np.float32).tiny / 2e-6)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-6 * scale)
    if method in (1, 3) and (method == 3 or len(matrix) <= 8):
        step = (float(matrix.max()) - float(matrix.min())) / 65535
        np.testing.assert_allclose(ours, matrix, rtol=0, atol=0.51 * step + 2e-6 * scale)


@pytest.mark.parametrize("method", [2, 3, 5])
def test_decodes_to_the_bits_of_kaldi_native_io(tmp_path: Path, method: int) -> None:
    kaldi_native_io = pytest.importorskip("kaldi_native_io")
    rng = np.random.default_rng(method)
    with MatrixWriter(tmp_path / "a.ark", compress=True, compression_method=method) as writer:
        for number, scale in enumerate(np.geomspace(1e-3, 1e4, 50)):
            writer.write(f"u{number}", rng.normal(scale=scale, size=(20, 7)).astype(np.float32))
    with kaldi_native_io.SequentialFloatMatrixReader(f"ark:{tmp_path / 'a.ark'}") as reader:
        theirs = {utt_id: np.array(value) for utt_id, value in reader}
    for utt_id, ours in read_matrices(tmp_path / "a.ark"):
        np.testing.assert_array_equal(ours, theirs[utt_id])


def test_codes_are_rounded_in_float64() -> None:
    below_half = np.nextafter(np.float32(0.5), np.float32(0))
    assert np.float32(below_half + np.float32(0.5)) == 1
    assert _segment_code(below_half, np.float32(0), np.float32(64), 0, 64) == 0


@pytest.mark.parametrize(("value", "reason"), [(np.nan, "NaN or infinite"), (np.inf, "NaN or infinite")])
def test_refuses_what_kaldi_refuses(tmp_path: Path, value: float, reason: str) -> None:
    with (
        pytest.raises(ValueError, match=f"^u1: .*{reason}"),
        MatrixWriter(tmp_path / "a.ark", True) as writer,
    ):
        writer.write("u1", np.array([[value, 0.0]], dtype=np.float32))
    assert list(tmp_path.iterdir()) == []
