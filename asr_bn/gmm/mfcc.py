"""MFCC with deltas, normalized over each speaker: the features of the GMM system (not of the network)."""

from collections.abc import Mapping
from functools import cache

import numpy as np
from numpy.typing import NDArray

from asr_bn.features.filterbank import fbank
from asr_bn.features.options import FbankOptions
from asr_bn.system.arrays import Doubles, Floats

# Kaldi's defaults (feat/feature-mfcc.h).
NUM_CEPS = 13
NUM_MEL_BINS = 23
CEPSTRAL_LIFTER = 22.0


def mel_options(sample_frequency: float) -> FbankOptions:
    """Return the options of the log mel filter bank below the cepstra."""
    return FbankOptions(sample_frequency=sample_frequency, num_mel_bins=NUM_MEL_BINS, use_energy=False)


def compute_mfcc(samples: NDArray[np.floating], sample_frequency: float) -> Floats:
    """Compute ``compute-mfcc-feats --use-energy=false --dither=0``: float32 ``[num_frames, 13]``.

    ``samples`` are in int16 range.  Source: feat/feature-mfcc.cc, on our log mel filter bank.
    """
    return cepstra(fbank(samples, mel_options(sample_frequency)))


def cepstra(log_mel: NDArray[np.floating]) -> Floats:
    """Transform a log mel filter bank, ``[num_frames, NUM_MEL_BINS]``."""
    return (log_mel @ _cepstral_transform()).astype(np.float32)


@cache
def _cepstral_transform() -> Doubles:
    """Orthonormal type II DCT and liftering as one matrix, ``[NUM_MEL_BINS, NUM_CEPS]``."""
    ceps = np.arange(NUM_CEPS)
    angles = np.pi / NUM_MEL_BINS * np.outer(np.arange(NUM_MEL_BINS) + 0.5, ceps)
    norms = np.where(ceps == 0, np.sqrt(1.0 / NUM_MEL_BINS), np.sqrt(2.0 / NUM_MEL_BINS))
    lifter = 1.0 + 0.5 * CEPSTRAL_LIFTER * np.sin(np.pi * ceps / CEPSTRAL_LIFTER)
    transform: Doubles = np.cos(angles) * norms * lifter
    return transform


def normalize_speakers(feats: Mapping[str, Floats], utt2spk: Mapping[str, str]) -> dict[str, Floats]:
    """Subtract each speaker's mean (Kaldi's ``apply-cmvn`` with its default, no variances)."""
    sums: dict[str, Doubles] = {}
    counts: dict[str, int] = {}
    for utt_id, matrix in feats.items():
        speaker = utt2spk[utt_id]
        sums[speaker] = sums.get(speaker, 0.0) + matrix.sum(axis=0, dtype=np.float64)
        counts[speaker] = counts.get(speaker, 0) + len(matrix)
    means = {speaker: (total / counts[speaker]).astype(np.float32) for speaker, total in sums.items()}
    return {utt_id: matrix - means[utt2spk[utt_id]] for utt_id, matrix in feats.items()}


def splice(feats: Floats, context: int) -> Floats:
    """Put ``context`` frames on either side beside each one, with the first and last repeated."""
    padded = np.pad(feats, ((context, context), (0, 0)), mode="edge")
    return np.concatenate([padded[k : k + len(feats)] for k in range(2 * context + 1)], axis=1)
