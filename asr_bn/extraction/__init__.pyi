from .extract import ExtractionSummary as ExtractionSummary
from .extract import extract_features as extract_features
from .request import ExtractionRequest as ExtractionRequest

__all__ = ["ExtractionRequest", "ExtractionSummary", "extract_features"]
