"""Kaldi's log mel filter bank with energy, in numpy (``src/feat/feature-fbank.cc``)."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from asr_bn.features.fbank_options import FbankOptions
from asr_bn.features.mel_banks import mel_weights
from asr_bn.features.windows import extract_frames, window_function

__all__ = ["FbankOptions", "compute_fbank"]

Floats = NDArray[np.float32]
_BLOCK = 128  # frames worked on at a time: their spectra stay in the processor's cache
_EPSILON = np.finfo(np.float32).eps


def compute_fbank(waveform: NDArray[np.floating], options: FbankOptions, seed: int = 0) -> Floats:
    """Features of a waveform, float32 ``[num_frames, num_features]``, the energy first.

    Args:
        waveform: samples ``[num_samples]`` in int16 range, as Kaldi's (not -1 to 1).
        options: the waveform must have ``options.sample_frequency``.
        seed: of the dither, when ``options.dither`` is above 0.

    Shorter than a frame gives no frames and no error, as in Kaldi.

    Raises:
        ValueError: not one channel, or a sample that is NaN or infinite.
    """
    if waveform.ndim != 1:
        raise ValueError(f"expected the samples of one channel, found an array of shape {waveform.shape}")
    samples = np.asarray(waveform, dtype=np.float32)
    if not np.isfinite(samples).all():
        bad = int(np.flatnonzero(~np.isfinite(samples))[0])
        raise ValueError(f"sample {bad} of {len(samples)} is {samples[bad]}")
    frames = extract_frames(samples, options)
    feats = np.empty((len(frames), options.num_features), dtype=np.float32)
    generator = np.random.default_rng(seed) if options.dither else None
    plan = _Plan.of(options)
    for start in range(0, len(frames), _BLOCK):
        block = frames[start : start + _BLOCK]
        plan.compute(block, feats[start : start + _BLOCK], generator)
    return feats


class _Plan:
    """What stays the same from block to block, and room to work in."""

    def __init__(self, options: FbankOptions) -> None:
        self._options = options
        self._window = window_function(options)
        weights = mel_weights(options)
        # Fourier bins outside every triangle are left out of the product.
        used = np.flatnonzero(weights.any(axis=1))
        self._bins = slice(int(used[0]), int(used[-1]) + 1)
        self._weights = np.ascontiguousarray(weights[self._bins])
        self._frames = np.empty((_BLOCK, options.window_size), dtype=np.float32)
        self._scratch = np.empty_like(self._frames)
        self._padded = np.zeros((_BLOCK, options.padded_window_size), dtype=np.float32)
        self._mean_of = np.full(options.window_size, 1.0 / options.window_size, dtype=np.float32)

    @staticmethod
    @lru_cache(maxsize=4)
    def of(options: FbankOptions) -> "_Plan":
        return _Plan(options)

    def compute(self, block: Floats, feats: Floats, generator: np.random.Generator | None) -> None:
        """Features of ``block`` ``[num_frames, window_size]`` into ``feats``."""
        options = self._options
        frames = self._frames[: len(block)]
        np.copyto(frames, block)
        if generator is not None:
            frames += options.dither * generator.standard_normal(frames.shape, dtype=np.float32)
        if options.remove_dc_offset:
            frames -= frames.mean(axis=1, keepdims=True)
        windowed = self._emphasize_and_window(frames)
        self._mel(windowed, feats)
        if options.use_energy:
            self._energy(frames if options.raw_energy else windowed[:, : options.window_size], feats)

    def _emphasize_and_window(self, frames: Floats) -> Floats:
        size, coefficient = self._options.window_size, np.float32(self._options.preemphasis_coefficient)
        padded, scratch = self._padded[: len(frames)], self._scratch[: len(frames)]
        np.multiply(frames, coefficient, out=scratch)
        emphasized = padded[:, :size]
        np.subtract(frames[:, 1:], scratch[:, :-1], out=emphasized[:, 1:])
        np.subtract(frames[:, 0], scratch[:, 0], out=emphasized[:, 0])
        emphasized *= self._window
        return padded

    def _mel(self, windowed: Floats, feats: Floats) -> None:
        from scipy.fft import rfft

        spectrum = rfft(windowed, axis=1)[:, self._bins]
        power = spectrum.real**2
        power += spectrum.imag**2
        if not self._options.use_power:
            np.sqrt(power, out=power)
        first = int(self._options.use_energy and not self._options.htk_compat)
        mel = feats[:, first : first + self._options.num_mel_bins]
        np.matmul(power, self._weights, out=mel)
        if self._options.use_log_fbank:
            np.maximum(mel, _EPSILON, out=mel)
            np.log(mel, out=mel)

    def _energy(self, frames: Floats, feats: Floats) -> None:
        energy = np.einsum("ij,ij->i", frames, frames)
        log_energy = np.log(np.maximum(energy, _EPSILON))
        if self._options.energy_floor > 0:
            np.maximum(log_energy, np.float32(np.log(self._options.energy_floor)), out=log_energy)
        # htk_compat: the energy goes last.
        feats[:, -1 if self._options.htk_compat else 0] = log_energy
