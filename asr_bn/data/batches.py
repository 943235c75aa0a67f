"""Utterances with their pdf-ids, and the mini-batches of an epoch."""

import hashlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from asr_bn.data.read_ahead import read_ahead
from asr_bn.kaldi_io.data_dir import read_utt2num_frames
from asr_bn.kaldi_io.matrix_headers import count_frames
from asr_bn.kaldi_io.matrix_table import MatrixScp
from asr_bn.system.arrays import Floats, IntVector

# Utterances are sorted by length within pools of this many mini-batches.  A mini-batch then holds similar
# lengths, while the order of an epoch stays random.
POOL_BATCHES = 32

Utterance = tuple[str, Floats, IntVector]


@dataclass(frozen=True)
class Batch:
    """Utterances padded to the longest.

    Attributes:
        utt_ids: names.
        feats: static features, shape ``[batch, frames, num_static]``.
        pdf_ids: shape ``[batch, frames]``, zero in the padding.
        lengths: frames of every utterance, shape ``[batch]``.
    """

    utt_ids: list[str]
    feats: Tensor
    pdf_ids: Tensor
    lengths: Tensor

    def pin_memory(self) -> "Batch":
        """Copy to pinned memory, which a GPU reads while the program goes on."""
        return Batch(self.utt_ids, self.feats.pin_memory(), self.pdf_ids.pin_memory(), self.lengths)


@dataclass(frozen=True)
class Skipped:
    """Utterances left out of a corpus, and why."""

    without_alignment: int
    too_long: int
    without_frames: int


class Corpus(Dataset[Utterance]):
    """Utterances that have both features and an alignment, in the order of ``feats.scp``.

    Features stay on disk and are read when they are asked for; alignments are held as one array.

    Args:
        feats: the features, by ``utt_id``.
        pdf_ids: the alignment of every utterance.
        max_frames: longer utterances are left out; None keeps all.
        utt2num_frames: known lengths.  One that agrees with the alignment is trusted until the features are
            read, any other is looked up in the archive.
        num_static: columns that the features must have; None takes any.

    Attributes:
        checksums: of each utterance's features as a run found them; None until it has read them all.

    Raises:
        ValueError: an alignment does not have as many frames as its features, or nothing is left.
    """

    def __init__(
        self,
        feats: MatrixScp,
        pdf_ids: Mapping[str, IntVector],
        max_frames: int | None = None,
        utt2num_frames: Mapping[str, int] | None = None,
        num_static: int | None = None,
    ) -> None:
        self.feats, self.num_static = feats, num_static
        self.checksums: NDArray[np.int64] | None = None
        aligned = [utt_id for utt_id in feats if utt_id in pdf_ids]
        lengths = {utt_id: len(pdf_ids[utt_id]) for utt_id in aligned}
        known = utt2num_frames or {}
        _check_lengths(count_frames(feats, [u for u in aligned if known.get(u) != lengths[u]]), lengths)
        too_long = {u for u in aligned if max_frames is not None and lengths[u] > max_frames}
        self.utt_ids = [u for u in aligned if lengths[u] and u not in too_long]
        self.num_frames = np.array([lengths[u] for u in self.utt_ids], dtype=np.int64)
        num_empty = len(aligned) - len(too_long) - len(self.utt_ids)
        self.skipped = Skipped(len(feats) - len(aligned), len(too_long), num_empty)
        if not self.utt_ids:
            over = "" if max_frames is None else f", {len(too_long)} over {max_frames}"
            raise ValueError(
                f"{feats.path}: none of its {len(feats)} utterances can be used: {len(aligned)} have an "
                f"alignment; of these {num_empty} have no frames{over}"
            )
        self._ends = np.cumsum(self.num_frames)
        self._pdf_ids = _joined([pdf_ids[u] for u in self.utt_ids])

    @classmethod
    def load(
        cls,
        feats_dir: Path,
        pdf_ids: Mapping[str, IntVector],
        max_frames: int | None,
        num_static: int | None = None,
    ) -> "Corpus":
        """Load the corpus of ``feats_dir/feats.scp``, with ``feats_dir/utt2num_frames`` if there is one."""
        known = read_utt2num_frames(feats_dir / "utt2num_frames")
        return cls(MatrixScp(feats_dir / "feats.scp"), pdf_ids, max_frames, known, num_static)

    def __len__(self) -> int:
        return len(self.utt_ids)

    def __getitem__(self, index: int) -> Utterance:
        """Return name, static features ``[num_frames, num_static]`` and pdf-ids ``[num_frames]``.

        Raises:
            ValueError: the features cannot be read, are of another shape than expected, or are not those
                of ``checksums``.
        """
        utt_id, pdf_ids = self.utt_ids[index], self.pdf_ids(index)
        feats = np.asarray(self.feats[utt_id], dtype=np.float32)
        if problem := self._problem(index, feats, len(pdf_ids)):
            raise ValueError(f"{utt_id}: {self.feats.rxfilename(utt_id)}: {problem}")
        return utt_id, feats, pdf_ids

    def _problem(self, index: int, feats: Floats, num_aligned: int) -> str | None:
        if len(feats) != num_aligned:
            return f"{len(feats)} feature frames, {num_aligned} aligned pdf-ids"
        if self.num_static not in (None, feats.shape[1]):
            return f"features of {feats.shape[1]} dimensions, fbank.conf makes {self.num_static}"
        if self.checksums is not None and self.checksums[index] != checksum(feats):
            return "its features have changed since the run began; put back those that it began with"
        return None

    def pdf_ids(self, index: int) -> IntVector:
        """Return the alignment of an utterance, int32 ``[num_frames]``."""
        end = self._ends[index]
        return self._pdf_ids[end - self.num_frames[index] : end].astype(np.int32)

    def fingerprint(self) -> str:
        """Compute the SHA-256 over names, lengths and pdf-ids."""
        digest = hashlib.sha256()
        for index, utt_id in enumerate(self.utt_ids):
            digest.update(utt_id.encode() + b"\0" + self.pdf_ids(index).tobytes())
        return digest.hexdigest()


