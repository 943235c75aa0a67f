"""Utterances with their pdf-ids, and the mini-batches of an epoch."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from asr_bn.kaldi_io.matrix_table import MatrixScp

# Utterances are sorted by length within pools of this many mini-batches, so that a mini-batch holds
# similar lengths while the order of an epoch stays random.
POOL_BATCHES = 32


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


@dataclass(frozen=True)
class Skipped:
    """Utterances left out of a corpus, and why."""

    without_alignment: int
    too_long: int


class Corpus(Dataset[tuple[str, NDArray[np.float32], NDArray[np.int32]]]):
    """Utterances that have both features and an alignment, in the order of ``feats.scp``.

    Features stay on disk and are read when they are asked for.

    Args:
        feats: the features, by ``utt_id``.
        pdf_ids: the alignment of every utterance.
        max_frames: longer utterances are left out; None keeps all.

    Raises:
        ValueError: an alignment does not have as many frames as its features, or nothing is left.
    """

    def __init__(
        self, feats: MatrixScp, pdf_ids: dict[str, NDArray[np.int32]], max_frames: int | None = None
    ) -> None:
        self.feats, self.pdf_ids = feats, pdf_ids
        aligned = [utt_id for utt_id in feats.keys() if utt_id in pdf_ids]  # noqa: SIM118
        num_frames = {utt_id: feats.num_frames(utt_id) for utt_id in aligned}
        _check_lengths(num_frames, pdf_ids)
        self.utt_ids = [u for u in aligned if max_frames is None or num_frames[u] <= max_frames]
        self.num_frames = np.array([num_frames[u] for u in self.utt_ids], dtype=np.int64)
        self.skipped = Skipped(len(feats) - len(aligned), len(aligned) - len(self.utt_ids))
        if not self.utt_ids:
            raise ValueError(
                f"{feats.path}: none of its {len(feats)} utterances can be used: {len(aligned)} have an "
                f"alignment, 0 of these have at most {max_frames} frames"
            )

    @classmethod
    def load(cls, feats_dir: Path, pdf_ids: dict[str, NDArray[np.int32]], max_frames: int | None) -> "Corpus":
        """The corpus of ``feats_dir/feats.scp``."""
        return cls(MatrixScp(feats_dir / "feats.scp"), pdf_ids, max_frames)

    def __len__(self) -> int:
        return len(self.utt_ids)

    def __getitem__(self, index: int) -> tuple[str, NDArray[np.float32], NDArray[np.int32]]:
        utt_id = self.utt_ids[index]
        return utt_id, np.asarray(self.feats[utt_id], dtype=np.float32), self.pdf_ids[utt_id]

    def fingerprint(self) -> str:
        """SHA-256 over the names, lengths and pdf-ids."""
        digest = hashlib.sha256()
        for utt_id in self.utt_ids:
            digest.update(utt_id.encode() + b"\0" + self.pdf_ids[utt_id].tobytes())
        return digest.hexdigest()


def _check_lengths(num_frames: dict[str, int], pdf_ids: dict[str, NDArray[np.int32]]) -> None:
    for utt_id, frames in num_frames.items():
        if frames != len(pdf_ids[utt_id]):
            raise ValueError(f"{utt_id}: {frames} feature frames, {len(pdf_ids[utt_id])} aligned pdf-ids")


def epoch_batches(num_frames: NDArray[np.int64], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """The mini-batches of an epoch: indices of utterances of similar length, in a random order.

    The same ``seed`` and ``epoch`` give the same batches on every machine.
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(num_frames))
    batches = []
    for start in range(0, len(order), POOL_BATCHES * batch_size):
        pool = order[start : start + POOL_BATCHES * batch_size]
        pool = pool[np.argsort(num_frames[pool], kind="stable")]
        batches += [pool[first : first + batch_size].tolist() for first in range(0, len(pool), batch_size)]
    return [batches[k] for k in random.permutation(len(batches))]


def sorted_batches(num_frames: NDArray[np.int64], batch_size: int) -> list[list[int]]:
    """Every utterance once, batched from the shortest to the longest, for evaluation."""
    order = np.argsort(num_frames, kind="stable").tolist()
    return [order[first : first + batch_size] for first in range(0, len(order), batch_size)]


def load_batches(corpus: Corpus, batches: Sequence[list[int]], num_workers: int = 0) -> Iterator[Batch]:
    """Read ``batches`` (lists of indices into ``corpus``), ahead of time with ``num_workers`` processes."""
    # A generator of its own: the loader's seed must not come from the one that dropout draws from, which
    # a resumed epoch has to find as it was.
    generator = torch.Generator().manual_seed(0)
    return iter(
        DataLoader(
            corpus, batch_sampler=batches, collate_fn=collate, num_workers=num_workers, generator=generator
        )
    )


def collate(utterances: Sequence[tuple[str, NDArray[np.float32], NDArray[np.int32]]]) -> Batch:
    """Pad utterances with zeros to the longest."""
    lengths = [len(pdf_ids) for _, _, pdf_ids in utterances]
    feats = torch.zeros(len(utterances), max(lengths), utterances[0][1].shape[1])
    padded_pdf_ids = torch.zeros(len(utterances), max(lengths), dtype=torch.int64)
    for row, (_, utt_feats, pdf_ids) in enumerate(utterances):
        feats[row, : lengths[row]] = torch.from_numpy(utt_feats)
        padded_pdf_ids[row, : lengths[row]] = torch.from_numpy(pdf_ids)
    return Batch([utt_id for utt_id, _, _ in utterances], feats, padded_pdf_ids, torch.tensor(lengths))
