"""How wide a search is, and how its scores are weighed."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class BeamOptions:
    """As Kaldi's: ``beam`` in the units of scaled log likelihoods, ``max_active`` states in a frame."""

    beam: float = 13.0
    max_active: int = 7000

    def __post_init__(self) -> None:
        if not 0 < self.beam < math.inf or self.max_active < 2:
            raise ValueError(
                f"beam {self.beam} and max_active {self.max_active}: expected above 0, and at least 2"
            )


@dataclass(frozen=True)
class ScoreWeights:
    """How scores and graph are weighed, as in Kaldi's ``score.sh``.

    Attributes:
        acoustic_scale: a factor for the log likelihoods (1 / LMWT).
        word_penalty: cost of each word, in the graph's units (``--word-ins-penalty``).
    """

    acoustic_scale: float
    word_penalty: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.acoustic_scale < math.inf:
            raise ValueError(f"acoustic scale {self.acoustic_scale}: expected above 0")
        if not math.isfinite(self.word_penalty):
            raise ValueError(f"word penalty {self.word_penalty}: expected a finite number")
