from .corpus import score_all
from .levels import ScoreColumns
from .metadata import ModelMetadata
from .scorer import AcousticScorer, floor_priors, to_output

__all__ = ["AcousticScorer", "ModelMetadata", "ScoreColumns", "floor_priors", "score_all", "to_output"]
