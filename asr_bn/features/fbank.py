"""Kaldi's log mel filter bank with energy, in numpy (``src/feat/feature-fbank.cc``)."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from asr_bn.features.fbank_options import FbankOptions
from asr_bn.features.fourier import kaldi_rfft, twiddle_errors
from asr_bn.features.mel_banks import mel_weights
from asr_bn.features.windows import extract_frames, window_function

__all__ = ["FbankOptions", "compute_fbank"]

Floats = NDArray[np.float32]
_BLOCK = 128  # frames worked on at a time: their spectra stay in the processor's cache
_MAX_PRODUCT = 1 << 17  # multiplications of a product; OpenBLAS starts threads above twice that
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
    room = _Room(min(_BLOCK, len(frames)), options)
    for start in range(0, len(frames), _BLOCK):
        block = frames[start : start + _BLOCK]
        plan.compute(block, feats[start : start + _BLOCK], room, generator)
    return feats


def _group(weights: Floats) -> list[tuple[slice, slice, Floats]]:
    """Split ``weights`` ``[num_fft_bins, num_mel_bins]`` into runs of mel bins and the Fourier bins they use.

    The triangles are narrow, so this saves most of the product; and each piece stays below the size from
    which OpenBLAS starts threads, which for products as small as these cost more than they save.
    """
    groups, num_mel_bins, start = [], weights.shape[1], 0
    while start < num_mel_bins:
        stop = start + 1
        while stop < num_mel_bins and _cost(weights[:, start : stop + 1]) <= _MAX_PRODUCT:
            stop += 1
        used = np.flatnonzero(weights[:, start:stop].any(axis=1))
        fft_bins = slice(int(used[0]), int(used[-1]) + 1)
        groups.append((fft_bins, slice(start, stop), np.ascontiguousarray(weights[fft_bins, start:stop])))
        start = stop
    return groups


def _cost(weights: Floats) -> int:
    used = np.flatnonzero(weights.any(axis=1))
    width = int(used[-1]) - int(used[0]) + 1
    return int(_BLOCK * weights.shape[1] * width)


class _Room:
    """Arrays to work in, of one call (so that threads do not share them)."""

    def __init__(self, num_frames: int, options: FbankOptions) -> None:
        self.frames = np.empty((num_frames, options.window_size), dtype=np.float32)
        self.scaled = np.empty_like(self.frames)
        self.padded = np.zeros((num_frames, options.padded_window_size), dtype=np.float32)


class _Plan:
    """What is the same in every call: window, mel weights, twiddle errors."""

    def __init__(self, options: FbankOptions) -> None:
        self._options = options
        self._window = window_function(options)
        self._mel_groups = _group(mel_weights(options))
        size = options.padded_window_size
        self._twiddle_errors = twiddle_errors(size) if size & (size - 1) == 0 else None

    @staticmethod
    @lru_cache(maxsize=4)
    def of(options: FbankOptions) -> "_Plan":
        return _Plan(options)

    def compute(
        self, block: Floats, feats: Floats, room: _Room, generator: np.random.Generator | None
    ) -> None:
        """Features of ``block`` ``[num_frames, window_size]`` into ``feats``."""
        options = self._options
        frames = room.frames[: len(block)]
        np.copyto(frames, block)
        if generator is not None:
            frames += options.dither * generator.standard_normal(frames.shape, dtype=np.float32)
        if options.remove_dc_offset:
            frames -= frames.mean(axis=1, keepdims=True)
        windowed = self._emphasize_and_window(frames, room)
        self._mel(windowed, feats)
        if options.use_energy:
            self._energy(frames if options.raw_energy else windowed[:, : options.window_size], feats)

    def _emphasize_and_window(self, frames: Floats, room: _Room) -> Floats:
        size, coefficient = self._options.window_size, np.float32(self._options.preemphasis_coefficient)
        padded, scaled = room.padded[: len(frames)], room.scaled[: len(frames)]
        np.multiply(frames, coefficient, out=scaled)
        emphasized = padded[:, :size]
        np.subtract(frames[:, 1:], scaled[:, :-1], out=emphasized[:, 1:])
        np.subtract(frames[:, 0], scaled[:, 0], out=emphasized[:, 0])
        emphasized *= self._window
        return padded

    def _mel(self, windowed: Floats, feats: Floats) -> None:
        spectrum = kaldi_rfft(windowed, self._twiddle_errors)[:, :-1]
        power = spectrum.real**2
        power += spectrum.imag**2
        if not self._options.use_power:
            np.sqrt(power, out=power)
        first = int(self._options.use_energy and not self._options.htk_compat)
        mel = feats[:, first : first + self._options.num_mel_bins]
        for fft_bins, mel_bins, weights in self._mel_groups:
            np.matmul(power[:, fft_bins], weights, out=mel[:, mel_bins])
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
