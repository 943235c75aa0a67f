"""Frames of a waveform, as Kaldi cuts them (``src/feat/feature-window.cc``)."""

import numpy as np
from numpy.lib.stride_tricks import as_strided

from asr_bn.features.options import FbankOptions
from asr_bn.system.arrays import Floats


def window_function(options: FbankOptions) -> Floats:
    """Compute the window's ``[window_size]`` factors (``FeatureWindowFunction``)."""
    size = options.window_size
    phase = np.arange(size, dtype=np.float64) * (2.0 * np.pi / (size - 1))
    blackman = options.blackman_coeff
    shapes = {
        "hanning": 0.5 - 0.5 * np.cos(phase),
        "sine": np.sin(0.5 * phase),
        "hamming": 0.54 - 0.46 * np.cos(phase),
        "povey": (0.5 - 0.5 * np.cos(phase)) ** 0.85,
        "rectangular": np.ones(size),
        "blackman": blackman - 0.5 * np.cos(phase) + (0.5 - blackman) * np.cos(2 * phase),
    }
    return shapes[options.window_type].astype(np.float32)


def extract_frames(waveform: Floats, options: FbankOptions) -> Floats:
    """Return a read-only view of all frames, ``[num_frames, window_size]``.

    With ``snip_edges`` off the frames at the ends reach past the waveform, which is mirrored there.
    """
    num_frames = options.num_frames(len(waveform))
    size, shift = options.window_size, options.window_shift
    if num_frames == 0:
        return np.zeros((0, size), dtype=np.float32)
    if not options.snip_edges:
        waveform = _mirror(waveform, num_frames, options)
    waveform = np.ascontiguousarray(waveform)
    step = waveform.itemsize
    return as_strided(waveform, (num_frames, size), (shift * step, step), writeable=False)


def _mirror(waveform: Floats, num_frames: int, options: FbankOptions) -> Floats:
    first = options.window_shift // 2 - options.window_size // 2
    last = first + (num_frames - 1) * options.window_shift + options.window_size
    # ... 1 0 | 0 1 2 ... n-1 | n-1 n-2 ..., repeated as often as a short waveform needs.
    period = 2 * len(waveform)
    index = np.arange(first, last) % period
    return waveform[np.minimum(index, period - 1 - index)]
