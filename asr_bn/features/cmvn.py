"""Cepstral mean and variance normalization with Kaldi's statistics (``src/transform/cmvn.cc``).

Statistics are a float64 matrix ``[2, D + 1]``: sums and the number of frames, then sums of squares and 0.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from asr_bn.kaldi_io.binary import BINARY_MARK
from asr_bn.kaldi_io.matrix import read_matrix
from asr_bn.kaldi_io.matrix_table import MatrixWriter, read_matrices
from asr_bn.kaldi_io.rxfilename import open_input
from asr_bn.kaldi_io.script_file import read_lines

Stats = NDArray[np.float64]
Floats = NDArray[np.float32]
_VARIANCE_FLOOR = 1.0e-20
_STATS_ROWS = 2
GLOBAL = "global"
"""The id of the statistics of a whole corpus in a table."""


def accumulate_stats(feats: NDArray[np.floating]) -> Stats:
    """Statistics ``[2, D + 1]`` of features ``[num_frames, D]``; add them up for a speaker or a corpus."""
    values = np.asarray(feats, dtype=np.float64)
    stats = np.zeros((_STATS_ROWS, values.shape[1] + 1))
    stats[0, :-1] = values.sum(axis=0)
    stats[1, :-1] = np.square(values).sum(axis=0)
    stats[0, -1] = len(values)
    return stats


def compute_stats(
    feats: Iterable[tuple[str, NDArray[np.floating]]], utt2spk: Mapping[str, str] | None = None
) -> dict[str, Stats]:
    """Statistics of each utterance or, with ``utt2spk``, of each speaker, from ids and features.

    For statistics of a whole corpus let ``utt2spk`` give every utterance the same speaker.

    Raises:
        ValueError: an utterance without a speaker, or features of another width.
    """
    stats: dict[str, Stats] = {}
    for utt_id, matrix in feats:
        if utt2spk is not None and utt_id not in utt2spk:
            raise ValueError(f"{utt_id}: has no speaker in utt2spk")
        if matrix.size == 0:
            continue  # as Kaldi: an utterance without frames has no part in them
        key = utt_id if utt2spk is None else utt2spk[utt_id]
        added = accumulate_stats(matrix)
        if key in stats and stats[key].shape != added.shape:
            raise ValueError(f"{utt_id}: {matrix.shape[1]} columns, but {stats[key].shape[1] - 1} before")
        stats[key] = stats[key] + added if key in stats else added
    return stats


def apply_cmvn(feats: NDArray[np.floating], stats: Stats, norm_vars: bool = False) -> Floats:
    """Features ``[num_frames, D]`` minus the mean and, with ``norm_vars``, over the deviation.

    The arithmetic is ``ApplyCmvn``'s: the variance is floored at 1e-20, offset and scale are in float64.

    Raises:
        ValueError: statistics of another width, or of no frames.
    """
    if feats.size == 0:
        return np.asarray(feats, dtype=np.float32)
    if stats.shape != (_STATS_ROWS, feats.shape[1] + 1):
        raise ValueError(
            f"CMVN statistics of shape {stats.shape}, expected {(_STATS_ROWS, feats.shape[1] + 1)}"
        )
    count = stats[0, -1]
    if count < 1.0:
        raise ValueError(f"CMVN statistics of {count:g} frames, expected at least 1")
    mean = stats[0, :-1] / count
    scale = np.ones_like(mean)
    if norm_vars:
        variance = np.maximum(stats[1, :-1] / count - np.square(mean), _VARIANCE_FLOOR)
        scale = 1.0 / np.sqrt(variance)
    normalized: Floats = (np.asarray(feats, dtype=np.float32) * scale - mean * scale).astype(np.float32)
    return normalized


def read_stats(rspecifier: str | Path, root: Path | None = None) -> dict[str, Stats]:
    """Kaldi's ``cmvn.scp`` or archive: statistics by speaker (or utterance).

    Raises:
        ValueError: a matrix that is not CMVN statistics.
    """
    stats = {}
    for key, matrix in read_matrices(rspecifier, root):
        if matrix.shape[0] != _STATS_ROWS or matrix.shape[1] < _STATS_ROWS:
            raise ValueError(f"{key}: {rspecifier}: a matrix of {matrix.shape}, expected CMVN statistics")
        stats[key] = np.asarray(matrix, dtype=np.float64)
    return stats


def read_global_stats(path: Path) -> Stats:
    """Statistics of a whole corpus: a file with one matrix and no key, as ``compute-cmvn-stats`` writes."""
    with open_input(str(path)) as stream:
        stats = np.asarray(read_matrix(stream, str(path)), dtype=np.float64)
    if stats.shape[0] != _STATS_ROWS:
        raise ValueError(f"{path}: a matrix of {stats.shape}, expected CMVN statistics")
    return stats


@dataclass(frozen=True)
class Cmvn:
    """Normalizes utterances with the statistics of their speaker, their own, or the whole corpus.

    Attributes:
        stats: by speaker or utterance; the key None has those of the whole corpus.
        utt2spk: speaker by utterance, if the statistics are by speaker.
        norm_vars: divide by the deviation too.
    """

    stats: Mapping[str | None, Stats]
    utt2spk: Mapping[str, str]
    norm_vars: bool

    @classmethod
    def load(cls, source: str, utt2spk: Mapping[str, str], norm_vars: bool) -> "Cmvn":
        """``source`` is a table (``cmvn.scp``, ``ark:...``), or a file with one matrix for all.

        Raises:
            OSError: no such file.
            ValueError: not CMVN statistics.
        """
        if ":" not in source and not source.endswith(".scp"):
            with open_input(source) as stream:
                is_matrix = stream.read(2) in (BINARY_MARK, b" [")
            if is_matrix:
                return cls({None: read_global_stats(Path(source))}, utt2spk, norm_vars)
        stats: dict[str | None, Stats] = dict(read_stats(source).items())
        if set(stats) == {GLOBAL}:
            stats[None] = stats.pop(GLOBAL)
        return cls(stats, utt2spk, norm_vars)

    def apply(self, utt_id: str, feats: NDArray[np.floating]) -> Floats:
        """Normalize an utterance's features ``[num_frames, D]``.

        Raises:
            ValueError: there are no statistics for it, or they do not fit.
        """
        for key in (utt_id, self.utt2spk.get(utt_id), None):
            if key in self.stats:
                try:
                    return apply_cmvn(feats, self.stats[key], self.norm_vars)
                except ValueError as error:
                    raise ValueError(f"{utt_id}: {error}") from error
        raise ValueError(f"{utt_id}: no CMVN statistics for it or its speaker {self.utt2spk.get(utt_id)!r}")


def write_stats(wspecifier: str | Path, stats: Mapping[str, Stats]) -> None:
    """Write statistics as ``compute-cmvn-stats`` does (float64 matrices)."""
    with MatrixWriter(wspecifier) as writer:
        for key, matrix in stats.items():
            writer.write(key, matrix)


def read_spk2utt(path: Path) -> dict[str, str]:
    """Speaker by utterance, from a ``spk2utt`` file.

    Raises:
        ValueError: an utterance of two speakers.
    """
    utt2spk: dict[str, str] = {}
    for number, line in read_lines(path):
        speaker, *utt_ids = line.split()
        for utt_id in utt_ids:
            if utt_id in utt2spk:
                raise ValueError(f"{utt_id}: twice in {path} (again in line {number})")
            utt2spk[utt_id] = speaker
    return utt2spk
