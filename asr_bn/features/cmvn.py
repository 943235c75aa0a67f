"""Cepstral mean and variance normalization with Kaldi's statistics (``src/transform/cmvn.cc``).

Statistics are a float64 matrix ``[2, D + 1]``: sums and the number of frames, then sums of squares and 0.
"""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from asr_bn.kaldi_io.matrix import read_matrix
from asr_bn.kaldi_io.matrix_table import MatrixWriter, read_matrices
from asr_bn.kaldi_io.plain_text import WHITESPACE
from asr_bn.kaldi_io.rxfilename import DEFAULT_PIPES, PipePolicy, is_pipe, open_input
from asr_bn.kaldi_io.specifiers import is_specifier, parse_rspecifier
from asr_bn.kaldi_io.utterance_id import prefix_errors
from asr_bn.system.arrays import Doubles, Floats
from asr_bn.system.notes import print_note

Stats = Doubles
_VARIANCE_FLOOR = 1.0e-20
_STATS_ROWS = 2
GLOBAL = "global"
"""The id of the statistics of a whole corpus in a table."""


def accumulate_stats(feats: NDArray[np.floating]) -> Stats:
    """Compute statistics ``[2, D + 1]`` of features ``[num_frames, D]``; those of a corpus are their sum."""
    values = np.asarray(feats, dtype=np.float64)
    stats = np.zeros((_STATS_ROWS, values.shape[1] + 1))
    stats[0, :-1] = values.sum(axis=0)
    stats[1, :-1] = np.square(values).sum(axis=0)
    stats[0, -1] = len(values)
    return stats


def compute_stats(
    feats: Iterable[tuple[str, NDArray[np.floating]]], utt2spk: Mapping[str, str] | None = None
) -> dict[str, Stats]:
    """Compute statistics of each utterance or, with ``utt2spk``, of each speaker, from ids and features.

    For statistics of a whole corpus let ``utt2spk`` give every utterance the speaker `GLOBAL`.  As in Kaldi,
    utterances that ``utt2spk`` lacks are left out, and so are those without frames.  Utterances of
    ``utt2spk`` without features are reported on standard error, and so are features that are not finite, with
    which statistics are not either.  Speakers come in the order of ``utt2spk``.

    Raises:
        ValueError: features of another width, or an utterance that comes twice, which Kaldi too refuses where
            it reads by id; statistics of the whole corpus count it twice, with a note.
    """
    stats: dict[str, Stats] = {}
    missing, seen = dict.fromkeys(utt2spk or ()), set[str]()
    for utt_id, matrix in feats:
        missing.pop(utt_id, None)
        if matrix.size == 0 or (utt2spk is not None and utt_id not in utt2spk):
            continue
        key = utt_id if utt2spk is None else utt2spk[utt_id]
        if utt_id in seen and key != GLOBAL:
            raise ValueError(f"{utt_id}: twice among the features")
        if utt_id in seen:
            print_note(f"{utt_id}: twice among the features, and so in the statistics")
        seen.add(utt_id)
        added = accumulate_stats(matrix)
        if not np.isfinite(added).all():
            print_note(f"{utt_id}: not finite, and so the statistics of {key}")
        if key in stats and stats[key].shape != added.shape:
            raise ValueError(f"{utt_id}: {matrix.shape[1]} columns, but {stats[key].shape[1] - 1} before")
        stats[key] = stats[key] + added if key in stats else added
    if missing:
        shown = ", ".join([*missing][:5]) + (" ..." if len(missing) > 5 else "")
        print(f"{len(missing)} utterances have no features: {shown}", file=sys.stderr)
    in_order = dict.fromkeys((utt2spk or {}).values())
    return {key: stats[key] for key in in_order if key in stats} | stats


