"""MFCC with deltas, normalized over each speaker: the features of the GMM system (not of the network)."""

import wave
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.float32]


def compute_mfcc(wav_path: Path) -> Features:
    """Kaldi's 13 MFCC of a 16-bit mono file: float32 ``[num_frames, 13]``, frames as in our filter bank.

    ``compute-mfcc-feats --use-energy=false --dither=0``, by ``torchaudio.compliance.kaldi``.
    """
    import torch
    from torchaudio.compliance import kaldi

    with wave.open(str(wav_path), "rb") as stream:
        sample_frequency = stream.getframerate()
        samples = np.frombuffer(stream.readframes(stream.getnframes()), dtype="<i2").astype(np.float32)
    mfcc = kaldi.mfcc(
        torch.from_numpy(samples)[None], sample_frequency=sample_frequency, use_energy=False, dither=0.0
    )
    return np.asarray(mfcc.numpy(), dtype=np.float32)


def add_deltas(feats: Features) -> Features:
    """Kaldi's ``add-deltas``: ``[num_frames, D]`` to ``[num_frames, 3 D]``.

    The second-order window is the first-order one convolved with itself, over the static features with
    their first and last frames repeated (feat/feature-functions.cc).
    """
    first = np.arange(-2, 3) / 10.0
    parts = [feats]
    for window in (first, np.convolve(first, first)):
        reach = window.size // 2
        padded = np.pad(feats, ((reach, reach), (0, 0)), mode="edge")
        shifted = [weight * padded[offset : offset + len(feats)] for offset, weight in enumerate(window)]
        parts.append(np.sum(shifted, axis=0))
    return np.concatenate(parts, axis=1, dtype=np.float32)


def normalize_speakers(feats: Mapping[str, Features], utt2spk: Mapping[str, str]) -> dict[str, Features]:
    """Subtract each speaker's mean (Kaldi's ``apply-cmvn`` with its default, no variances)."""
    sums: dict[str, NDArray[np.float64]] = {}
    counts: dict[str, int] = {}
    for utt_id, matrix in feats.items():
        speaker = utt2spk[utt_id]
        sums[speaker] = sums.get(speaker, 0.0) + matrix.sum(axis=0, dtype=np.float64)
        counts[speaker] = counts.get(speaker, 0) + len(matrix)
    means = {speaker: (total / counts[speaker]).astype(np.float32) for speaker, total in sums.items()}
    return {utt_id: matrix - means[utt2spk[utt_id]] for utt_id, matrix in feats.items()}
