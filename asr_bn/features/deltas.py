"""Kaldi's ``add-deltas`` (``src/feat/feature-functions.cc``)."""

import numpy as np
from numpy.typing import NDArray

from asr_bn.system.arrays import Floats


def delta_kernels(order: int = 2, window: int = 2) -> list[Floats]:
    """Make the filters of the static features for the deltas of order 0 to ``order``, of odd lengths.

    Kernel ``i`` has ``2 * i * window + 1`` taps and is centred on the frame.

    Raises:
        ValueError: ``order`` below 0, ``window`` below 1.
    """
    if order < 0 or window < 1:
        raise ValueError(f"deltas of order {order}, window {window}: expected at least 0 and 1")
    offsets = np.arange(-window, window + 1, dtype=np.float64)
    slope = offsets / np.square(offsets).sum()
    kernels = [np.ones(1)]
    for _ in range(order):
        # As a correlation: the reversed slope makes np.convolve the sum over frames that Kaldi takes.
        kernels.append(np.convolve(kernels[-1], slope))
    return [kernel.astype(np.float32) for kernel in kernels]


def add_deltas(feats: NDArray[np.floating], order: int = 2, window: int = 2) -> Floats:
    """Append deltas to ``[num_frames, D]`` static features: float32 ``[num_frames, (order + 1) * D]``.

    Every order filters the static features, with the first and last frame repeated past the edges.
    """
    statics = np.asarray(feats, dtype=np.float32)
    num_frames, dim = statics.shape
    output = np.zeros((num_frames, (order + 1) * dim), dtype=np.float32)
    if num_frames == 0:
        return output
    reach = order * window
    padded = np.pad(statics, ((reach, reach), (0, 0)), mode="edge")
    for index, kernel in enumerate(delta_kernels(order, window)):
        column = output[:, index * dim : (index + 1) * dim]
        first = reach - index * window
        for tap, weight in enumerate(kernel):
            if weight:
                column += weight * padded[first + tap : first + tap + num_frames]
    return output
