"""Mean and deviation of the features of a corpus, for the model's input normalization."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset
from tqdm import tqdm

from asr_bn.batches import Corpus
from asr_bn.features.deltas import add_deltas
from asr_bn.ranks import Ranks
from asr_bn.read_ahead import read_ahead


def feature_statistics(
    corpus: Corpus, delta_order: int, num_workers: int = 0, ranks: Ranks = Ranks()
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of each feature, deltas included, over a corpus (pooled in float64).

    Raises:
        ValueError: an utterance cannot be read.
    """
    if len(corpus) < ranks.size:
        raise ValueError(f"{len(corpus)} training utterances for {ranks.size} processes")
    count, total, squares = 0, np.zeros(()), np.zeros(())
    indices = ranks.share(range(len(corpus)))
    blocks = [indices[first : first + 32] for first in range(0, len(indices), 32)]
    with tqdm(
        desc="feature statistics", total=len(indices), unit="utt", delay=2, disable=not ranks.is_first
    ) as bar:
        for block in read_ahead(_Moments(corpus, delta_order), blocks, num_workers):
            for utt_count, utt_total, utt_squares in block:
                count += utt_count
                total = total + utt_total
                squares = squares + utt_squares
            bar.update(len(block))
    sums = ranks.sum(torch.from_numpy(np.concatenate([[count], total, squares]))).numpy()
    num_features = len(sums) // 2
    mean = sums[1 : num_features + 1] / sums[0]
    variance = sums[num_features + 1 :] / sums[0] - np.square(mean)
    # A constant column carries nothing; dividing it by its deviation would make noise of it.
    std = np.sqrt(np.where(variance > 1e-8, variance, 1.0))
    return torch.from_numpy(mean).float(), torch.from_numpy(std).float()


_Sums = tuple[int, NDArray[np.float64], NDArray[np.float64]]


class _Moments(Dataset[list[_Sums]]):
    """For each of several utterances: its frames, and the sums of its features and of their squares."""

    def __init__(self, corpus: Corpus, delta_order: int) -> None:
        self.corpus, self.delta_order = corpus, delta_order

    def __getitem__(self, indices: Sequence[int]) -> list[_Sums]:
        return [self._of(*self.corpus[index]) for index in indices]

    def _of(self, utt_id: str, feats: NDArray[np.float32], pdf_ids: NDArray[np.int32]) -> _Sums:
        with_deltas = add_deltas(feats, self.delta_order).astype(np.float64)
        total = with_deltas.sum(0)
        if not np.isfinite(total).all():
            raise ValueError(
                f"{utt_id}: {self.corpus.feats.rxfilename(utt_id)}: features that are NaN or infinite"
            )
        return len(pdf_ids), total, np.square(with_deltas).sum(0)