def apply_cmvn(feats: NDArray[np.floating], stats: Stats, norm_vars: bool = False) -> Floats:
    """Subtract the mean from features ``[num_frames, D]`` and, with ``norm_vars``, divide by the deviation.

    The arithmetic is ``ApplyCmvn``'s: the variance is floored at 1e-20, offset and scale are in float64.

    Raises:
        ValueError: statistics of another width, of no frames, or without the variances that are asked for.
    """
    if feats.size == 0:
        return np.asarray(feats, dtype=np.float32)
    if stats.shape[0] not in (1, _STATS_ROWS) or stats.shape[1] != feats.shape[1] + 1:
        raise ValueError(
            f"CMVN statistics of shape {stats.shape}, expected {(_STATS_ROWS, feats.shape[1] + 1)}"
        )
    if norm_vars and stats.shape[0] == 1:
        raise ValueError("CMVN statistics of means only cannot normalize the variance")
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


def read_stats(
    rspecifier: str | Path, root: Path | None = None, pipes: PipePolicy = DEFAULT_PIPES
) -> dict[str, Stats]:
    """Read Kaldi's ``cmvn.scp`` or archive: statistics by speaker (or utterance).

    Raises:
        ValueError: a matrix that is not CMVN statistics.
    """
    entries = read_matrices(rspecifier, root, pipes, text_dtype=np.float64)
    stats = {key: _checked(matrix, f"{key}: {rspecifier}") for key, matrix in entries}
    if not stats:
        raise ValueError(f"{rspecifier}: no CMVN statistics in it")
    return stats


def read_global_stats(path: str | Path, pipes: PipePolicy = DEFAULT_PIPES) -> Stats:
    """Read a corpus's statistics: one matrix without a key, as ``compute-cmvn-stats`` writes to a file."""
    with open_input(str(path), pipes=pipes) as stream:
        return _checked(read_matrix(stream, str(path), text_dtype=np.float64), str(path))


def _checked(matrix: NDArray[np.floating], where: str) -> Stats:
    """Check statistics, one row of sums or also one of sums of squares, and convert them to float64."""
    if matrix.shape[0] not in (1, _STATS_ROWS) or matrix.shape[1] < 2:
        raise ValueError(f"{where}: a matrix of {matrix.shape}, expected CMVN statistics")
    if not np.isfinite(matrix).all():
        raise ValueError(f"{where}: CMVN statistics that are not finite")
    return np.asarray(matrix, dtype=np.float64)


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
    def load(
        cls,
        source: str,
        utt2spk: Mapping[str, str],
        norm_vars: bool,
        root: Path | None = None,
        pipes: PipePolicy = DEFAULT_PIPES,
    ) -> "Cmvn":
        """Read the statistics of ``source``, with which utterances are normalized.

        Args:
            source: a table (``cmvn.scp``, ``ark:...``), or one matrix for all: a file, a place in an archive
                (``cmvn.ark:4``), a pipe.
            root: where names inside a script file start from.

        Raises:
            OSError: no such file.
            ValueError: not CMVN statistics.
        """
        is_script = parse_rspecifier(source).is_script
        if not is_script and not is_specifier(source) and _is_matrix(source):
            return cls({None: read_global_stats(source, pipes)}, utt2spk, norm_vars)
        stats: dict[str | None, Stats] = dict(read_stats(source, root if is_script else None, pipes).items())
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
                with prefix_errors(utt_id):
                    return apply_cmvn(feats, self.stats[key], self.norm_vars)
        raise ValueError(f"{utt_id}: no CMVN statistics for it or its speaker {self.utt2spk.get(utt_id)!r}")


def _is_matrix(rxfilename: str) -> bool:
    """Return False for an archive, which begins with a key; a pipe or FIFO holds a matrix, as in Kaldi."""
    if is_pipe(rxfilename) or rxfilename in ("", "-") or Path(rxfilename).is_fifo():
        return True
    with open_input(rxfilename) as stream:
        return stream.read(64).lstrip(WHITESPACE.encode())[:1] in (b"\0", b"[")


def write_stats(wspecifier: str | Path, stats: Mapping[str, Stats]) -> None:
    """Write statistics as ``compute-cmvn-stats`` does (float64 matrices)."""
    with MatrixWriter(wspecifier) as writer:
        for key, matrix in stats.items():
            writer.write(key, matrix)
