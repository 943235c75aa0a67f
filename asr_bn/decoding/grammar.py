"""Word graphs (G) from a grammar without recursion."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from asr_bn.decoding.arpa import RESERVED
from asr_bn.decoding.fst_file import Fst, kaldifst
from asr_bn.kaldi_io.plain_text import split_words
from asr_bn.kaldi_io.script_file import read_lines

NOTHING = "-"
_START = "SENTENCE"


@dataclass
class Grammar:
    """Rules: for each name, its alternatives, each a sequence of words and rule names.

    A sentence is an expansion of ``SENTENCE`` in which every alternative of a rule is equally likely.
    """

    rules: dict[str, list[list[str]]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> "Grammar":
        """Read ``NAME = word NAME | - | ...`` lines: names in capitals, ``-`` is nothing, ``#`` a comment.

        Raises:
            OSError: no such file.
            ValueError: a line is not a rule, a name has no rule, or a rule leads back to itself.
        """
        grammar = cls()
        for number, line in read_lines(path):
            if line.startswith("#"):
                continue
            match = re.fullmatch(r"(\S+) = (.*)", line)
            if match is None or not _is_rule(match.group(1)):
                raise ValueError(
                    f"{path}, line {number}: expected 'NAME = alternatives', found {line[:60]!r}"
                )
            grammar.rules[match.group(1)] = [split_words(part) for part in match.group(2).split("|")]
        grammar._check(path, _START, ())
        return grammar

    def words(self) -> set[str]:
        """Collect the words of all rules."""
        symbols = {word for parts in self.rules.values() for part in parts for word in part}
        return {symbol for symbol in symbols if symbol != NOTHING and not _is_rule(symbol)}

    def fst(self, word_ids: Mapping[str, int]) -> Fst:
        """Build a deterministic acceptor, in which a sentence costs its negated log probability.

        Raises:
            ValueError: a word that is not in ``word_ids``.
        """
        missing = sorted(self.words() - (set(word_ids) - set(RESERVED)))
        if missing:
            raise ValueError(
                f"the grammar's word {missing[0]!r} is not in the lexicon ({len(missing)} missing)"
            )
        fst = kaldifst.StdVectorFst()
        end = fst.add_state()
        fst.set_final(end, 0.0)
        fst.start = self._before(fst, _START, end, word_ids, {})
        kaldifst.determinize_star(fst, use_log=True)
        kaldifst.minimize_encoded(fst)
        kaldifst.arcsort(fst, sort_type="ilabel")
        return fst

    def _before(
        self,
        fst: Fst,
        symbol: str,
        target: int,
        word_ids: Mapping[str, int],
        known: dict[tuple[str, int], int],
    ) -> int:
        """Make or find the state from which ``symbol`` leads to ``target``; ``known`` caches states."""
        if symbol == NOTHING:
            return target
        if (symbol, target) in known:
            return known[symbol, target]
        state: int = fst.add_state()
        known[symbol, target] = state
        if not _is_rule(symbol):
            fst.add_arc(state, kaldifst.StdArc(word_ids[symbol], word_ids[symbol], 0.0, target))
            return state
        alternatives = self.rules[symbol]
        for alternative in alternatives:
            first = target
            for part in reversed(alternative):
                first = self._before(fst, part, first, word_ids, known)
            fst.add_arc(state, kaldifst.StdArc(0, 0, math.log(len(alternatives)), first))
        return state

    def _check(self, path: Path, name: str, above: tuple[str, ...]) -> None:
        if name not in self.rules:
            raise ValueError(f"{path}: no rule defines {name}")
        if name in above:
            raise ValueError(f"{path}: the rule {name} leads back to itself, which no finite graph can hold")
        for symbol in {symbol for part in self.rules[name] for symbol in part if _is_rule(symbol)}:
            self._check(path, symbol, (*above, name))


def _is_rule(symbol: str) -> bool:
    return symbol.isupper()
