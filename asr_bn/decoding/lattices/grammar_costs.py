"""What a word graph (G) charges for words, state by state, as a decoding graph made of it does."""

import math
from dataclasses import dataclass, field

from asr_bn.decoding.fst_file import FstArrays

# Costs of a state's alternatives that differ less are the same.
_DIGITS = 5
History = tuple[tuple[int, float], ...]
"""States that words lead to, with what each costs more than the cheapest."""


@dataclass
class GrammarCosts:
    """Costs of words after others, of the best path where several accept them.

    Attributes:
        fst: an acceptor of words, as Kaldi's ``G.fst`` and ``asr-bn make-graph`` leave it.
        backoff: the word whose arcs need no word, ``#0``; 0 is another.
    """

    fst: FstArrays
    backoff: int
    _words: dict[int, dict[int, list[tuple[int, float]]]] = field(default_factory=dict)
    _steps: dict[tuple[History, int], tuple[float, History] | None] = field(default_factory=dict)

    def start(self) -> tuple[float, History]:
        """Return the cost and the history before the first word."""
        return self._normalized({self.fst.start: 0.0})

    def step(self, history: History, word: int) -> tuple[float, History] | None:
        """Return the cost of ``word`` and the history after it; None where no path accepts it."""
        key = history, word
        if key not in self._steps:
            found: dict[int, float] = {}
            for state, cost in history:
                for target, its in self._arcs(state).get(word, ()):
                    found[target] = min(found.get(target, math.inf), cost + its)
            self._steps[key] = self._normalized(found) if found else None
        return self._steps[key]

    def final(self, history: History) -> float:
        """Return the cost of ending there, infinite where no path ends."""
        return min(cost + float(self.fst.finals[state]) for state, cost in history)

    def sentence(self, words: list[int] | tuple[int, ...]) -> float:
        """Return the cost of a sentence, infinite where no path accepts it."""
        total, history = self.start()
        for word in words:
            step = self.step(history, word)
            if step is None:
                return math.inf
            total, history = total + step[0], step[1]
        return total + self.final(history)

    def _arcs(self, state: int) -> dict[int, list[tuple[int, float]]]:
        if state not in self._words:
            arcs = self.fst.arcs[self.fst.first_arcs[state] : self.fst.first_arcs[state + 1]]
            by_word: dict[int, list[tuple[int, float]]] = {}
            for word, _, cost, target in arcs.tolist():
                by_word.setdefault(0 if word == self.backoff else word, []).append((target, cost))
            self._words[state] = by_word
        return self._words[state]

    def _normalized(self, found: dict[int, float]) -> tuple[float, History]:
        """Add the states that need no word, and take the cheapest as 0."""
        queue = list(found)
        for state in queue:
            for target, cost in self._arcs(state).get(0, ()):
                if found[state] + cost < found.get(target, math.inf):
                    found[target] = found[state] + cost
                    queue.append(target)
        lowest = min(found.values())
        states = ((state, round(cost - lowest, _DIGITS)) for state, cost in found.items())
        return lowest, tuple(sorted(states))
