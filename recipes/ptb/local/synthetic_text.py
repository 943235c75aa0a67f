"""A text of known entropy for those who have no Penn Treebank: a Markov source with Zipfian words.

Every word belongs to one class, every class has words of Zipfian frequencies: as in a language, a few closed
classes share the frequent words, a few open ones the many rare words.  A sentence is of one of a few kinds,
which its opening word tells; the class of each word after it is drawn given the class before *and the kind of
the sentence*, until the sentence ends.  All this can be seen in the words so far, so that the entropy rate is
exact: no model can do better, and one that forgets the opening word does worse.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr

from asr_bn.language_model.vocabulary import EOS
from asr_bn.system.arrays import Doubles
from asr_bn.system.files import write_text

NUM_WORDS = 9_999  # with the end of the sentence 10,000 types, as many as the Penn Treebank has
NUM_KINDS = 4  # of sentences
NUM_CLOSED, NUM_OPEN = 12, 4  # classes of the words after the first
NUM_CLASSES = NUM_CLOSED + NUM_OPEN
NUM_FREQUENT = 300  # words, those of the openings and of the closed classes
SUCCESSORS = 2  # closed classes that can follow a class in a kind of sentence, beside one open class
OPEN = 0.25  # probability of the open one
END = 0.05  # probability that a sentence ends after a word
NUM_TOKENS = {"train": 800_000, "valid": 20_000, "test": 20_000}


@dataclass(frozen=True)
class Source:
    """The source; its states are the end of a sentence, the opening of each kind, and each kind's classes.

    Attributes:
        transitions: probability of the next state given the state, shape ``[states, states]``.
        word_classes: the class of every state's words, shape ``[states]``; the end has class 0.
        words: of each class, in order of frequency.
        frequencies: of the words of each class, each summing to 1.
    """

    transitions: Doubles
    word_classes: NDArray[np.int64]
    words: list[list[str]]
    frequencies: list[Doubles]

    @classmethod
    def make(cls, seed: int) -> "Source":
        """Make a source of its own for every seed."""
        random = np.random.default_rng([seed, 0])
        classes = 1 + NUM_KINDS + NUM_CLASSES
        class_of_rank = random.integers(classes - NUM_OPEN, classes, NUM_WORDS)
        closed = np.arange(1, classes - NUM_OPEN)
        class_of_rank[:NUM_FREQUENT] = random.permutation(np.resize(closed, NUM_FREQUENT))
        words, frequencies = [[EOS]], [np.ones(1)]
        for number in range(1, classes):
            ranks = np.flatnonzero(class_of_rank == number)
            weights = 1.0 / (ranks + 2.7)  # Zipf and Mandelbrot
            words.append([f"w{rank + 1}" for rank in ranks])
            frequencies.append(weights / weights.sum())
        later = np.tile(np.arange(NUM_CLASSES) + 1 + NUM_KINDS, NUM_KINDS)
        word_classes = np.concatenate([np.arange(1 + NUM_KINDS), later])
        return cls(_transitions(random), word_classes, words, frequencies)

    @cached_property
    def stationary(self) -> Doubles:
        """Share of each state among all tokens: the left eigenvector of the transitions."""
        states = len(self.transitions)
        equations = np.vstack([self.transitions.T - np.eye(states), np.ones(states)])
        solution, *_ = np.linalg.lstsq(equations, np.append(np.zeros(states), 1.0))
        return np.asarray(solution)

    @cached_property
    def entropy_rate(self) -> float:
        """Nats a token, ends of sentences included: of the next state, and of the word given the state."""
        of_next = np.array([entr(row).sum() for row in self.transitions])
        of_word = np.array([entr(self.frequencies[number]).sum() for number in self.word_classes])
        return float(self.stationary @ (of_next + of_word))

    @property
    def floor(self) -> float:
        """The perplexity that no model can go below on unseen text."""
        return math.exp(self.entropy_rate)

    def sentences(self, num_tokens: int, seed: int) -> list[str]:
        """Draw whole sentences with at least ``num_tokens`` tokens, ends of sentences counted."""
        random = np.random.default_rng([seed, 1])
        steps = [np.cumsum(row) for row in self.transitions]
        choices = [np.cumsum(frequencies) for frequencies in self.frequencies]
        lines: list[str] = []
        line: list[str] = []
        state = tokens = 0
        while tokens < num_tokens or state != 0:
            # A sum that rounds to less than 1 must not point past the end.
            state = min(int(np.searchsorted(steps[state], random.random(), side="right")), len(steps) - 1)
            tokens += 1
            if state == 0:
                lines.append(" ".join(line))
                line = []
                continue
            number = self.word_classes[state]
            drawn = int(np.searchsorted(choices[number], random.random(), side="right"))
            line.append(self.words[number][min(drawn, len(self.words[number]) - 1)])
        return lines


def write_texts(folder: Path, source: Source, seed: int) -> None:
    """Write ``words.txt``, the whole vocabulary, and ``train.txt``, ``valid.txt``, ``test.txt`` last."""
    vocabulary = [word for words in source.words for word in words]
    write_text(folder / "words.txt", "".join(f"{word}\n" for word in vocabulary))
    for number, (name, num_tokens) in enumerate(NUM_TOKENS.items()):
        lines = source.sentences(num_tokens, 3 * seed + number)
        write_text(folder / f"{name}.txt", "".join(f"{line}\n" for line in lines))


def _transitions(random: np.random.Generator) -> Doubles:
    states = 1 + NUM_KINDS + NUM_KINDS * NUM_CLASSES
    transitions = np.zeros((states, states))
    transitions[0, 1 : 1 + NUM_KINDS] = 1.0 / NUM_KINDS
    for kind in range(NUM_KINDS):
        first = 1 + NUM_KINDS + kind * NUM_CLASSES
        for state in (1 + kind, *range(first, first + NUM_CLASSES)):
            ends = END if state >= first else 0.0
            closed = first + random.choice(NUM_CLOSED, SUCCESSORS, replace=False)
            shares = random.dirichlet(np.ones(SUCCESSORS))
            transitions[state, closed] = (1.0 - ends) * (1.0 - OPEN) * shares
            transitions[state, first + NUM_CLOSED + random.integers(NUM_OPEN)] = (1.0 - ends) * OPEN
            transitions[state, 0] = ends
    return transitions
