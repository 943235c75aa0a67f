"""The data of a run: the tokens of the three texts, and the vocabulary."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from asr_bn.language_model.experiment import LanguageModelTraining
from asr_bn.language_model.streams import Tokens
from asr_bn.language_model.text import Unit, encode_sentences, read_sentences
from asr_bn.language_model.vocabulary import Vocabulary
from asr_bn.language_model.windows import TextWindows

SETS = ("train", "valid", "test")


@dataclass(frozen=True)
class TextDescription:
    """What checkpoints hold of a run's texts; another text or order of words is another run."""

    words: list[str]
    sha256_of_tokens: dict[str, str]


@dataclass(frozen=True)
class Texts:
    """The tokens of the three sets, and the vocabulary."""

    vocabulary: Vocabulary
    tokens: dict[str, Tokens]
    paths: dict[str, Path]

    @classmethod
    def read(cls, paths: dict[str, Path], unit: Unit, words: Path | None = None) -> "Texts":
        """Read ``paths`` of ``train``, ``valid`` and ``test``.

        Args:
            words: the vocabulary, one word a line; None takes the words of the training text.

        Raises:
            ValueError: an empty file, or a word that the vocabulary lacks where it has no ``<unk>``.
        """
        sentences = {name: read_sentences(paths[name], unit) for name in SETS}
        vocabulary = Vocabulary.of(sentences["train"]) if words is None else Vocabulary.read(words)
        tokens = {name: encode_sentences(sentences[name], vocabulary, paths[name]) for name in SETS}
        return cls(vocabulary, tokens, paths)

    def windows(self, name: str, training: LanguageModelTraining) -> TextWindows:
        """Cut a set into streams and windows as ``training`` says."""
        return TextWindows(self.tokens[name], training.batch_size, training.num_steps, str(self.paths[name]))

    @property
    def description(self) -> TextDescription:
        """What checkpoints hold of the texts."""
        digests = {name: hashlib.sha256(self.tokens[name].tobytes()).hexdigest() for name in SETS}
        return TextDescription(list(self.vocabulary.words), digests)
