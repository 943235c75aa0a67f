"""Kaldi's triangular mel filters (``src/feat/mel-computations.cc``)."""

import numpy as np

from asr_bn.features.options import FbankOptions
from asr_bn.system.arrays import Floats


def mel_scale(freq: Floats | float) -> Floats:
    """Convert Hz to mel, in float32 as Kaldi."""
    hertz = np.asarray(freq, dtype=np.float32)
    mel: Floats = np.float32(1127.0) * np.log(np.float32(1.0) + hertz / np.float32(700.0))
    return mel


def mel_weights(options: FbankOptions) -> Floats:
    """Compute weights ``[num_fft_bins, num_mel_bins]``; the Nyquist bin has none, as in Kaldi.

    Raises:
        ValueError: a mel bin so narrow that no Fourier bin falls into it.
    """
    num_fft_bins = options.padded_window_size // 2
    width = np.float32(np.float32(options.sample_frequency) / np.float32(options.padded_window_size))
    low, high = mel_scale(options.low_freq), mel_scale(options.upper_freq)
    delta = np.float32((high - low) / np.float32(options.num_mel_bins + 1))
    bins = np.arange(options.num_mel_bins, dtype=np.float32)
    left, center, right = low + bins * delta, low + (bins + 1) * delta, low + (bins + 2) * delta
    mel = mel_scale(width * np.arange(num_fft_bins, dtype=np.float32))[:, np.newaxis]
    rising, falling = (mel - left) / (center - left), (right - mel) / (right - center)
    inside = (mel > left) & (mel < right)
    weights = np.where(inside, np.where(mel <= center, rising, falling), np.float32(0)).astype(np.float32)
    empty = np.flatnonzero(~inside.any(axis=0))
    if len(empty):
        raise ValueError(
            f"fbank option num_mel_bins={options.num_mel_bins}: bin {empty[0]} is empty; ask for fewer bins"
        )
    if options.htk_compat and options.low_freq != 0:
        weights[0] = 0.0  # a bug of HTK's that Kaldi reproduces on request
    return weights
