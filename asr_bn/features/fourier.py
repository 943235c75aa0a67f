"""The Fourier transform with the rounding of Kaldi's (``SplitRadixRealFft``, ``src/matrix/srfft.cc``).

Kaldi finishes its real transform with twiddle factors made by repeated multiplication in float32.  Their
error, up to 1e-6, is systematic: it leaks the mirrored half of the spectrum into quiet bins.  Some 18 nats
below the peak it exceeds all other rounding.  A correction of the exact transform reproduces it.
"""

import numpy as np
from numpy.typing import NDArray

from asr_bn.system.arrays import Floats

Complexes = NDArray[np.complex64]


def twiddle_errors(size: int) -> Complexes:
    """Compute half the relative error of Kaldi's twiddle factors, complex64 ``[size / 2 + 1]``."""
    half = size // 2
    angle = np.float32(-2.0 * np.pi / size)
    root_re, root_im = np.cos(angle), np.sin(angle)
    re, im = np.float32(1.0), np.float32(0.0)
    errors = np.zeros(half + 1, dtype=np.complex128)
    for k in range(1, half // 2 + 1):
        re, im = re * root_re - im * root_im, re * root_im + im * root_re
        exact = np.exp(-2j * np.pi * k / size)
        errors[k] = (complex(re, im) / exact - 1.0) / 2.0
        errors[half - k] = np.conj(errors[k])
    return errors.astype(np.complex64)


def kaldi_rfft(frames: Floats, errors: Complexes | None) -> Complexes:
    """Compute the spectrum ``[num_frames, size / 2 + 1]`` of ``frames`` ``[num_frames, size]``.

    ``errors`` is ``twiddle_errors(size)``, or None for the exact transform (Kaldi has its own only for
    sizes that are a power of two).
    """
    from scipy.fft import rfft

    spectrum: Complexes = rfft(frames, axis=1)
    if errors is not None:
        leak = np.conjugate(spectrum[:, ::-1])
        np.subtract(spectrum, leak, out=leak)
        leak *= errors
        spectrum += leak
    return spectrum
