from .data import Texts as Texts
from .evaluation import evaluate as evaluate
from .experiment import LanguageModelConfig as LanguageModelConfig
from .experiment import LanguageModelExperiment as LanguageModelExperiment
from .experiment import LanguageModelTraining as LanguageModelTraining
from .model import LanguageModel as LanguageModel
from .model import load_model as load_model
from .onnx_export import export_language_model as export_language_model
from .run import finish_model as finish_model
from .run import train_model as train_model
from .scoring import LanguageScorer as LanguageScorer
from .scoring import TextScore as TextScore
from .text import read_sentences as read_sentences
from .vocabulary import Vocabulary as Vocabulary

__all__ = [
    "LanguageModel",
    "LanguageModelConfig",
    "LanguageModelExperiment",
    "LanguageModelTraining",
    "LanguageScorer",
    "TextScore",
    "Texts",
    "Vocabulary",
    "evaluate",
    "export_language_model",
    "finish_model",
    "load_model",
    "read_sentences",
    "train_model",
]
