"""Texts, one sentence a line, as the numbers of their words or characters."""

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from asr_bn.language_model.vocabulary import Vocabulary

Unit = Literal["word", "character"]
SPACE = "_"  # stands for a space in a text of characters, as in Mikolov's ptb.char.*.txt


def read_sentences(path: Path, unit: Unit = "word") -> list[list[str]]:
    """The words, or characters, of every line that is not blank.

    Raises:
        ValueError: not UTF-8, or nothing in it.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    sentences = [words for words in map(str.split, lines) if words]
    if not sentences:
        raise ValueError(f"{path}: holds no text, expected one sentence a line")
    return sentences if unit == "word" else [list(SPACE.join(words)) for words in sentences]


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
