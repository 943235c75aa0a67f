"""Decision trees: likelihoods against SciPy's, and a tree grown back from what made its statistics."""

import numpy as np
import pytest
from scipy.stats import norm

pytest.importorskip("kaldi_hmm_gmm", reason="kaldi-hmm-gmm is not installed")

from asr_bn.gmm.tree import (
    ContextStats,
    cluster_questions,
    context_keys,
    grow_tree,
    log_likelihood,
)

SETS = [[1], [2], [3], [4], [5]]  # 1 is silence


def _made(seed: int = 0, num_frames: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Phone 2's middle state depends on whether 3 or 4 stands before it; all else on phone and state."""
    rng = np.random.default_rng(seed)
    keys = rng.integers([2, 2, 2, 0], [6, 6, 6, 3], size=(num_frames, 4)).astype(np.int32)
    means = 8.0 * keys[:, 1] + 2.0 * keys[:, 3]
    means += 1.0 * ((keys[:, 1] == 2) & (keys[:, 3] == 1) & np.isin(keys[:, 0], [3, 4]))
    return keys, (means[:, None] + 0.1 * rng.standard_normal((num_frames, 2))).astype(np.float32)


def test_the_likelihood_is_that_of_a_gaussian_of_its_own() -> None:
    feats = np.random.default_rng(1).normal(3.0, 2.0, size=(500, 4))
    stats = ContextStats.of(np.ones((500, 4), np.int32), feats.astype(np.float32))
    expected = norm(feats.mean(axis=0), feats.std(axis=0)).logpdf(feats).sum()
    assert log_likelihood(stats.moments[0]) == pytest.approx(expected, rel=1e-6)


def test_shards_add_up() -> None:
    keys, feats = _made()
    whole = ContextStats.of(keys, feats)
    parts = ContextStats.merge(
        [
            ContextStats.of(k, f)
            for k, f in ((keys[:7], feats[:7]), (keys[7:], feats[7:]), (keys[:0], feats[:0]))
        ]
    )
    np.testing.assert_array_equal(parts.keys, whole.keys)
    np.testing.assert_allclose(parts.moments, whole.moments, rtol=1e-10)


def test_a_tree_finds_what_made_the_frames() -> None:
    keys, feats = _made()
    stats = ContextStats.of(keys, feats)
    questions = [*map(frozenset, SETS), frozenset({3, 4}), frozenset({2, 5})]
    tree, mixtures = grow_tree(stats, SETS, questions, num_leaves=100)
    # A leaf for each state of four phones, one more for phone 2, and one for silence, which was never met.
    assert len(mixtures) == 4 * 3 + 1 + 1
    for left, phone, right, state in np.unique(keys, axis=0).tolist():
        pdf = tree.pdf_id((left, phone, right), state)
        assert pdf is not None and pdf in tree.possible_pdfs(phone, state)
        mean = 8.0 * phone + 2.0 * state + (phone == 2 and state == 1 and left in (3, 4))
        np.testing.assert_allclose(mixtures[pdf].means[0], mean, atol=0.05)
    assert len(tree.possible_pdfs(2, 1)) == 2 and len(tree.possible_pdfs(2, 0)) == 1


def test_the_number_of_leaves_is_a_limit() -> None:
    keys, feats = _made()
    tree, mixtures = grow_tree(ContextStats.of(keys, feats), SETS, list(map(frozenset, SETS)), num_leaves=8)
    assert len(mixtures) == 8
    pdfs = {tree.pdf_id((2, phone, 2), state) for phone in range(1, 6) for state in range(3)}
    assert pdfs <= set(range(8))


def test_like_phones_are_asked_for_together() -> None:
    rng = np.random.default_rng(0)
    centres = {2: 0.0, 3: 0.5, 4: 10.0, 5: 10.5}
    keys = np.array([(0, phone, 0, 1) for phone in centres for _ in range(200)], np.int32)
    feats = np.array([[centres[key[1]]] for key in keys.tolist()]) + rng.standard_normal((len(keys), 1))
    questions = cluster_questions(ContextStats.of(keys, feats.astype(np.float32)), SETS)
    assert {frozenset({2, 3}), frozenset({4, 5}), frozenset({2, 3, 4, 5})} <= set(questions)
    assert frozenset({3, 4}) not in questions


def test_no_frames_are_one_sentence() -> None:
    none = ContextStats.of(np.zeros((0, 4), np.int32), np.zeros((0, 3), np.float32))
    with pytest.raises(ValueError, match="no utterance is aligned"):
        grow_tree(none, SETS, [], 10)


def test_contexts_by_hand() -> None:
    phones, starts = np.array([1, 3, 2], np.int32), np.array([0, 1, 3])
    keys = context_keys(phones, starts, np.array([0, 0, 1, 0], np.int32), [1])
    assert keys.tolist() == [[0, 1, 0, 0], [1, 3, 2, 0], [1, 3, 2, 1], [3, 2, 0, 0]]
