"""Kaldi's log mel filter bank with energy, in NumPy (``src/feat/feature-fbank.cc``)."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from asr_bn.features.fourier import kaldi_rfft, twiddle_errors
from asr_bn.features.mel_banks import mel_weights
from asr_bn.features.options import FbankOptions
from asr_bn.features.windows import extract_frames, window_function
from asr_bn.system.arrays import Floats

_BLOCK = 128  # frames at a time: their spectra stay in the processor's cache
_MAX_PRODUCT = 1 << 17  # multiplications of a product; OpenBLAS starts threads above twice that
_EPSILON = np.finfo(np.float32).eps


def fbank(waveform: NDArray[np.floating], options: FbankOptions, seed: int = 0) -> Floats:
    """Compute a waveform's features, float32 ``[num_frames, num_features]``, the energy first.

    Args:
        waveform: samples ``[num_samples]`` in int16 range, as Kaldi's (not -1 to 1).
        options: the waveform must have ``options.sample_frequency``.
        seed: of the dither, when ``options.dither`` is above 0.

    A waveform shorter than a frame gives no frames and no error, as in Kaldi.

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
    if options.subtract_mean and len(feats):
        feats -= feats.mean(axis=0, dtype=np.float64).astype(np.float32)
    return feats


def _group(weights: Floats) -> list[tuple[slice, slice, Floats]]:
    """Split ``weights`` ``[num_values, num_mel_bins]`` into runs of mel bins and the values they use.

    The triangles are narrow, so this saves most of the product.  Each piece stays below the size from which
    OpenBLAS starts threads, which cost more than they save here.
    """
    groups, num_mel_bins, start = [], weights.shape[1], 0
    while start < num_mel_bins:
        stop = start + 1
        while stop < num_mel_bins and _cost(weights[:, start : stop + 1]) <= _MAX_PRODUCT:
            stop += 1
        used = np.flatnonzero(weights[:, start:stop].any(axis=1))
        columns = slice(int(used[0]), int(used[-1]) + 1)
        groups.append((columns, slice(start, stop), np.ascontiguousarray(weights[columns, start:stop])))
        start = stop
    return groups


def _cost(weights: Floats) -> int:
    used = np.flatnonzero(weights.any(axis=1))
    width = int(used[-1]) - int(used[0]) + 1
    return int(_BLOCK * weights.shape[1] * width)


class _Room:
    """Work arrays of one call, so that threads do not share them."""

    def __init__(self, num_frames: int, options: FbankOptions) -> None:
        self.frames = np.empty((num_frames, options.window_size), dtype=np.float32)
        self.scaled = np.empty_like(self.frames)
        self.emphasized = np.empty_like(self.frames)
        self.padded = np.zeros((num_frames, options.padded_window_size), dtype=np.float32)


class _Plan:
    """What is the same in every call: window, mel weights, twiddle errors."""

    def __init__(self, options: FbankOptions) -> None:
        self._options = options
        self._window = window_function(options)
        weights = mel_weights(options)
        self._mel_groups = _group(np.repeat(weights, 2, axis=0) if options.use_power else weights)
        size = options.padded_window_size
        self._twiddle_errors = twiddle_errors(size) if size & (size - 1) == 0 else None

    @staticmethod
    @lru_cache(maxsize=4)
    def of(options: FbankOptions) -> "_Plan":
        return _Plan(options)

    def compute(
        self, block: Floats, feats: Floats, room: _Room, generator: np.random.Generator | None
    ) -> None:
        """Write the features of ``block`` ``[num_frames, window_size]`` into ``feats``."""
        options = self._options
        frames = room.frames[: len(block)]
        if generator is not None:
            block = block + np.float32(options.dither) * generator.standard_normal(block.shape, np.float32)
        mean = np.einsum("ij->i", block) / np.float32(
            options.window_size if options.remove_dc_offset else np.inf
        )
        np.subtract(block, mean[:, np.newaxis], out=frames)
        windowed = self._emphasize_and_window(frames, room)
        self._mel(windowed, feats)
        if options.use_energy:
            self._energy(frames if options.raw_energy else windowed[:, : options.window_size], feats)
        self._log(feats)

    def _emphasize_and_window(self, frames: Floats, room: _Room) -> Floats:
        size, coefficient = self._options.window_size, np.float32(self._options.preemphasis_coefficient)
        num_frames = len(frames)
        scaled, emphasized = room.scaled[:num_frames], room.emphasized[:num_frames]
        np.multiply(frames, coefficient, out=scaled)
        # As one long row, which is faster; then each frame's first sample, which has none before it.
        np.subtract(frames.reshape(-1)[1:], scaled.reshape(-1)[:-1], out=emphasized.reshape(-1)[1:])
        np.subtract(frames[:, 0], scaled[:, 0], out=emphasized[:, 0])
        np.multiply(emphasized, self._window, out=room.padded[:num_frames, :size])
        return room.padded[:num_frames]

    def _mel(self, windowed: Floats, feats: Floats) -> None:
        spectrum = kaldi_rfft(windowed, self._twiddle_errors)
        if self._options.use_power:
            # Real and imaginary parts side by side: the product with the doubled weights adds them.
            values = spectrum.view(np.float32)
            np.square(values, out=values)
        else:
            values = np.abs(spectrum)
        first = int(self._options.use_energy and not self._options.htk_compat)
        mel = feats[:, first : first + self._options.num_mel_bins]
        for columns, mel_bins, weights in self._mel_groups:
            np.matmul(values[:, columns], weights, out=mel[:, mel_bins])

    def _energy(self, frames: Floats, feats: Floats) -> None:
        # htk_compat: the energy goes last.
        feats[:, -1 if self._options.htk_compat else 0] = np.einsum("ij,ij->i", frames, frames)

    def _log(self, feats: Floats) -> None:
        options, column = self._options, -1 if self._options.htk_compat else 0
        if options.use_log_fbank:
            logged = feats
        else:
            logged = feats[:, column, np.newaxis] if options.use_energy else feats[:, :0]
        np.maximum(logged, _EPSILON, out=logged)
        np.log(logged, out=logged)
        if options.use_energy and options.energy_floor > 0:
            floor = np.float32(np.log(options.energy_floor))
            feats[:, column] = np.maximum(feats[:, column], floor)
