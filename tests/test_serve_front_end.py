"""The processes that decode audio, apart from the server."""

import io

import numpy as np
import pytest
import soundfile

from asr_bn.features.fbank import compute_fbank
from asr_bn.features.fbank_options import FbankOptions
from serve.front_end import AudioLimits, FrontEndPool


@pytest.fixture
def in_a_folder_with_a_module_of_a_librarys_name(tmp_path, monkeypatch):
    (tmp_path / "soxr.py").write_text("raise ImportError('not the library')\n")
    monkeypatch.chdir(tmp_path)


def test_modules_of_the_current_folder_are_not_imported(in_a_folder_with_a_module_of_a_librarys_name):
    """The features are those of our own filter bank, computed here."""
    samples = np.random.default_rng(0).integers(-2000, 2000, 8000).astype(np.int16)
    body = io.BytesIO()
    soundfile.write(body, samples, 16000, format="WAV")
    pool = FrontEndPool(1, AudioLimits())
    try:
        pool.wait_until_ready()
        actual = pool.features(body.getvalue(), FbankOptions(), 0).feats
    finally:
        pool.close()
    assert np.array_equal(actual, compute_fbank(samples, FbankOptions()))
