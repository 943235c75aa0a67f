from .corpus import score_all
from .metadata import ModelMetadata
from .scorer import AcousticScorer, floor_priors, to_output

__all__ = ["AcousticScorer", "ModelMetadata", "floor_priors", "score_all", "to_output"]
