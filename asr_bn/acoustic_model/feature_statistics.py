"""Mean and deviation of all features of a corpus, which are read and checked before training."""

from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.data import Dataset
from tqdm import tqdm

from asr_bn.data.batches import Corpus, checksum
from asr_bn.data.read_ahead import read_ahead
from asr_bn.features.deltas import add_deltas
from asr_bn.system.arrays import Doubles, Floats, IntVector
from asr_bn.training.ranks import Ranks


def feature_statistics(
    corpus: Corpus, delta_order: int, num_workers: int = 0, ranks: Ranks = Ranks()
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute mean and standard deviation of each feature, deltas included, in float64.

    Reads and checks every utterance, and sets ``corpus.checksums``, by which later changes are noticed.

    Raises:
        ValueError: an utterance cannot be read, is not finite, or is not that of ``corpus.checksums``.
    """
    checksums = np.zeros(len(corpus), dtype=np.int64)
    moments = np.zeros((3, _num_static(corpus) * (delta_order + 1)))  # also of a rank without an utterance
    indices = ranks.share(range(len(corpus)))
    blocks = [indices[first : first + 32] for first in range(0, len(indices), 32)]
    with tqdm(
        desc="feature statistics", total=len(indices), unit="utt", delay=2, disable=not ranks.is_first
    ) as bar:
        for block in read_ahead(_Moments(corpus, delta_order), blocks, num_workers):
            for index, utt_checksum, utt_moments in block:
                checksums[index] = utt_checksum
                moments = moments + utt_moments
            bar.update(len(block))
    corpus.checksums = ranks.sum(torch.from_numpy(checksums)).numpy()
    return _mean_and_deviation(ranks.sum(torch.from_numpy(moments)).numpy())


def _num_static(corpus: Corpus) -> int:
    return corpus.num_static or corpus[0][1].shape[1]


def _mean_and_deviation(moments: Doubles) -> tuple[torch.Tensor, torch.Tensor]:
    count, total, squares = moments
    mean = total / count
    variance = squares / count - np.square(mean)
    # A constant column carries nothing; dividing it by its deviation would make noise of it.
    std = np.sqrt(np.where(variance > 1e-8, variance, 1.0))
    return torch.from_numpy(mean).float(), torch.from_numpy(std).float()


# Of an utterance: its index, its checksum, and frames, sums and sums of squares of each feature, ``[3, F]``.
_Read = tuple[int, int, Doubles]


class _Moments(Dataset[list[_Read]]):
    def __init__(self, corpus: Corpus, delta_order: int) -> None:
        self.corpus, self.delta_order = corpus, delta_order

    def __getitem__(self, indices: Sequence[int]) -> list[_Read]:
        return [self._of(index, *self.corpus[index]) for index in indices]

    def _of(self, index: int, utt_id: str, feats: Floats, pdf_ids: IntVector) -> _Read:
        with np.errstate(over="ignore", invalid="ignore"):  # the sentence below says it better
            with_deltas = add_deltas(feats, self.delta_order).astype(np.float64)
            total = with_deltas.sum(0)
        if not np.isfinite(total).all():
            raise ValueError(
                f"{utt_id}: {self.corpus.feats.rxfilename(utt_id)}: features that are NaN or infinite"
            )
        count = np.full_like(total, len(pdf_ids))
        return index, checksum(feats), np.stack([count, total, np.square(with_deltas).sum(0)])
