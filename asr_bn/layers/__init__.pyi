from .batch_norm import BatchNormLSTM as BatchNormLSTM
from .batch_norm import BatchNormRNN as BatchNormRNN
from .population_estimate import estimate_population_stats as estimate_population_stats
from .population_stats import PopulationStats as PopulationStats

__all__ = ["BatchNormLSTM", "BatchNormRNN", "PopulationStats", "estimate_population_stats"]
