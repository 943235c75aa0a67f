from .corpus import score_all as score_all
from .metadata import ModelMetadata as ModelMetadata
from .scorer import AcousticScorer as AcousticScorer
from .scorer import floor_priors as floor_priors
from .scorer import to_output as to_output

__all__ = ["AcousticScorer", "ModelMetadata", "floor_priors", "score_all", "to_output"]
