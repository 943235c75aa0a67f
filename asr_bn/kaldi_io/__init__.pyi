from .context_dependency import ContextDependency as ContextDependency
from .data_dir import DataDir as DataDir
from .data_dir import Utterance as Utterance
from .int_vector_table import read_int_vectors as read_int_vectors
from .int_vector_table import write_int_vectors as write_int_vectors
from .matrix_table import MatrixScp as MatrixScp
from .matrix_table import MatrixWriter as MatrixWriter
from .matrix_table import read_matrices as read_matrices
from .phone_table import read_phone_names as read_phone_names
from .rxfilename import PipePolicy as PipePolicy
from .transition_model import TransitionModel as TransitionModel

__all__ = [
    "ContextDependency",
    "DataDir",
    "MatrixScp",
    "MatrixWriter",
    "PipePolicy",
    "TransitionModel",
    "Utterance",
    "read_int_vectors",
    "read_matrices",
    "read_phone_names",
    "write_int_vectors",
]