def checksum(feats: Floats) -> int:
    """Compute the CRC-32 of an utterance's features."""
    return zlib.crc32(np.ascontiguousarray(feats).data)


def _check_lengths(num_frames: Mapping[str, int], num_aligned: Mapping[str, int]) -> None:
    for utt_id, frames in num_frames.items():
        if frames != num_aligned[utt_id]:
            raise ValueError(f"{utt_id}: {frames} feature frames, {num_aligned[utt_id]} aligned pdf-ids")


def _joined(pdf_ids: Sequence[IntVector]) -> NDArray[np.uint16] | IntVector:
    """Concatenate all alignments, in half the memory if the pdf-ids allow it."""
    largest = max((int(vector.max()) for vector in pdf_ids if len(vector)), default=0)
    if largest < 1 << 16:
        return np.concatenate(pdf_ids, dtype=np.uint16, casting="unsafe")
    return np.concatenate(pdf_ids)


def epoch_batches(
    num_frames: NDArray[np.int64], batch_size: int, seed: int, epoch: int, batch_frames: int | None = None
) -> list[list[int]]:
    """Draw the mini-batches of an epoch: indices of utterances of similar length, in a random order.

    The same ``seed`` and ``epoch`` give the same batches on every machine.

    Args:
        num_frames: of every utterance.
        batch_size: utterances of a mini-batch.
        batch_frames: most padded frames of a mini-batch, instead of ``batch_size`` (a longer utterance is a
            mini-batch by itself); None uses ``batch_size``.
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(num_frames))
    pool_size = POOL_BATCHES * batch_size
    if batch_frames is not None:
        pool_size = POOL_BATCHES * max(1, int(batch_frames // num_frames.mean()))
    batches = []
    for start in range(0, len(order), pool_size):
        pool = order[start : start + pool_size]
        pool = pool[np.argsort(num_frames[pool], kind="stable")]
        batches += _cut(pool.tolist(), num_frames, batch_size, batch_frames)
    return [batches[k] for k in random.permutation(len(batches))]


def sorted_batches(
    num_frames: NDArray[np.int64], batch_size: int, batch_frames: int | None = None
) -> list[list[int]]:
    """Batch every utterance once, from the shortest to the longest, for evaluation."""
    return _cut(np.argsort(num_frames, kind="stable").tolist(), num_frames, batch_size, batch_frames)


def _cut(
    by_length: list[int], num_frames: NDArray[np.int64], batch_size: int, batch_frames: int | None
) -> list[list[int]]:
    if batch_frames is None:
        return [by_length[first : first + batch_size] for first in range(0, len(by_length), batch_size)]
    batches: list[list[int]] = []
    batch: list[int] = []
    for index in by_length:
        # Lengths rise, so that the next one is what the batch would be padded to.
        if batch and (len(batch) + 1) * num_frames[index] > batch_frames:
            batches.append(batch)
            batch = []
        batch.append(index)
    return [*batches, batch] if batch else batches


def load_batches(
    corpus: Corpus, batches: Sequence[list[int]], num_workers: int = 0, pin_memory: bool = False
) -> Iterator[Batch]:
    """Read ``batches`` (lists of indices into ``corpus``), ahead of time with ``num_workers`` processes.

    Raises:
        ValueError: an utterance cannot be read (the sentence names it and its file).
    """
    return read_ahead(_BatchReader(corpus), batches, num_workers, pin_memory)


class _BatchReader(Dataset[Batch]):
    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus

    def __getitem__(self, indices: list[int]) -> Batch:
        return collate([self.corpus[index] for index in indices])


def collate(utterances: Sequence[Utterance]) -> Batch:
    """Pad utterances with zeros to the longest; no utterances make an empty batch.

    Raises:
        ValueError: features of unlike dimensions.
    """
    lengths = [len(pdf_ids) for _, _, pdf_ids in utterances]
    num_static = utterances[0][1].shape[1] if utterances else 0
    feats = torch.zeros(len(utterances), max(lengths, default=0), num_static)
    padded_pdf_ids = torch.zeros(feats.shape[:2], dtype=torch.int64)
    for row, (utt_id, utt_feats, pdf_ids) in enumerate(utterances):
        if utt_feats.shape[1] != num_static:
            raise ValueError(
                f"{utt_id}: features of {utt_feats.shape[1]} dimensions, those of {utterances[0][0]} have "
                f"{num_static}"
            )
        feats[row, : lengths[row]] = torch.from_numpy(utt_feats)
        padded_pdf_ids[row, : lengths[row]] = torch.from_numpy(pdf_ids)
    return Batch([utt_id for utt_id, _, _ in utterances], feats, padded_pdf_ids, torch.tensor(lengths))
