from . import audio as audio
from . import decoding as decoding
from . import export as export
from . import features as features
from . import kaldi_io as kaldi_io
from . import layers as layers
from . import scoring as scoring
from .layers.batch_norm import BatchNormLSTM as BatchNormLSTM
from .layers.batch_norm import BatchNormRNN as BatchNormRNN
from .layers.population_estimate import estimate_population_stats as estimate_population_stats
from .scoring.scorer import AcousticScorer as AcousticScorer

__version__: str
__all__ = [
    "AcousticScorer",
    "BatchNormLSTM",
    "BatchNormRNN",
    "audio",
    "decoding",
    "estimate_population_stats",
    "export",
    "features",
    "kaldi_io",
    "layers",
    "scoring",
]
