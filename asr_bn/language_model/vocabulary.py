"""The words, or characters, that a language model knows."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from asr_bn.kaldi_io.plain_text import split_words
from asr_bn.kaldi_io.script_file import read_lines
from asr_bn.language_model.streams import Tokens

EOS = "</s>"  # the end of a line; a token like any other, predicted and scored
UNK = "<unk>"


@dataclass(frozen=True)
class Vocabulary:
    """Words by number.

    Attributes:
        words: the end of sentence first, then the most frequent word of the training text, and so on.
    """

    words: tuple[str, ...]

    @classmethod
    def of(cls, sentences: Iterable[list[str]]) -> "Vocabulary":
        """Collect the words of a training text; equally frequent ones are sorted by alphabet."""
        counts = Counter(word for sentence in sentences for word in sentence)
        return cls((EOS, *sorted(counts, key=lambda word: (-counts[word], word))))

    @classmethod
    def read(cls, path: Path) -> "Vocabulary":
        """Read the words of a file, one a line; the end of sentence is put first where it is missing.

        Raises:
            ValueError: a word occurs twice, a line has more than one, or there is none.
        """
        words: dict[str, None] = {EOS: None}
        for number, word in read_lines(path):
            if split_words(word) != [word] or (word in words and word != EOS):
                raise ValueError(f"{path}, line {number}: {word!r}, expected one word that is not there yet")
            words[word] = None
        if len(words) == 1:
            raise ValueError(f"{path}: no words in it, expected one a line")
        return cls(tuple(words))

    def __len__(self) -> int:
        return len(self.words)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words)}

    def encode(self, words: Iterable[str], where: str) -> Tokens:
        """Number the words of a line, and the end of sentence after them; shape ``[num_tokens]``.

        Args:
            where: file and line, for the message.

        Raises:
            ValueError: a word is not in the vocabulary, and the vocabulary has no ``<unk>``.
        """
        unknown, numbers = self._numbers.get(UNK), list[int]()
        for word in words:
            number = self._numbers.get(word, unknown)
            if number is None:
                raise ValueError(
                    f"{where}: {word!r} is not among the {len(self)} words of the training text, "
                    f"which has no {UNK} to stand for it"
                )
            numbers.append(number)
        return np.array([*numbers, self._numbers[EOS]], dtype=np.int64)
