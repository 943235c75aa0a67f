"""Random sentences from the corpus's grammar (``grammar.txt``)."""

import random
from dataclasses import dataclass
from pathlib import Path

from asr_bn.kaldi_io.plain_text import split_words
from asr_bn.kaldi_io.script_file import read_lines

GRAMMAR_PATH = Path(__file__).with_name("grammar.txt")
EMPTY = "-"


@dataclass(frozen=True)
class Grammar:
    """Rules without recursion: for each name, its alternatives, each a sequence of words and rule names."""

    rules: dict[str, list[list[str]]]

    @classmethod
    def read(cls, path: Path = GRAMMAR_PATH) -> "Grammar":
        """Read ``NAME = alternative | alternative ...`` lines; see the comment in ``grammar.txt``.

        Raises:
            ValueError: a line is not a rule, or a name is used that no rule defines.
        """
        rules: dict[str, list[list[str]]] = {}
        for _, line in read_lines(path, comment=b"#"):
            name, equals, alternatives = line.partition(" = ")
            if not equals or not is_rule_name(name):
                raise ValueError(f"{path}: expected 'NAME = alternatives', got {line!r}")
            rules[name] = [split_words(alternative) for alternative in alternatives.split("|")]
        grammar = cls(rules)
        undefined = {symbol for symbol in grammar.symbols() if is_rule_name(symbol)} - set(rules)
        if undefined:
            raise ValueError(f"{path}: no rule defines {' '.join(sorted(undefined))}")
        return grammar

    def symbols(self) -> set[str]:
        """Return every word and rule name on a right-hand side."""
        return {symbol for alternatives in self.rules.values() for part in alternatives for symbol in part}

    def vocabulary(self) -> list[str]:
        """Return every word, sorted."""
        return sorted(symbol for symbol in self.symbols() if symbol != EMPTY and not is_rule_name(symbol))

    def sentence(self, rng: random.Random, name: str = "SENTENCE") -> list[str]:
        """Return the words of a random expansion of the rule ``name``."""
        words: list[str] = []
        for symbol in rng.choice(self.rules[name]):
            if is_rule_name(symbol):
                words += self.sentence(rng, symbol)
            elif symbol != EMPTY:
                words.append(symbol)
        return words


def is_rule_name(symbol: str) -> bool:
    """Tell a rule name, which is in capitals, from a word."""
    return symbol.isupper()
