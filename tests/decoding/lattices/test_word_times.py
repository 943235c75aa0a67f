"""Times of words in alignments that Kaldi made, and in cases worked out by hand."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from asr_bn.decoding.hmms import Hmms
from asr_bn.decoding.lattices.align_lexicon import AlignLexicon
from asr_bn.decoding.lattices.word_times import WordTimes
from asr_bn.decoding.lexicon_fst import Lexicon
from asr_bn.kaldi_io.int_vector_table import read_int_vectors
from asr_bn.kaldi_io.transition_model import TransitionModel
from tests.helpers.graphs import lexicon_dir
from tests.helpers.kaldi_fixtures import FSDD, SYNTHETIC, needs_fsdd

# Transition-ids 1 and 2 are of phone 1, into it and staying; 3 and 4 of phone 2; 5 and 6 of phone 3, silence.
SMALL = WordTimes(
    AlignLexicon({0: [(3,)], 7: [(1, 2)], 8: [(1,), (2, 2)]}),
    np.array([False, True, False, True, False, True, False]),
    np.array([0, 1, 1, 2, 2, 3, 3], dtype=np.int32),
)


def frames(ids: list[int], words: list[int]) -> list[tuple[int, int]] | None:
    return SMALL.frames(np.array(ids, dtype=np.int32), words)


def test_words_and_silences_of_a_hand_worked_case() -> None:
    assert frames([5, 6, 1, 2, 2, 3, 5, 1], [7, 8]) == [(2, 6), (7, 8)]
    assert frames([3, 4, 3, 1, 3], [8, 7]) == [(0, 3), (3, 5)]
    assert frames([5, 5], []) == []


def test_other_phones_than_the_words_have_no_times() -> None:
    assert frames([3, 4, 1], [7]) is None
    assert frames([1, 3], [7, 8]) is None


def test_a_last_word_may_be_cut_off() -> None:
    assert frames([1, 3, 5, 3], [7, 8]) == [(0, 2), (3, 4)]


def test_words_of_kaldis_best_paths_have_their_pronunciations(tmp_path: Path) -> None:
    lexicon = Lexicon.read(lexicon_dir(tmp_path / "dict"), SYNTHETIC / "ali/phones.txt")
    ids = lexicon.word_ids()
    times = WordTimes.of(lexicon.align_lexicon(ids), Hmms.read(SYNTHETIC / "ali/final.mdl"))
    model = TransitionModel.read(SYNTHETIC / "ali/final.mdl")
    said = {(word, phones) for word, _, phones in lexicon.entries}
    names = {number: phone for phone, number in lexicon.phone_ids.items()}
    words, ids_of = (
        read_lines(SYNTHETIC / f"oracles/decode/acwt0.1.{kind}.txt") for kind in ("words", "tid")
    )
    for utt_id, spoken in words.items():
        alignment = np.array(ids_of[utt_id], dtype=np.int32)
        spans = times.frames(alignment, [ids[word] for word in spoken])
        assert spans is not None and len(spans) == len(spoken) == 3
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
        for word, (start, end) in zip(spoken, spans, strict=True):
            begins = start + np.flatnonzero(times.begins[alignment[start:end]])
            phones = tuple(names[model.tid_to_phone[alignment[frame]]] for frame in begins)
            assert (word, phones) in said


@needs_fsdd
def test_kaldis_align_lexicon_finds_the_words_of_its_alignments() -> None:
    folder = FSDD / "exp/tri4b_ali_dev"
    lexicon = AlignLexicon.read(FSDD / "exp/tri4b/graph/phones/align_lexicon.int")
    times = WordTimes.of(lexicon, Hmms.read(folder / "final.mdl"))
    lines = (FSDD / "exp/tri4b/graph/words.txt").read_text().splitlines()
    ids = {name: int(number) for name, number in map(str.split, lines)}
    texts = {line.split()[0]: line.split()[1:] for line in (FSDD / "data/dev/text").read_text().splitlines()}
    for utt_id, alignment in read_int_vectors(sorted(folder.glob("ali.*"))[0]):
        assert times.frames(alignment, [ids[word] for word in texts[utt_id]]) is not None, utt_id


def test_an_align_lexicon_is_read_back_and_bad_lines_are_named(tmp_path: Path) -> None:
    SMALL.lexicon.write(tmp_path / "phones/align_lexicon.int")
    assert AlignLexicon.read(tmp_path / "phones/align_lexicon.int") == SMALL.lexicon
    (tmp_path / "bad.int").write_text("0 0 3\n7 7\n")
    with pytest.raises(ValueError, match=r"bad\.int, line 2: '7 7', expected two words and phones"):
        AlignLexicon.read(tmp_path / "bad.int")
    (tmp_path / "bad.int").write_text("a a 3\n")
    with pytest.raises(ValueError, match=r"bad\.int, line 1: "):
        AlignLexicon.read(tmp_path / "bad.int")


def read_lines(path: Path) -> dict[str, list[str]]:
    return {line.split()[0]: line.split()[1:] for line in path.read_text().splitlines()}
