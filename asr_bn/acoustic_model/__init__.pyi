from .data import DataFolders as DataFolders
from .data import RunData as RunData
from .data import load_data as load_data
from .evaluation import evaluate as evaluate
from .experiment import ExperimentConfig as ExperimentConfig
from .experiment import ModelConfig as ModelConfig
from .experiment import TrainingConfig as TrainingConfig
from .model import AcousticModel as AcousticModel
from .model import load_model as load_model
from .run import finish_model as finish_model
from .run import train_model as train_model

__all__ = [
    "AcousticModel",
    "DataFolders",
    "ExperimentConfig",
    "ModelConfig",
    "RunData",
    "TrainingConfig",
    "evaluate",
    "finish_model",
    "load_data",
    "load_model",
    "train_model",
]
