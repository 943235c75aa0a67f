"""N-best lists under a language model that scores whole sentences, such as a recurrent one.

With ``lm_scale`` 1 the model's costs replace those of the graph's grammar, with 0.5 both are averaged.  Where
that grammar is not known, the costs are added to the graph's.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from asr_bn.decoding.lattices.grammar_costs import GrammarCosts
from asr_bn.decoding.lattices.paths import LatticePath, n_best
from asr_bn.decoding.search_options import ScoreWeights
from asr_bn.kaldi_io.compact_lattice import Arc, CompactLattice, Weight
from asr_bn.system.arrays import Doubles

SentenceCosts = Callable[[Sequence[Sequence[str]]], Sequence[float]]
"""Negated log probabilities (natural) of sentences, their ends included."""
# As in Kaldi's rescoring with recurrent networks.
NUM_PATHS = 100


@dataclass(frozen=True)
class RescoredList:
    """The n best paths of an utterance, and what a share 1 of the language model adds to their graph costs.

    Attributes:
        paths: as they were in the lattice.
        change: float64 ``[num_paths]``.
    """

    lattice: CompactLattice
    paths: Sequence[LatticePath]
    change: Doubles

    def best(self, lm_scale: float, weights: ScoreWeights) -> tuple[int, ...]:
        """Return the words of the best path; none without paths."""
        if not self.paths:
            return ()
        graph = np.array([path.graph_cost for path in self.paths])
        acoustic = np.array([path.acoustic_cost for path in self.paths])
        lengths = np.array([len(path.words) for path in self.paths])
        costs = graph + lm_scale * self.change + weights.acoustic_scale * acoustic
        return self.paths[int((costs + weights.word_penalty * lengths).argmin())].words

    def as_lattice(self, lm_scale: float) -> CompactLattice:
        """Put the paths side by side, with their new graph costs."""
        if not self.paths:
            return self.lattice
        arcs: list[Arc] = []
        finals: dict[int, Weight] = {}
        rows, num_states = self.lattice.rows(), 1
        for path, change in zip(self.paths, (lm_scale * self.change).tolist(), strict=True):
            state = 0
            for arc in path.arcs:
                arcs.append((state, num_states, *rows[arc][2:]))
                state, num_states = num_states, num_states + 1
            graph, acoustic, string = self.lattice.finals[rows[path.arcs[-1]][1] if path.arcs else 0]
            finals[state] = graph + change, acoustic, string
        arcs.sort(key=lambda arc: arc[0])
        return CompactLattice.of_arcs(arcs, finals, num_states)


@dataclass(frozen=True)
class NBestRescorer:
    """Rescores lists.

    Attributes:
        costs: of sentences.
        names: of words.
        old: the graph's grammar; None adds the costs to it.
    """

    costs: SentenceCosts
    names: dict[int, str]
    old: GrammarCosts | None

    def rescore(self, lattice: CompactLattice, weights: ScoreWeights) -> RescoredList:
        """Score the best paths under ``weights``.

        Raises:
            ValueError: the language model does not know a word.
        """
        paths = list(n_best(lattice, weights, NUM_PATHS))
        new = self.costs([[self.names[word] for word in path.words] for path in paths])
        old = [0.0 if self.old is None else self.old.sentence(path.words) for path in paths]
        change = np.array(new, dtype=np.float64) - np.array(old)
        if not np.isfinite(change).all():
            raise ValueError("the grammar does not accept words of the lattice: it is not the graph's")
        return RescoredList(lattice, paths, change)
