from .alignments import count_pdfs as count_pdfs
from .alignments import log_priors as log_priors
from .alignments import read_pdf_ids as read_pdf_ids
from .batches import Batch as Batch
from .batches import Corpus as Corpus
from .check import DataReport as DataReport
from .check import check_data as check_data
from .kaldi_system import KaldiSystem as KaldiSystem
from .phones import PhoneTable as PhoneTable

__all__ = [
    "Batch",
    "Corpus",
    "DataReport",
    "KaldiSystem",
    "PhoneTable",
    "check_data",
    "count_pdfs",
    "log_priors",
    "read_pdf_ids",
]
