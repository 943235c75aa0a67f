"""The GMM system's features against ``torchaudio.compliance.kaldi`` and a case computed by hand."""

import numpy as np
import pytest

from asr_bn.gmm.mfcc import compute_mfcc, normalize_speakers
from tests.helpers.torchaudio_kaldi import torchaudio_kaldi


def test_mfcc_equals_torchaudios() -> None:
    torch = pytest.importorskip("torch")
    kaldi = torchaudio_kaldi()
    rng = np.random.default_rng(0)
    time = np.arange(16000) / 16000
    samples = (3000 * np.sin(2 * np.pi * (200 + 300 * time) * time) + rng.normal(0, 300, time.size)).astype(
        np.float32
    )
    theirs = kaldi.mfcc(torch.from_numpy(samples)[None], sample_frequency=16000, use_energy=False, dither=0.0)
    ours = compute_mfcc(samples, 16000)
    assert ours.shape == (1 + (16000 - 400) // 160, 13)
    # float32 spectra on both sides; values reach 100.
    np.testing.assert_allclose(ours, theirs.numpy(), atol=2e-2)


def test_each_speaker_has_mean_zero() -> None:
    one = np.array([[1.0, 2.0]], np.float32)
    feats = {"a-1": one, "a-2": np.array([[3.0, 4.0], [5.0, 9.0]], np.float32), "b-1": one}
    normalized = normalize_speakers(feats, {"a-1": "a", "a-2": "a", "b-1": "b"})
    np.testing.assert_array_equal(normalized["a-1"], [[-2.0, -3.0]])
    np.testing.assert_array_equal(normalized["a-2"], [[0.0, -1.0], [2.0, 4.0]])
    np.testing.assert_array_equal(normalized["b-1"], [[0.0, 0.0]])
