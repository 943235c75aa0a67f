"""Pronunciations: hand-computed alignments of phones to words."""

import pytest

from recipes.mini.lexicon import align_sequences, build_lexicon, split_at_words
from recipes.mini.phones import SILENCE, all_phones, phone_of


@pytest.mark.parametrize(
    ("first", "second", "pairs"),
    [
        ("T EH N", "T EH N", [(0, 0), (1, 1), (2, 2)]),
        ("T EH N", "T AX N", [(0, 0), (1, 1), (2, 2)]),
        ("T N", "T AX N", [(0, 0), (None, 1), (1, 2)]),
        ("DH IH Y AE", "DH AX AE", [(0, 0), (1, 1), (2, None), (3, 2)]),
        ("", "T", [(None, 0)]),
    ],
)
def test_align_sequences(first: str, second: str, pairs: list[tuple[int | None, int | None]]) -> None:
    assert align_sequences(first.split(), second.split()) == pairs


def test_split_at_words_gives_each_word_what_was_said_for_it() -> None:
    expected = [("DH", "AX"), ("AE", "P", "EL"), ("IH", "Z")]
    said = ["DH", "IH", "Y", "AE", "P", "EL", "Z"]
    assert split_at_words(said, expected) == [("DH", "IH", "Y"), ("AE", "P", "EL"), ("Z",)]


def test_the_lexicon_keeps_what_is_heard_often_enough() -> None:
    alone = {"the": ("DH", "AX"), "apple": ("AE", "P", "EL")}
    before_vowel = (["the", "apple"], ("DH", "IH", "AE", "P", "EL"), alone)
    once = (["apple"], ("AE", "P"), alone)
    lexicon = build_lexicon([alone], [before_vowel] * 3 + [once])
    # Alone counts once; "AE P" was heard only once and does not enter.
    assert lexicon.entries() == [
        ("apple", 1.0, ("AE", "P", "EL")),
        ("the", 1 / 3, ("DH", "AX")),
        ("the", 1.0, ("DH", "IH")),
    ]


def test_phones_of_mnemonics() -> None:
    assert [phone_of(name, "en-us") for name in ["t", "'3:", "@2", "t#", ",aI", "_:", ""]] == [
        "T", "ER", "AX", "DX", "AY", SILENCE, SILENCE,
    ]  # fmt: skip
    assert (phone_of("'aa", "en-us"), phone_of("'aa", "en-gb-x-rp")) == ("AE", "AA")
    with pytest.raises(ValueError, match=r"'x' of en-us has no phone"):
        phone_of("x", "en-us")
    assert all_phones()[0] == SILENCE and len(set(all_phones())) == len(all_phones())
