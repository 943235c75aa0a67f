"""Word graphs (G) from a grammar without recursion."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from asr_bn.decoding.arpa import RESERVED
from asr_bn.decoding.fst_file import Fst, kaldifst
from asr_bn.kaldi_io.plain_text import split_words
from asr_bn.kaldi_io.script_file import read_lines

NOTHING = "-"
_START = "SENTENCE"
_MAX_DEPTH = 100  # Python calls itself for each level
_MAX_STATES = 1 << 18


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
            ValueError: a line is not a rule, a name has two rules or none, or a rule leads back to itself, or
                has others inside it over a hundred deep.
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
            if match.group(1) in grammar.rules:
                raise ValueError(f"{path}, line {number}: {match.group(1)} has a rule already")
            grammar.rules[match.group(1)] = [split_words(part) for part in match.group(2).split("|")]
        grammar._check(path)
        return grammar

    def words(self) -> set[str]:
        """Collect the words of all rules."""
        symbols = {word for parts in self.rules.values() for part in parts for word in part}
        return {symbol for symbol in symbols if symbol != NOTHING and not _is_rule(symbol)}

    def fst(self, word_ids: Mapping[str, int]) -> Fst:
        """Build a deterministic acceptor, in which a sentence costs its negated log probability.

        Raises:
            ValueError: a word that is not in ``word_ids``; sentences too many or too long for a graph.
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
        if state >= _MAX_STATES:
            raise ValueError(f"the grammar needs over {_MAX_STATES} states")
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

    def _check(self, path: Path) -> None:
        """Look at each rule once, after those inside it."""
        graph = {
            name: [symbol for part in parts for symbol in part if _is_rule(symbol)]
            for name, parts in self.rules.items()
        }
        depths: dict[str, int] = {}
        try:
            for name in TopologicalSorter(_reachable(graph, path)).static_order():
                depths[name] = 1 + max((depths[symbol] for symbol in graph[name]), default=0)
        except CycleError as error:
            name = next(name for name in self.rules if name in error.args[1])
            raise ValueError(
                f"{path}: the rule {name} leads back to itself, which no finite graph can hold"
            ) from error
        if depths[_START] > _MAX_DEPTH:
            raise ValueError(f"{path}: rules {depths[_START]} deep, expected {_MAX_DEPTH} at most")


def _reachable(graph: Mapping[str, list[str]], path: Path) -> dict[str, list[str]]:
    found, waiting = dict[str, list[str]](), [_START]
    while waiting:
        name = waiting.pop()
        if name not in graph:
            raise ValueError(f"{path}: no rule defines {name}")
        if name not in found:
            found[name] = graph[name]
            waiting += graph[name]
    return found


def _is_rule(symbol: str) -> bool:
    return symbol.isupper()
