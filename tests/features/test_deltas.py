"""Deltas against Kaldi's ``add-deltas``, edges included."""

from pathlib import Path

import numpy as np
import pytest

from asr_bn.features.deltas import add_deltas, delta_kernels
from asr_bn.kaldi_io.matrix_table import read_matrices
from tests.helpers.kaldi_fixtures import FSDD, SYNTHETIC, needs_fsdd


def _compare(statics: Path, oracle: Path) -> None:
    static = dict(read_matrices(statics))
    for utt_id, theirs in read_matrices(oracle):
        # The statics are text of 6 to 7 digits, up to 30.
        np.testing.assert_allclose(add_deltas(static[utt_id]), theirs, rtol=0, atol=1e-4)


def test_against_kaldi() -> None:
    _compare(SYNTHETIC / "oracles/feats/fbank41.txt.gz", SYNTHETIC / "oracles/feats/fbank41_deltas.txt.gz")


@needs_fsdd
@pytest.mark.parametrize(
    ("statics", "oracle"),
    [
        ("fbank8k/train.fbank.txt.gz", "fbank8k/train.fbank_deltas.first5.txt.gz"),
        ("fbank8k/dev.fbank.txt.gz", "fbank8k/dev.fbank_deltas.first5.txt.gz"),
        ("fbank16k/fbank41.txt.gz", "fbank16k/fbank41_deltas.first3.txt.gz"),
    ],
)
def test_real_speech_against_kaldi(statics: str, oracle: str) -> None:
    _compare(FSDD / "oracles" / statics, FSDD / "oracles" / oracle)


def test_kernels_by_hand() -> None:
    static, first, second = delta_kernels()
    assert static.tolist() == [1.0]
    np.testing.assert_allclose(first, np.array([-2, -1, 0, 1, 2]) / 10, rtol=1e-6)
    np.testing.assert_allclose(second, np.array([4, 4, 1, -4, -10, -4, 1, 4, 4]) / 100, rtol=1e-6)


@pytest.mark.parametrize("num_frames", [0, 1, 2])
def test_fewer_frames_than_taps(num_frames: int) -> None:
    feats = np.full((num_frames, 3), 5.0, dtype=np.float32)
    deltas = add_deltas(feats)
    assert deltas.shape == (num_frames, 9)
    np.testing.assert_allclose(deltas[:, 3:], 0.0, atol=1e-6)
