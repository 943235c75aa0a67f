"""A padded call of a list of utterances, for the peers that batch."""

import io
from collections.abc import Sequence

import numpy as np
import onnxruntime

from asr_bn.system.arrays import Floats


def score(session: onnxruntime.InferenceSession, feats: Sequence[Floats]) -> list[Floats]:
    """Return log posteriors of each of ``feats``."""
    lengths = np.array([len(one) for one in feats], np.int32)
    padded = np.zeros((len(feats), lengths.max(), feats[0].shape[1]), np.float32)
    for row, one in enumerate(feats):
        padded[row, : len(one)] = one
    scores = session.run(None, {"features": padded, "lengths": lengths})[0]
    return [scores[row, :length] for row, length in enumerate(lengths)]


def npy(values: Floats) -> bytes:
    """Return ``values`` in NumPy's format."""
    stream = io.BytesIO()
    np.save(stream, values)
    return stream.getvalue()
