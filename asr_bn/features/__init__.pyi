from .cmvn import Cmvn as Cmvn
from .cmvn import apply_cmvn as apply_cmvn
from .cmvn import compute_stats as compute_stats
from .cmvn import read_stats as read_stats
from .cmvn import write_stats as write_stats
from .deltas import add_deltas as add_deltas
from .filterbank import fbank as fbank
from .options import FbankOptions as FbankOptions

__all__ = [
    "Cmvn",
    "FbankOptions",
    "add_deltas",
    "apply_cmvn",
    "compute_stats",
    "fbank",
    "read_stats",
    "write_stats",
]
