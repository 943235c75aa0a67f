"""From log likelihoods to a determinized lattice."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr_bn.decoding.fst_file import FstArrays
from asr_bn.decoding.graph import DecodingGraph
from asr_bn.decoding.lattices.arcs import FrameArcs
from asr_bn.decoding.lattices.determinize import determinize
from asr_bn.decoding.lattices.grammar_costs import GrammarCosts
from asr_bn.decoding.lattices.paths import best_paths
from asr_bn.decoding.lattices.rescoring import rescore_lattice
from asr_bn.decoding.lattices.search import LatticeSearch
from asr_bn.decoding.lattices.word_graph import WordGraph
from asr_bn.decoding.search_options import BeamOptions, ScoreWeights
from asr_bn.kaldi_io.compact_lattice import CompactLattice
from asr_bn.system.arrays import Floats

LATTICE_BEAM = 8.0
DEFAULT_SCALE = 0.1


@dataclass(frozen=True)
class LatticeOptions:
    """How lattices are made.

    Attributes:
        acoustic_scale: of the search; other scales are tried on its lattices.
        lattice_beam: how much worse than the best path another may be, in scaled log likelihoods.
    """

    acoustic_scale: float = DEFAULT_SCALE
    lattice_beam: float = LATTICE_BEAM

    def __post_init__(self) -> None:
        if not (0 < self.acoustic_scale < np.inf and 0 < self.lattice_beam < np.inf):
            raise ValueError(
                f"acoustic scale {self.acoustic_scale} and lattice beam {self.lattice_beam}: expected above 0"
            )


@dataclass(frozen=True)
class GrammarFiles:
    """Word graphs of the old and the new language model, and the number of ``#0`` in them."""

    old: Path
    new: Path
    backoff: int

    def load(self) -> tuple[GrammarCosts, GrammarCosts]:
        """Read both; raises as `FstArrays.read`."""
        old, new = (GrammarCosts(FstArrays.read(path), self.backoff) for path in (self.old, self.new))
        return old, new


@dataclass(frozen=True)
class Decoded:
    """What was found in an utterance.

    Attributes:
        lattice: determinized; empty without frames.
        words: of the best path under each of the weights.
        is_complete: a path reached the end of the graph; otherwise the lattice has partial ones.
        is_rescored: False where the new language model accepts no path, so that the old costs stay.
    """

    lattice: CompactLattice
    words: list[tuple[str, ...]]
    is_complete: bool
    is_rescored: bool = True


NO_LATTICE = CompactLattice.of_arcs([], {}, 0)


class LatticeDecoder:
    """Decodes log likelihoods, utterance by utterance.

    Args:
        graph: its input labels are transition-ids, whose scores are those of their pdfs.
        beam: how wide to search.
        options: how lattices are made.
        grammars: for other costs of words than the graph's.
    """

    def __init__(
        self,
        graph: DecodingGraph,
        beam: BeamOptions,
        options: LatticeOptions,
        grammars: tuple[GrammarCosts, GrammarCosts] | None = None,
    ) -> None:
        self._graph, self._options, self._grammars = graph, options, grammars
        self._arcs = FrameArcs.of(graph.arrays)
        self._search = LatticeSearch(self._arcs, graph.model.tid_to_pdf, beam, options.lattice_beam)

    def decode(self, blocks: Iterable[Floats], weights: Sequence[ScoreWeights]) -> Decoded:
        """Decode the consecutive pieces ``[num_frames, num_pdfs]`` of an utterance.

        Raises:
            ValueError: columns that are not the transition model's pdfs, or a value that is not finite.
        """
        beam, is_complete = self._options.lattice_beam, True
        pieces: list[CompactLattice] = []
        for found in self._search.search(map(self._graph.checked, blocks), self._options.acoustic_scale):
            pieces.append(determinize(WordGraph.of(found, self._arcs.chains, beam), beam))
            is_complete = found.is_complete
        if not pieces:
            return Decoded(NO_LATTICE, [()] * len(weights), True)
        lattice = CompactLattice.joined(pieces)
        rescored = lattice if self._grammars is None else rescore_lattice(lattice, *self._grammars)
        kept = rescored if rescored.num_states else lattice
        words = [tuple(self._graph.words[word] for word in path.words) for path in best_paths(kept, weights)]
        return Decoded(kept, words, is_complete, bool(rescored.num_states))
