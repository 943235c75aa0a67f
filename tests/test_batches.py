"""Mini-batches: every utterance once an epoch, similar lengths together, the same on every machine."""

import numpy as np
import pytest

from asr_bn.batches import Corpus, collate, epoch_batches, sorted_batches
from asr_bn.kaldi_io.matrix_table import MatrixScp, MatrixWriter

LENGTHS = np.random.default_rng(0).integers(100, 1300, 2000)


def write_feats(folder, lengths):
    with MatrixWriter(f"ark,scp:{folder}/feats.ark,{folder}/feats.scp") as writer:
        for utt_id, length in lengths.items():
            writer.write(utt_id, np.full((length, 2), length, dtype=np.float32))
    return MatrixScp(folder / "feats.scp")


def pdf_ids(**lengths: int) -> dict[str, np.ndarray]:
    return {utt_id: np.arange(length, dtype=np.int32) for utt_id, length in lengths.items()}


def test_an_epoch_holds_every_utterance_once():
    batches = epoch_batches(LENGTHS, 24, seed=1, epoch=1)
    assert sorted(index for batch in batches for index in batch) == list(range(2000))
    assert all(len(batch) <= 24 for batch in batches)


def test_epochs_and_seeds_differ_and_repeat():
    first = epoch_batches(LENGTHS, 24, 1, 1)
    assert first == epoch_batches(LENGTHS, 24, 1, 1)
    assert first != epoch_batches(LENGTHS, 24, 1, 2)
    assert first != epoch_batches(LENGTHS, 24, 2, 1)


def test_padding_is_under_five_percent():
    batches = epoch_batches(LENGTHS, 24, 1, 1)
    padded = sum(len(batch) * LENGTHS[batch].max() for batch in batches)
    assert LENGTHS.sum() / padded > 0.95


def test_batches_come_in_no_order_of_length():
    longest = [LENGTHS[batch].max() for batch in epoch_batches(LENGTHS, 24, 1, 1)]
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.3


def test_evaluation_takes_every_utterance_in_the_order_of_length():
    order = [index for batch in sorted_batches(LENGTHS, 24) for index in batch]
    assert sorted(order) == list(range(2000))
    assert (np.diff(LENGTHS[order]) >= 0).all()


def test_corpus_leaves_out_what_it_must_and_counts_it(tmp_path):
    feats = write_feats(tmp_path, {"a": 5, "b": 9, "c": 3})
    corpus = Corpus(feats, pdf_ids(a=5, b=9), max_frames=8)
    assert corpus.utt_ids == ["a"]
    assert (corpus.skipped.without_alignment, corpus.skipped.too_long) == (1, 1)


def test_lengths_that_differ_name_the_utterance_and_both_numbers(tmp_path):
    feats = write_feats(tmp_path, {"a": 5, "b": 9})
    with pytest.raises(ValueError, match="b: 9 feature frames, 8 aligned pdf-ids"):
        Corpus(feats, pdf_ids(a=5, b=8))


def test_a_corpus_without_a_usable_utterance_says_why(tmp_path):
    feats = write_feats(tmp_path, {"a": 5})
    with pytest.raises(ValueError, match="none of its 1 utterances can be used"):
        Corpus(feats, pdf_ids(b=5))


def test_collate_pads_with_zeros():
    batch = collate(
        [
            ("a", np.ones((2, 2), np.float32), np.array([3, 4], np.int32)),
            ("b", np.ones((1, 2), np.float32), np.array([5], np.int32)),
        ]
    )
    assert batch.lengths.tolist() == [2, 1]
    assert batch.feats[1].tolist() == [[1, 1], [0, 0]]
    assert batch.pdf_ids.tolist() == [[3, 4], [5, 0]]
