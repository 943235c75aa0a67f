"""Mini-batches: every utterance once an epoch, similar lengths together, the same on every machine."""

import numpy as np
import pytest
import torch

from asr_bn.data.batches import Corpus, collate, epoch_batches, load_batches, sorted_batches
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


def test_lengths_that_are_known_are_believed_where_they_agree_with_the_alignment(tmp_path):
    """``utt2num_frames`` spares reading headers; wrong entries are looked up, or noticed when read."""
    feats = write_feats(tmp_path, {"a": 5, "b": 9})
    (tmp_path / "utt2num_frames").write_text("a 4\nb 8\n")
    corpus = Corpus.load(tmp_path, pdf_ids(a=5, b=8), None)
    assert corpus.num_frames.tolist() == [5, 8]
    with pytest.raises(ValueError, match=r"b: .*feats\.ark:\d+: 9 feature frames, 8 aligned pdf-ids"):
        corpus[1]
    (tmp_path / "utt2num_frames").write_text("a many\n")
    with pytest.raises(ValueError, match=r"a: .*utt2num_frames: expected a number of frames, found 'many'"):
        Corpus.load(tmp_path, pdf_ids(a=5), None)
    assert len(feats["b"]) == 9


@pytest.mark.parametrize("largest", [3, 70000])
def test_alignments_come_back_as_they_were(tmp_path, largest):
    feats = write_feats(tmp_path, {"a": 2, "b": 3, "c": 1})
    given = {"a": [1, largest], "b": [0, 2, 1], "c": [2]}
    corpus = Corpus(feats, {utt_id: np.array(ids, dtype=np.int32) for utt_id, ids in given.items()})
    assert [corpus[index][2].tolist() for index in range(3)] == list(given.values())
    assert corpus.pdf_ids(1).dtype == np.int32


@pytest.mark.parametrize("budget", [4000, 20000])
def test_a_budget_of_frames_is_kept_and_used(budget):
    batches = epoch_batches(LENGTHS, 24, 1, 1, budget)
    assert sorted(index for batch in batches for index in batch) == list(range(2000))
    padded = np.array([len(batch) * LENGTHS[batch].max() for batch in batches])
    assert padded.max() <= budget
    assert LENGTHS.sum() / padded.sum() > 0.95
    # Another utterance as long as the longest would not have fitted, but at the ends of the pools.
    assert np.median(padded + [LENGTHS[batch].max() for batch in batches]) > budget
    assert batches == epoch_batches(LENGTHS, 24, 1, 1, budget)


def test_an_utterance_over_the_budget_is_a_batch_by_itself():
    assert sorted_batches(np.array([7, 30, 3]), 24, 10) == [[2], [0], [1]]
    assert sorted_batches(np.array([5, 30, 3]), 24, 10) == [[2, 0], [1]]


def test_batches_read_ahead_are_those_read_here(tmp_path):
    lengths = {f"u{n}": n + 1 for n in range(9)}
    corpus = Corpus(write_feats(tmp_path, lengths), pdf_ids(**lengths))
    batches = [[0, 3], [], [8, 1, 2], [4]]
    for ahead, here, indices in zip(
        load_batches(corpus, batches, 1), load_batches(corpus, batches), batches, strict=True
    ):
        assert ahead.utt_ids == here.utt_ids == [f"u{index}" for index in indices]
        assert torch.equal(ahead.feats, here.feats)
        assert torch.equal(ahead.pdf_ids, here.pdf_ids)
        assert ahead.lengths.tolist() == [index + 1 for index in indices]


def test_collate_refuses_unlike_dimensions():
    utterances = [
        (name, np.ones((1, dim), np.float32), np.zeros(1, np.int32)) for name, dim in (("a", 2), ("b", 3))
    ]
    with pytest.raises(ValueError, match="b: features of 3 dimensions, those of a have 2"):
        collate(utterances)


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
