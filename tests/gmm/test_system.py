"""Phones, sizes and transition models against ``kaldi-hmm-gmm`` and the files of ``prepare_lang.sh``."""

from pathlib import Path

import numpy as np
import pytest

khg = pytest.importorskip("kaldi_hmm_gmm", reason="kaldi-hmm-gmm is not installed")

from asr_bn.gmm.mono import FlatStart  # noqa: E402
from asr_bn.gmm.phone_sets import PhoneSets  # noqa: E402
from asr_bn.gmm.system import GmmOptions  # noqa: E402
from asr_bn.kaldi_io.plain_text import parse_ints  # noqa: E402
from tests.helpers.kaldi_fixtures import FSDD, needs_fsdd  # noqa: E402
from tests.helpers.tone_corpus import write_dict  # noqa: E402


def _start(sets: PhoneSets) -> FlatStart:
    feats = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32)
    return FlatStart.of(sets, {"a": feats})


def test_transition_ids_and_probabilities_are_kaldis(tmp_path: Path) -> None:
    write_dict(tmp_path / "dict")
    start = _start(PhoneSets.read(tmp_path / "dict"))
    ours, theirs = start.system.transitions, start.transition_model
    assert ours.tid_to_pdf()[1:].tolist() == list(theirs.transition_id_to_pdf_array())[1:]
    np.testing.assert_allclose(ours.log_probs[1:], np.array(theirs.log_probs)[1:], rtol=1e-6)
    # Of some states nothing, of some too little, of some one transition only.
    rng = np.random.default_rng(1)
    counts = rng.choice([0.0, 1.0, 7.0, 900.0], size=len(ours.log_probs))
    counts[0] = 0
    theirs.mle_update(counts, khg.MleTransitionUpdateConfig())
    updated = ours.update(counts).log_probs
    np.testing.assert_allclose(updated[1:], np.array(theirs.log_probs)[1:], rtol=1e-5, atol=1e-6)


def test_phones_of_a_dictionary_by_hand(tmp_path: Path) -> None:
    write_dict(tmp_path / "dict")
    (tmp_path / "dict/nonsilence_phones.txt").write_text("T\nA E\nI\nM\nS\n")
    (tmp_path / "dict/extra_questions.txt").write_text("M S\n")
    sets = PhoneSets.read(tmp_path / "dict")
    assert sets.phone_ids == {"SIL": 1, "T": 2, "A": 3, "E": 4, "I": 5, "M": 6, "S": 7}
    assert sets.sets == [[1], [2], [3, 4], [5], [6], [7]] and sets.silences == [1]
    assert sets.questions == [frozenset({6, 7})] and sets.speech == [2, 3, 4, 5, 6, 7]
    assert sets.phones_txt(tmp_path / "dict").startswith("<eps> 0\nSIL 1\nT 2\n")
    start = _start(sets)  # phones of one line share their pdfs
    assert start.system.tree.possible_pdfs(3, 0) == start.system.tree.possible_pdfs(4, 0)
    assert len(start.system.mixtures) == 5 + 5 * 3


def test_phones_of_a_lexicon_file(tmp_path: Path) -> None:
    write_dict(tmp_path / "dict")
    sets = PhoneSets.read(tmp_path / "dict/lexicon.txt", "SIL")
    assert list(sets.phone_ids) == ["SIL", "A", "E", "I", "M", "S", "T"] and sets.silences == [1]


@needs_fsdd
def test_phones_of_a_lang_folder_are_prepare_langs() -> None:
    sets, folder = PhoneSets.read(FSDD / "data/lang"), FSDD / "data/lang/phones"
    lines = (folder / "sets.int").read_bytes().splitlines()
    assert sorted(map(parse_ints, lines)) == [list(phones) for phones in sets.sets]
    assert sorted(parse_ints((folder / "silence.int").read_bytes())) == list(sets.silences)
    assert len(sets.questions) == len((folder / "extra_questions.int").read_bytes().splitlines())
    assert _start(sets).system.tree.possible_pdfs(sets.sets[0][0], 0) == {0}


def test_sizes_are_in_proportion() -> None:
    five_hours = 5 * 3600 * 100
    tri = GmmOptions.scaled("tri1", five_hours, 40)
    assert (tri.num_leaves, tri.num_gauss, tri.num_iters, tri.max_iter_inc) == (2000, 10_000, 35, 25)
    assert GmmOptions.scaled("mono", five_hours, 40).num_gauss == 1000
    small = GmmOptions.scaled("tri1", 18_000, 40)
    assert (small.num_leaves, small.num_gauss) == (160, 100)
    mine = GmmOptions.scaled("lda-mllt", five_hours, 40, num_leaves=7, num_gauss=8, num_iters=4)
    assert (mine.num_leaves, mine.num_gauss, mine.num_iters, mine.max_iter_inc) == (7, 8, 4, 3)
