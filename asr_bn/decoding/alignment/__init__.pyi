from .aligner import Aligner, AlignOptions
from .lexicon import Pronunciations
from .result import AlignedPhone, AlignedUtterance, AlignedWord, FrameTimes

__all__ = [
    "AlignOptions",
    "AlignedPhone",
    "AlignedUtterance",
    "AlignedWord",
    "Aligner",
    "FrameTimes",
    "Pronunciations",
]
