"""LDA against Fisher's direction, MLLT against the rotation that made the data, and its objective."""

import numpy as np
import pytest

pytest.importorskip("kaldi_hmm_gmm", reason="kaldi-hmm-gmm is not installed")

from asr_bn.gmm.mixtures import Mixture
from asr_bn.gmm.transforms import (
    LdaStats,
    accumulate_mllt,
    estimate_lda,
    estimate_mllt,
    mllt_objective,
)


def _stats(feats: np.ndarray, classes: np.ndarray) -> LdaStats:
    sums = np.stack([feats[classes == k].sum(axis=0) for k in range(classes.max() + 1)])
    return LdaStats(np.bincount(classes).astype(float), sums, feats.T @ feats)


def test_lda_of_two_classes_is_fishers_direction() -> None:
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 2, size=4000)
    feats = rng.standard_normal((4000, 5)) @ rng.standard_normal((5, 5)) + classes[:, None] * np.arange(5)
    halves = [_stats(feats[:2000], classes[:2000]), _stats(feats[2000:], classes[2000:])]
    matrix = estimate_lda(halves, 2)
    means = np.stack([feats[classes == k].mean(axis=0) for k in (0, 1)])
    within = np.cov((feats - means[classes]).T, bias=True)
    fisher = np.linalg.solve(within, means[1] - means[0])
    cosine = matrix[0] @ fisher / np.linalg.norm(matrix[0]) / np.linalg.norm(fisher)
    assert abs(cosine) == pytest.approx(1.0, abs=1e-5)
    np.testing.assert_allclose(matrix @ within @ matrix.T, np.eye(2), atol=1e-4)


def test_too_few_frames_for_lda_are_one_sentence() -> None:
    feats = np.random.default_rng(0).standard_normal((4, 6))
    with pytest.raises(ValueError, match="4 frames of speech are too few; try --stage tri1"):
        estimate_lda([_stats(feats, np.array([0, 0, 1, 1]))], 2)


def test_mllt_undoes_a_rotation() -> None:
    rng = np.random.default_rng(1)
    dim, mixtures, stats, count = 4, [], np.zeros((4, 4, 4)), 0
    mixing = np.linalg.qr(rng.standard_normal((dim, dim)))[0]
    for _ in range(3):  # pdfs with diagonal covariances of their own, seen through one rotation
        hidden = rng.normal(size=dim) + rng.standard_normal((4000, dim)) * rng.uniform(0.3, 3.0, size=dim)
        feats = (hidden @ mixing.T).astype(np.float32)
        mixture = Mixture(
            np.ones(1), feats.mean(axis=0)[None].astype(float), feats.var(axis=0)[None].astype(float)
        )
        stats += accumulate_mllt(mixture, feats)
        count += len(feats)
        mixtures.append((mixture, feats))
    transform = estimate_mllt(stats, count)
    before = mllt_objective(np.eye(dim), stats, count)
    assert mllt_objective(transform, stats, count) > before
    # A maximum: no small step in any direction goes higher.
    for row, column in np.ndindex(dim, dim):
        step = np.zeros((dim, dim))
        step[row, column] = 1e-3
        for sign in (1, -1):
            assert mllt_objective(transform + sign * step, stats, count) < mllt_objective(
                transform, stats, count
            )

    def likelihood(turn: np.ndarray) -> float:
        """Of the frames, with diagonal Gaussians estimated anew."""
        return sum(
            len(feats) * (np.linalg.slogdet(turn)[1] - 0.5 * np.log((feats @ turn.T).var(axis=0)).sum())
            for _, feats in mixtures
        )

    assert likelihood(np.eye(dim)) < likelihood(transform) <= likelihood(mixing.T) + 0.01 * count
