"""Texts as numbers, streams and windows: small cases by hand, properties, and what is refused."""

import io
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from asr_bn.language_model.streams import Streams
from asr_bn.language_model.text import encode_sentences, read_named_sentences, read_sentences
from asr_bn.language_model.vocabulary import Vocabulary
from asr_bn.language_model.windows import TextWindows


def test_words_are_numbered_by_frequency_after_the_end_of_sentence():
    vocabulary = Vocabulary.of([["b", "a", "c"], ["c", "a"], ["c"]])
    assert vocabulary.words == ("</s>", "c", "a", "b")
    assert list(vocabulary.encode(["a", "b"], "x")) == [2, 3, 0]


def test_ties_in_frequency_are_broken_by_alphabet():
    assert Vocabulary.of([["z", "a", "m"]]).words == ("</s>", "a", "m", "z")


def test_an_unknown_word_takes_unk_or_is_named():
    assert list(Vocabulary(("</s>", "a", "<unk>")).encode(["a", "zebra"], "x")) == [1, 2, 0]
    with pytest.raises(ValueError, match=r"dev, sentence 3: 'zebra' is not among the 2 words .* no <unk>"):
        list(Vocabulary(("</s>", "a")).encode(["a", "zebra"], "dev, sentence 3"))


def test_sentences_are_lines_and_blank_lines_are_none(tmp_path):
    path = tmp_path / "text"
    path.write_text("a  b\n\n \nc\r\n")
    assert read_sentences(path) == [["a", "b"], ["c"]]
    vocabulary = Vocabulary(("</s>", "a", "b", "c"))
    assert encode_sentences(read_sentences(path), vocabulary, path).tolist() == [1, 2, 0, 3, 0]


def test_characters_have_a_sign_for_the_space(tmp_path):
    path = tmp_path / "text"
    path.write_text("ab c\nd\n")
    assert read_sentences(path, "character") == [["a", "b", "_", "c"], ["d"]]


def test_names_are_lines_or_utterance_ids(tmp_path):
    path = tmp_path / "text"
    path.write_text("u1 a b\n\nu2\n")
    assert read_named_sentences(path) == (["1", "3"], [["u1", "a", "b"], ["u2"]])
    assert read_named_sentences(path, utt_ids=True) == (["u1", "u2"], [["a", "b"], []])
    assert read_named_sentences(path, "character", utt_ids=True) == (["u1", "u2"], [["a", "_", "b"], []])


@pytest.mark.parametrize("mark", ["\u2028", "\x85", "\x0c", "\x0b", "\x1c", "\xa0", "\u3000", "\r"])
def test_sentences_end_at_line_feeds_only(mark, tmp_path):
    path = tmp_path / "text"
    path.write_bytes(f"u1 a b{mark}c d\nu2 e\n".encode())
    names, sentences = read_named_sentences(path, utt_ids=True)
    assert names == ["u1", "u2"]
    assert sentences[0] == (["a", "b", "c", "d"] if mark in "\x0c\x0b\r" else ["a", f"b{mark}c", "d"])
    path.write_bytes(f"a{mark}b\n".encode())
    if mark not in "\x0c\x0b\r":
        assert Vocabulary.read(path).words == ("</s>", f"a{mark}b")


def test_a_vocabulary_of_nothing_is_none(tmp_path):
    (tmp_path / "words").write_text("\n</s>\n")
    with pytest.raises(ValueError, match="words: no words in it"):
        Vocabulary.read(tmp_path / "words")


def test_standard_input(monkeypatch):
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO("é b\n".encode())))
    assert read_sentences(Path("-")) == [["é", "b"]]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "text: holds no text, expected one sentence a line"),
        (b"\n  \n", "text: holds no text"),
        (b"a\xff\n", r"text, line 1: not UTF-8"),
        (b"a\nb </s>\n", "text, line 2: holds </s>, which follows every line by itself"),
    ],
)
def test_texts_that_are_none_are_named(tmp_path, data, message):
    path = tmp_path / "text"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message):
        read_sentences(path)


def test_a_vocabulary_file_has_a_word_a_line(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("b\na\n")
    assert Vocabulary.read(path).words == ("</s>", "b", "a")
    path.write_text("b\na\nb\n")
    with pytest.raises(ValueError, match=r"words\.txt, line 3: 'b', expected one word that is not there yet"):
        Vocabulary.read(path)


def test_seven_tokens_in_three_streams_and_windows_of_two_by_hand():
    """1 2 3 | 4 5 | 6 7: each stream starts with the last token of the one before it."""
    windows = list(TextWindows(np.arange(1, 8), 3, 2, "x").windows())
    assert [w.batch_sizes.tolist() for w in windows] == [[3, 3], [1]]
    assert [w.targets.tolist() for w in windows] == [[1, 4, 6, 2, 5, 7], [3]]
    assert [w.tokens.tolist() for w in windows] == [[0, 3, 5, 1, 4, 6], [2]]


@pytest.mark.parametrize("num_tokens", [5, 20, 23, 24, 61])
@pytest.mark.parametrize("num_steps", [1, 4, 100])
def test_every_token_is_predicted_once_from_the_one_before_it(num_tokens, num_steps):
    text = np.arange(1, num_tokens + 1)
    windows = TextWindows(text, 5, num_steps, "x")
    pairs = [
        pair
        for window in windows.windows()
        for pair in zip(window.tokens.tolist(), window.targets.tolist(), strict=True)
    ]
    assert Counter(pairs) == Counter((token - 1, token) for token in text.tolist())
    sizes = [size for window in windows.windows() for size in window.batch_sizes.tolist()]
    assert sum(sizes) == num_tokens
    assert set(sizes[:-1]) <= {5}
    assert len(list(windows.windows())) == len(windows)
    assert all(len(window.batch_sizes) == num_steps for window in list(windows.windows())[:-1])


def test_windows_from_a_later_one_on_are_the_rest():
    windows = TextWindows(np.arange(1, 30), 3, 4, "x")
    rest, all_of_them = list(windows.windows(2)), list(windows.windows())
    assert [w.targets.tolist() for w in rest] == [w.targets.tolist() for w in all_of_them[2:]]


@pytest.mark.parametrize("num_tokens", [5, 6, 9, 10])
def test_values_of_streams_come_back_in_the_order_of_the_text(num_tokens):
    streams = Streams.of(np.arange(1, num_tokens + 1), 5, "x")
    assert streams.in_text_order(streams.targets).tolist() == list(range(1, num_tokens + 1))
    assert streams.in_text_order(streams.tokens).tolist() == list(range(num_tokens))


def test_a_text_shorter_than_its_streams_is_named():
    with pytest.raises(ValueError, match=r"train\.txt: has 2 tokens, expected .* each of 3 streams"):
        TextWindows(np.array([1, 0]), 3, 2, "train.txt")
