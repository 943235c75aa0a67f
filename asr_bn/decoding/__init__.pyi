from .beam_search import BeamOptions as BeamOptions
from .beam_search import BeamSearch as BeamSearch
from .beam_search import Hypothesis as Hypothesis
from .beam_search import ScoreWeights as ScoreWeights
from .build_graph import make_graph as make_graph
from .graph import DecodingGraph as DecodingGraph
from .word_errors import WordErrors as WordErrors
from .word_errors import count_word_errors as count_word_errors

__all__ = [
    "BeamOptions",
    "BeamSearch",
    "DecodingGraph",
    "Hypothesis",
    "ScoreWeights",
    "WordErrors",
    "count_word_errors",
    "make_graph",
]
