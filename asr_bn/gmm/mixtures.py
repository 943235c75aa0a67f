"""Diagonal Gaussian mixtures for every pdf: Kaldi's E and M steps and mixing up, over arrays.

``kaldi-hmm-gmm`` has them too, but accumulates a frame at a time from Python, and its splitting draws from
an unseeded generator; alignments have to come out the same every time.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import kaldi_hmm_gmm as khg
import numpy as np
from scipy.special import logsumexp, softmax

from asr_bn.system.arrays import Doubles, Floats

# Kaldi's defaults (gmm/mle-diag-gmm.h, gmmbin/gmm-est.cc, steps/train_mono.sh).
MIN_VARIANCE = 0.001
PERTURB_FACTOR = 0.01
POWER = 0.25
MIN_COUNT = 20.0


@dataclass(frozen=True)
class Mixture:
    """One pdf: ``weights`` ``[num_gauss]``, ``means`` and ``variances`` ``[num_gauss, dim]``."""

    weights: Doubles
    means: Doubles
    variances: Doubles

    def log_likelihoods(self, feats: Floats) -> Doubles:
        """Return log likelihoods ``[num_frames, num_gauss]``, weights included."""
        precisions = 1.0 / self.variances
        constants = np.log(self.weights) - 0.5 * (
            self.means.shape[1] * np.log(2 * np.pi)
            + np.log(self.variances).sum(axis=1)
            + (self.means**2 * precisions).sum(axis=1)
        )
        frames = feats.astype(np.float64)
        scores: Doubles = constants + frames @ (self.means * precisions).T - 0.5 * (frames**2 @ precisions.T)
        return scores


@dataclass(frozen=True)
class MixtureStats:
    """Sums over frames weighted by each Gaussian's posterior: ``[num_gauss]``, ``[num_gauss, dim]`` twice.

    ``log_likelihood`` is the sum of the frames' own.
    """

    counts: Doubles
    sums: Doubles
    squares: Doubles
    log_likelihood: float

    def __add__(self, other: "MixtureStats") -> "MixtureStats":
        return MixtureStats(
            self.counts + other.counts,
            self.sums + other.sums,
            self.squares + other.squares,
            self.log_likelihood + other.log_likelihood,
        )


@dataclass(frozen=True)
class ModelStats:
    """The E step: for each pdf its mixture's statistics, and the count of each transition-id."""

    mixtures: list[MixtureStats]
    transitions: Doubles

    def __add__(self, other: "ModelStats") -> "ModelStats":
        pairs = zip(self.mixtures, other.mixtures, strict=True)
        return ModelStats([one + two for one, two in pairs], self.transitions + other.transitions)

    def log_likelihood(self) -> float:
        """Return that of a frame, on average."""
        num_frames = float(self.transitions.sum())
        return sum(mixture.log_likelihood for mixture in self.mixtures) / max(1.0, num_frames)


def accumulate(mixture: Mixture, feats: Floats) -> MixtureStats:
    """Do the E step for the frames ``[num_frames, dim]`` that are aligned to one pdf."""
    scores = mixture.log_likelihoods(feats)
    posteriors, total = softmax(scores, axis=1), float(logsumexp(scores, axis=1).sum())
    frames = feats.astype(np.float64)
    return MixtureStats(posteriors.sum(axis=0), posteriors.T @ frames, posteriors.T @ frames**2, total)


def update(mixture: Mixture, stats: MixtureStats, min_occupancy: float) -> Mixture:
    """Do the M step (``MleDiagGmmUpdate``); Gaussians below ``min_occupancy`` go, unless all would."""
    kept = stats.counts >= min_occupancy
    if not kept.any():
        return mixture
    counts = stats.counts[kept]
    means = stats.sums[kept] / counts[:, None]
    variances = np.maximum(stats.squares[kept] / counts[:, None] - means**2, MIN_VARIANCE)
    return Mixture(counts / counts.sum(), means, variances)


def split_targets(counts: Sequence[float], target: int) -> list[int]:
    """Share ``target`` Gaussians among the pdfs (``GetSplitTargets`` in gmm/model-common.cc).

    They are dealt one by one to the pdf with the most ``count ** POWER`` a Gaussian.  A pdf
    keeps more than ``MIN_COUNT`` frames for each of its own.
    """
    num_gauss = [1] * len(counts)
    queue = [(-(count**POWER), pdf) for pdf, count in enumerate(counts)]
    heapq.heapify(queue)
    remaining = target - len(counts)
    while remaining > 0 and queue:
        _, pdf = heapq.heappop(queue)
        if (num_gauss[pdf] + 1) * MIN_COUNT >= counts[pdf]:
            continue
        num_gauss[pdf] += 1
        remaining -= 1
        heapq.heappush(queue, (-(counts[pdf] ** POWER) / num_gauss[pdf], pdf))
    return num_gauss


def split(mixture: Mixture, num_gauss: int, rng: np.random.Generator) -> Mixture:
    """Halve the heaviest Gaussian until there are ``num_gauss``, the halves apart (``DiagGmm::Split``)."""
    weights, means, variances = list(mixture.weights), list(mixture.means), list(mixture.variances)
    while len(weights) < num_gauss:
        heaviest = int(np.argmax(weights))
        weights[heaviest] /= 2
        shift = PERTURB_FACTOR * np.sqrt(variances[heaviest]) * rng.standard_normal(variances[heaviest].size)
        weights.append(weights[heaviest])
        means.append(means[heaviest] + shift)
        means[heaviest] = means[heaviest] - shift
        variances.append(variances[heaviest])
    return Mixture(np.array(weights), np.array(means), np.array(variances))


def reestimate(
    mixtures: Sequence[Mixture],
    stats: ModelStats,
    num_gauss: int,
    min_occupancy: float,
    rng: np.random.Generator,
) -> list[Mixture]:
    """Do the M step for every pdf, then mix up to ``num_gauss`` in all (``gmm-est``)."""
    targets = split_targets([float(of_pdf.counts.sum()) for of_pdf in stats.mixtures], num_gauss)
    return [
        split(update(mixture, of_pdf, min_occupancy), target, rng)
        for mixture, of_pdf, target in zip(mixtures, stats.mixtures, targets, strict=True)
    ]


def total(stats: Sequence[ModelStats]) -> ModelStats:
    """Sum the statistics of all shards, in their order."""
    return reduce(add, stats)


def to_am_diag_gmm(
    mixtures: Sequence[Mixture], boosted: Sequence[int] = (), boost: float = 1.0
) -> khg.AmDiagGmm:
    """Return Kaldi's acoustic model; weights of ``boosted`` pdfs are multiplied (``gmm-boost-silence``)."""
    model = khg.AmDiagGmm()
    for pdf, mixture in enumerate(mixtures):
        gmm = khg.DiagGmm(nmix=mixture.weights.size, dim=mixture.means.shape[1])
        factor = boost if pdf in boosted else 1.0
        gmm.set_weights((mixture.weights * factor).astype(np.float32))
        precisions = (1.0 / mixture.variances).astype(np.float32)
        gmm.set_invvars_and_means(precisions, mixture.means.astype(np.float32))
        gmm.compute_gconsts()
        model.add_pdf(gmm)
    return model
