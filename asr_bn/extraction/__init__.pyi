from .computation import ExtractionOptions as ExtractionOptions
from .extract import ExtractionSummary as ExtractionSummary
from .extract import extract_features as extract_features
from .request import ExtractionRequest as ExtractionRequest

__all__ = ["ExtractionOptions", "ExtractionRequest", "ExtractionSummary", "extract_features"]
