from .beam_search import BeamOptions, BeamSearch, Hypothesis, ScoreWeights
from .build_graph import make_graph
from .graph import DecodingGraph
from .lattices.decoder import Decoded, LatticeDecoder, LatticeOptions
from .word_errors import WordErrors, count_word_errors

__all__ = [
    "BeamOptions",
    "BeamSearch",
    "Decoded",
    "DecodingGraph",
    "Hypothesis",
    "LatticeDecoder",
    "LatticeOptions",
    "ScoreWeights",
    "WordErrors",
    "count_word_errors",
    "make_graph",
]
