"""Texts, one sentence a line, as the numbers of their words or characters."""

from pathlib import Path
from typing import Literal

import numpy as np

from asr_bn.kaldi_io.plain_text import split_words
from asr_bn.kaldi_io.script_file import read_lines
from asr_bn.language_model.streams import Tokens
from asr_bn.language_model.vocabulary import EOS, Vocabulary

Unit = Literal["word", "character"]
SPACE = "_"  # stands for a space in a text of characters, as in Mikolov's ptb.char.*.txt


def read_sentences(path: Path, unit: Unit = "word") -> list[list[str]]:
    """Read the words, or characters, of every line that is not blank, split as Kaldi splits.

    Raises:
        ValueError: a line is not UTF-8, nothing in it, or the end of a sentence among the words.
    """
    return read_named_sentences(path, unit)[1]


def read_named_sentences(
    path: Path, unit: Unit = "word", utt_ids: bool = False
) -> tuple[list[str], list[list[str]]]:
    """Read sentences as :func:`read_sentences`, each with a name: the number of its line, from 1.

    Args:
        path: ``-`` is standard input.
        utt_ids: the first word of a line is its utterance id and the sentence's name, as in Kaldi's
            ``text``; a line that has no more is a sentence without words.
    """
    source = "-" if str(path) == "-" else path
    lines = [(number, split_words(line)) for number, line in read_lines(source)]
    if not lines:
        raise ValueError(f"{path}: holds no text, expected one sentence a line")
    for number, words in lines:
        if EOS in words:
            raise ValueError(
                f"{path}, line {number}: holds {EOS}, which follows every line by itself; leave it out"
            )
    names = [words[0] if utt_ids else str(number) for number, words in lines]
    sentences = [words[1:] if utt_ids else words for _, words in lines]
    return names, sentences if unit == "word" else [list(SPACE.join(words)) for words in sentences]


def encode_sentences(sentences: list[list[str]], vocabulary: Vocabulary, path: Path) -> Tokens:
    """Number the words of all sentences, each with the end of sentence after it; shape ``[num_tokens]``.

    Raises:
        ValueError: a word that is not in the vocabulary (see :meth:`Vocabulary.encode`).
    """
    lines = enumerate(sentences, start=1)
    return np.concatenate([vocabulary.encode(words, f"{path}, sentence {line}") for line, words in lines])
