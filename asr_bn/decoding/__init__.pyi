from .build_graph import make_graph
from .graph import DecodingGraph
from .lattices.decoder import Decoded, LatticeDecoder, LatticeOptions
from .search_options import BeamOptions, ScoreWeights
from .word_errors import WordErrors, count_word_errors

__all__ = [
    "BeamOptions",
    "Decoded",
    "DecodingGraph",
    "LatticeDecoder",
    "LatticeOptions",
    "ScoreWeights",
    "WordErrors",
    "count_word_errors",
    "make_graph",
]
