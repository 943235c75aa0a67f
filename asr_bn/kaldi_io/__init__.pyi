from .compact_lattice import CompactLattice as CompactLattice
from .context_dependency import ContextDependency as ContextDependency
from .data_dir import DataDir as DataDir
from .data_dir import Utterance as Utterance
from .int_vector_table import read_int_vectors as read_int_vectors
from .int_vector_table import write_int_vectors as write_int_vectors
from .lattice_table import open_lattice_archive as open_lattice_archive
from .lattice_table import read_lattices as read_lattices
from .matrix_table import MatrixScp as MatrixScp
from .matrix_table import MatrixWriter as MatrixWriter
from .matrix_table import read_matrices as read_matrices
from .phone_table import read_phone_names as read_phone_names
from .rxfilename import PipePolicy as PipePolicy
from .transition_model import TransitionModel as TransitionModel

__all__ = [
    "CompactLattice",
    "ContextDependency",
    "DataDir",
    "MatrixScp",
    "MatrixWriter",
    "PipePolicy",
    "TransitionModel",
    "Utterance",
    "open_lattice_archive",
    "read_int_vectors",
    "read_lattices",
    "read_matrices",
    "read_phone_names",
    "write_int_vectors",
]
