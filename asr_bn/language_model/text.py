"""Texts, one sentence a line, as the numbers of their words or characters."""

import sys
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from asr_bn.language_model.vocabulary import EOS, Vocabulary

Unit = Literal["word", "character"]
SPACE = "_"  # stands for a space in a text of characters, as in Mikolov's ptb.char.*.txt


def read_sentences(path: Path, unit: Unit = "word") -> list[list[str]]:
    """The words, or characters, of every line that is not blank.

    Raises:
        ValueError: not UTF-8, nothing in it, or the end of a sentence among the words.
    """
    return read_named_sentences(path, unit)[1]


def read_named_sentences(
    path: Path, unit: Unit = "word", utt_ids: bool = False
) -> tuple[list[str], list[list[str]]]:
    """As :func:`read_sentences`, with a name for each sentence: the number of its line, from 1.

    Args:
        path: ``-`` is standard input.
        utt_ids: the first word of a line is its utterance id and the sentence's name, as in Kaldi's
            ``text``; a line that has no more is a sentence without words.
    """
    lines = [(number, line.split()) for number, line in enumerate(_read_lines(path), start=1)]
    lines = [(number, words) for number, words in lines if words]
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


def _read_lines(path: Path) -> list[str]:
    data = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    try:
        return data.decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error


def encode_sentences(sentences: list[list[str]], vocabulary: Vocabulary, path: Path) -> NDArray[np.int64]:
    """All sentences in a row, each with the end of sentence after it; shape ``[num_tokens]``.

    Raises:
        ValueError: a word that is not in the vocabulary (see :meth:`Vocabulary.encode`).
    """
    return np.fromiter(
        (
            number
            for line, words in enumerate(sentences, start=1)
            for number in vocabulary.encode(words, f"{path}, sentence {line}")
        ),
        dtype=np.int64,
    )
