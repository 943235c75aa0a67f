"""LDA over spliced features, and MLLT: one rotation for all diagonal Gaussians.

Sources: Haeb-Umbach and Ney 1992; Gales 1999, "Semi-tied covariance matrices"; Kaldi
``src/transform/lda-estimate.cc`` and ``mllt.cc``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np
from scipy.linalg import LinAlgError, eigh
from scipy.special import softmax

from asr_bn.gmm.mixtures import Mixture
from asr_bn.system.arrays import Doubles, Floats

_NUM_UPDATES = 200


@dataclass(frozen=True)
class LdaStats:
    """Frames by class: ``counts`` ``[num_classes]``, ``sums`` ``[num_classes, dim]``; ``products`` of all."""

    counts: Doubles
    sums: Doubles
    products: Doubles

    def __add__(self, other: "LdaStats") -> "LdaStats":
        return LdaStats(self.counts + other.counts, self.sums + other.sums, self.products + other.products)


def estimate_lda(stats: Sequence[LdaStats], dim: int) -> Floats:
    """Return the ``dim`` directions that tell classes apart best, ``[dim, spliced_dim]``.

    Within the classes, the projected features have unit covariance.

    Raises:
        ValueError: too few frames for that many dimensions.
    """
    all_stats = reduce(add, stats)
    count = all_stats.counts.sum()
    mean = all_stats.sums.sum(axis=0) / max(1.0, count)
    seen = all_stats.counts > 0
    means = all_stats.sums[seen] / all_stats.counts[seen, None]
    between = (means.T * all_stats.counts[seen]) @ means / max(1.0, count) - np.outer(mean, mean)
    within = all_stats.products / max(1.0, count) - np.outer(mean, mean) - between
    try:
        _, vectors = eigh(between, within)
    except LinAlgError as error:
        raise ValueError(f"LDA: {count:g} frames of speech are too few; try --stage tri1") from error
    matrix: Floats = vectors[:, ::-1][:, :dim].T.astype(np.float32)
    return matrix


def accumulate_mllt(mixture: Mixture, feats: Floats) -> Doubles:
    """Sum frames' outer products about each Gaussian's mean, over its variances: ``[dim, dim, dim]``.

    Element ``i`` is for row ``i`` of the transform.
    """
    posteriors = softmax(mixture.log_likelihoods(feats), axis=1)
    result = np.zeros((feats.shape[1],) * 3)
    for weights, mean, variance in zip(posteriors.T, mixture.means, mixture.variances, strict=True):
        frames = feats - mean
        result += ((frames.T * weights) @ frames) / variance[:, None, None]
    return result


def estimate_mllt(stats: Doubles, count: float) -> Doubles:
    """Return the ``[dim, dim]`` transform that raises `mllt_objective` most; rows are updated in turn.

    Raises:
        ValueError: too few frames.
    """
    try:
        inverses = np.linalg.inv(stats)
    except np.linalg.LinAlgError as error:
        raise ValueError(f"MLLT: {count:g} frames are too few; try --stage tri1") from error
    transform = np.eye(len(stats))
    for _ in range(_NUM_UPDATES):
        for row, inverse in enumerate(inverses):
            cofactors = np.linalg.inv(transform)[:, row]
            direction = cofactors @ inverse
            transform[row] = direction * np.sqrt(count / (cofactors @ direction))
    return transform


def mllt_objective(transform: Doubles, stats: Doubles, count: float) -> float:
    """Return the part of the frames' log likelihood that depends on the transform."""
    spread = np.einsum("ij,ijk,ik->", transform, stats, transform)
    return float(count * np.linalg.slogdet(transform)[1] - 0.5 * spread)
